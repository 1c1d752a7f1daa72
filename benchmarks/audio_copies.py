"""Measure how far the vectors of copies are from those of their originals, and how fast copies are found.

python benchmarks/audio_copies.py --data_dir CORPUS --scratch_weights saved_model.bilstm.mean.all.specaug.gpu100000.pt
"""

import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile
import torch
from torch import Tensor

from command_line import EXIT_DONE, run
from config import Layout, LogLevel, ScriptConfig
from corpora import Corpus, load_corpus
from encoders import lazy_encoder
from features import FeatureSet, audio_numbers, extract
from files import format_table

ENCODERS = ("campplus", "spectral", "scratch")
# Suffix, subtype and, for lossy formats, compression levels of each kind of copy.
KINDS = {
    "FLAC": ("flac", "PCM_16", (0.0,)),
    "WAV, 24 bits": ("wav", "PCM_24", (0.0,)),
    "WAV, 8 bits": ("wav", "PCM_U8", (0.0,)),
    "Opus": ("opus", "OPUS", (0.0, 0.7)),
    "Vorbis": ("ogg", "VORBIS", (0.0, 0.3, 0.7)),
    "MP3": ("mp3", "MPEG_LAYER_III", (0.0, 0.3, 0.7)),
}
FORMATS = {"opus": "OGG", "ogg": "OGG", "mp3": "MP3"}


@dataclass(frozen=True, kw_only=True)
class CopiesBenchmark(ScriptConfig):
    """Settings of the measurement."""

    data_dir: Path
    """Folder of the corpus."""
    scratch_weights: Path
    """Checkpoint for the encoder scratch."""
    layout: Layout = "auto"
    """Layout of the corpus."""
    every: int = 10
    """Every n-th utterance is copied."""
    rows: int = 100_000
    """Number of random rows among which copies are searched."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def main(config: CopiesBenchmark) -> int:
    """Print the distances and the times."""
    corpus = load_corpus(config.data_dir, config.layout)
    chosen = Corpus(tuple(corpus)[:: config.every], corpus.root, corpus.name)
    lines: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        copies = {
            kind: [copy(chosen, Path(folder) / f"{kind} {level}", kind, level=level) for level in KINDS[kind][2]]
            for kind in KINDS
        }
        for name in ENCODERS:
            encoder = lazy_encoder(name, config.scratch_weights if name == "scratch" else None)
            results = Path(folder) / f"features of {name}"
            every = extract(corpus, encoder, results / "corpus.pt", progress=False)
            originals = every.features[:: config.every].double()
            lines.setdefault("half precision", []).append(shares(distances(originals, originals.half().double())))
            for kind, corpora in copies.items():
                sets = [extract(each, encoder, results / f"{each.root.name}.pt", progress=False) for each in corpora]
                found = [distances(originals, each.features.double()) for each in sets]
                lines.setdefault(kind, []).append(shares(torch.cat(found)))
            lines.setdefault("closest two of one speaker", []).append(f"{closest(every):.4f}")
    print(f"{len(chosen)} of {len(corpus)} utterances; distances to the originals as shares of the norm:")
    print(format_table(["copy", *ENCODERS], [[kind, *values] for kind, values in lines.items()], "<>>>"))
    for dim in (192, 768):
        rows = torch.randn(config.rows, dim, generator=torch.Generator().manual_seed(0))
        rows[config.rows // 2 :] = rows[: config.rows - config.rows // 2]
        features = FeatureSet.from_arrays(rows, np.arange(config.rows) % 50)
        begin = time.perf_counter()
        n_found = config.rows - len(np.unique(audio_numbers(features)[0]))
        print(f"{config.rows} rows of {dim}: {n_found} copies found in {time.perf_counter() - begin:.1f} s")
    return EXIT_DONE


def copy(corpus: Corpus, root: Path, kind: str, *, level: float) -> Corpus:
    """Write copies of the files, and return them as a corpus."""
    suffix, subtype, _ = KINDS[kind]
    copies = []
    for utterance in corpus:
        path = (root / utterance.path.relative_to(corpus.root)).with_suffix(f".{suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(utterance.path)
        options = {"format": FORMATS[suffix], "compression_level": level} if suffix in FORMATS else {}
        soundfile.write(path, samples, rate, subtype=subtype, **options)
        copies.append(replace(utterance, path=path, root=root))
    return Corpus(tuple(copies), root, corpus.name)


def distances(vectors: Tensor, others: Tensor) -> Tensor:
    """Return the distances (n,) of vectors (n, D), as shares of the norm."""
    found: Tensor = (vectors - others).norm(dim=1) / vectors.norm(dim=1)
    return found


def shares(found: Tensor) -> str:
    """Format the lowest and the highest of some distances."""
    return f"{found.min():.4f} to {found.max():.4f}"


def closest(features: FeatureSet) -> float:
    """Return the distance of the closest two utterances of one speaker, as a share of the norm."""
    vectors = features.features.double()
    apart = torch.cdist(vectors, vectors) / vectors.norm(dim=1, keepdim=True)
    is_other = (features.labels != features.labels[:, None]) | torch.eye(len(vectors), dtype=torch.bool)
    return float(apart.masked_fill(is_other, torch.inf).min())


if __name__ == "__main__":
    run(CopiesBenchmark, main)
