"""Measure what a DC offset does to identification and verification, with and without its removal, and what level does.

python benchmarks/offset_and_level.py --data_dir CORPUS --scratch_weights CHECKPOINT
"""

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio import read_audio
from command_line import EXIT_DONE, run
from config import Layout, LogLevel, ScriptConfig
from corpora import Corpus, load_corpus, split
from embedding import embed_utterances
from encoders import Encoder, load_encoder
from files import format_table
from heads import create_head, create_scaler
from metrics import equal_error_rate

ENCODERS = ("campplus", "scratch", "spectral")
OFFSETS = (0.0, 0.02, 0.05, -0.05)
GAINS = (20.0, -20.0)  # dB
RATE = 16_000
SECONDS = 10.0  # part of each recording that is embedded
SEEDS = 5


@dataclass(frozen=True, kw_only=True)
class OffsetBenchmark(ScriptConfig):
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


def main(config: OffsetBenchmark) -> int:
    """Print the tables."""
    corpus = load_corpus(config.data_dir, config.layout)
    kept = corpus.speakers[: config.max_speakers]
    corpus = Corpus(tuple(each for each in corpus if each.speaker in kept), corpus.root, corpus.name)
    labels = np.array([kept.index(each.speaker) for each in corpus])
    offsets, levels = [], []
    for name in ENCODERS:
        encoder = load_encoder(name, config.scratch_weights if name == "scratch" else None, device="cpu")
        plain, without = embed_waveforms(corpus, encoder), embed_copies(corpus, encoder, 0.0)
        for offset in OFFSETS:
            raw = embed_waveforms(corpus, encoder, offset=offset)
            removed = embed_copies(corpus, encoder, offset)
            figures = [*compare(plain, raw, labels), *compare(without, removed, labels)]
            offsets.append([name, f"{offset:g}", *figures])
        for gain in GAINS:
            other = embed_waveforms(corpus, encoder, gain=10 ** (gain / 20))
            cosines = torch.nn.functional.cosine_similarity(plain, other)
            similarity = [f"{float(cosines.median()):.4f}", f"{float(cosines.min()):.4f}"]
            levels.append([name, f"{gain:+g} dB", *similarity, *compare(plain, other, labels)])
    print(f"{len(kept)} speakers, {len(corpus)} utterances, {SEEDS} splits; EER and accuracy in percent:")
    header = ["encoder", "offset", "EER kept", "accuracy kept", "EER removed", "accuracy removed"]
    print(format_table(header, offsets, "<>>>>>"), end="\n\n")
    print(format_table(["encoder", "level", "median cosine", "lowest cosine", "EER", "accuracy"], levels, "<>>>>>"))
    return EXIT_DONE


def embed_waveforms(corpus: Corpus, encoder: Encoder, *, gain: float = 1.0, offset: float = 0.0) -> Tensor:
    """Return the vectors (n, D) of amplified and shifted waveforms, from `Encoder.encode`, which removes no offset."""
    waveforms = (read_audio(each.path, RATE, max_duration=SECONDS) for each in corpus)
    return torch.cat([encoder.encode([gain * waveform + offset]) for waveform in waveforms])


def embed_copies(corpus: Corpus, encoder: Encoder, offset: float) -> Tensor:
    """Return the vectors (n, D) of copies with an offset, as the scripts embed them."""
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for number, utterance in enumerate(corpus):
            path = Path(folder) / f"{number}.wav"
            samples = read_audio(utterance.path, RATE, max_duration=SECONDS).numpy() + np.float32(offset)
            soundfile.write(path, samples, RATE, subtype="FLOAT")
            copies.append(replace(utterance, path=path, root=Path(folder)))
        vectors = [row.vector for row in embed_utterances(copies, encoder, SECONDS)]
    return torch.stack([vector for vector in vectors if vector is not None])


def compare(plain: Tensor, other: Tensor, labels: NDArray[np.int64]) -> list[str]:
    """Return the EER of pairs of a plain and another recording, and the accuracy of heads trained on plain ones."""
    scaler = create_scaler("standard").fit(plain, torch.from_numpy(labels))
    one, two = (torch.nn.functional.normalize(scaler.transform(vectors), dim=1) for vectors in (plain, other))
    first, second = np.triu_indices(len(labels), 1)
    eer = equal_error_rate((labels[first] == labels[second]).astype(np.int64), (one @ two.T).numpy()[first, second])
    accuracies = []
    for seed in range(SEEDS):
        train, _, test = split(labels, fractions=(0.8, 0, 0.2), seed=seed)
        scaler = create_scaler("standard").fit(plain[train], torch.from_numpy(labels[train]))
        head = create_head("linear").fit(scaler.transform(plain[train]), labels[train])
        accuracies.append(np.mean(head.predict(scaler.transform(other[test])) == labels[test]))
    return [f"{100 * eer:.1f}", f"{100 * np.mean(accuracies):.1f}"]


if __name__ == "__main__":
    run(OffsetBenchmark, main)
