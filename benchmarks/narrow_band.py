"""Measure what 8 kHz recordings do to identification, and what --max_bandwidth does about it.

python benchmarks/narrow_band.py --data_dir CORPUS --scratch_weights saved_model.bilstm.mean.all.specaug.gpu100000.pt
"""

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from audio import read_audio
from command_line import EXIT_DONE, run
from config import Layout, LogLevel, ScriptConfig
from corpora import Corpus, load_corpus, split
from encoders import lazy_encoder
from features import NARROW_SHARE, FeatureSet, extract, learned_bandwidth
from files import format_table
from heads import create_head, create_scaler

ENCODERS = ("campplus", "scratch", "spectral")
HEADS = ("centroid", "linear", "lda")
# Sampling rate of the copies (Hz).
LOW_RATE = 8_000
SEEDS = 5


@dataclass(frozen=True, kw_only=True)
class NarrowBandBenchmark(ScriptConfig):
    """Settings of the measurement."""

    data_dir: Path
    """Folder of the corpus."""
    scratch_weights: Path
    """Checkpoint for the encoder scratch."""
    layout: Layout = "auto"
    """Layout of the corpus."""
    max_speakers: int = 20
    """Number of speakers that are used, the first ones by name."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def main(config: NarrowBandBenchmark) -> int:
    """Print the table."""
    corpus = load_corpus(config.data_dir, config.layout)
    kept = corpus.speakers[: config.max_speakers]
    corpus = Corpus(tuple(each for each in corpus if each.speaker in kept), corpus.root, corpus.name)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        copies = copy_at_low_rate(corpus, Path(folder) / "copies")
        for encoder in ENCODERS:
            sets = {}
            for limit in (None, LOW_RATE // 2):
                loaded = lazy_encoder(
                    encoder, config.scratch_weights if encoder == "scratch" else None, max_bandwidth=limit
                )
                for name, given in (("wide", corpus), ("narrow", copies)):
                    path = Path(folder) / f"{encoder}_{limit}_{name}.pt"
                    sets[name, limit] = extract(given, loaded, path, progress=False)
            lines += [[encoder, head, *accuracies(sets, head)] for head in HEADS]
            if encoder == ENCODERS[0]:
                print(describe_bandwidths(sets["wide", None], sets["narrow", None]))
    print(f"{len(corpus.speakers)} speakers, {len(corpus)} utterances, {SEEDS} splits; accuracy in percent:")
    header = ["encoder", "head", "16 kHz", "8 kHz", "16 kHz limited", "8 kHz limited"]
    print(format_table(header, lines, "<<>>>>"))
    return EXIT_DONE


def copy_at_low_rate(corpus: Corpus, root: Path) -> Corpus:
    """Write copies of the files with 16 bits at the low rate, and return them as a corpus."""
    copies = []
    for utterance in corpus:
        path = root / utterance.path.relative_to(corpus.root)
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = soxr.resample(read_audio(utterance.path, 16_000).numpy(), 16_000, LOW_RATE)
        soundfile.write(path, samples, LOW_RATE, format="FLAC", subtype="PCM_16")
        copies.append(replace(utterance, path=path, root=root))
    return Corpus(tuple(copies), root, corpus.name)


def describe_bandwidths(wide: FeatureSet, narrow: FeatureSet) -> str:
    """Describe the measured bandwidths, and the files that are flagged as narrower than the wide ones."""
    learned = learned_bandwidth(wide)
    assert learned is not None
    texts = []
    for name, features in (("files", wide), ("copies", narrow)):
        assert features.audio is not None
        widths = features.audio.bandwidth
        flagged = 100 * float((widths < NARROW_SHARE * learned).float().mean())
        texts.append(f"{name}: median {float(widths.nanmedian()):.0f} Hz, {flagged:.1f} % flagged as narrow")
    return f"Bandwidth that was learned: {learned:.0f} Hz; {'; '.join(texts)}"


def accuracies(sets: dict[tuple[str, int | None], FeatureSet], head: str) -> list[str]:
    """Return the accuracies on wide and narrow test files, without and with the limit on training and test."""
    cells = []
    for limit in (None, LOW_RATE // 2):
        train_set = sets["wide", limit]
        labels = train_set.labels.numpy()
        found: dict[str, list[float]] = {"wide": [], "narrow": []}
        for seed in range(SEEDS):
            train, _, test = split(labels, fractions=(0.8, 0, 0.2), seed=seed)
            scaler = create_scaler("standard").fit(*rows_of(train_set, train))
            X, y = rows_of(train_set, train)
            fitted = create_head(head).fit(scaler.transform(X), y.numpy())
            for name, accuracy in found.items():
                vectors, _ = rows_of(sets[name, limit], test)
                accuracy.append(float(np.mean(fitted.predict(scaler.transform(vectors)) == labels[test])))
        cells += [f"{100 * np.mean(accuracy):.1f}" for accuracy in found.values()]
    return cells


def rows_of(features: FeatureSet, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the vectors and the labels of some rows."""
    index = torch.from_numpy(rows)
    return features.features[index], features.labels[index]


if __name__ == "__main__":
    run(NarrowBandBenchmark, main)
