"""Measure the time to open a large features file, and to read a part of it.

python benchmarks/opening.py
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from command_line import EXIT_DONE, run
from config import LogLevel, ScriptConfig
from features import MEAN_CHANNEL, AudioProvenance, FeatureSet


@dataclass(frozen=True, kw_only=True)
class OpeningBenchmark(ScriptConfig):
    """Write a features file of many rows, and open it several times."""

    n_rows: int = 1_000_000
    """Number of utterances."""
    dim: int = 512
    """Dimensions of a vector."""
    repeats: int = 5
    """Number of repetitions."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def main(config: OpeningBenchmark) -> int:
    """Print the median times to open the file and to read 1,000 of its rows."""
    opening, slicing = [], []
    with TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "features.pt"
        make_features(config.n_rows, config.dim).save(path)
        for _ in range(config.repeats):
            started = time.perf_counter()
            features = FeatureSet.load(path)
            opened = time.perf_counter()
            features.select(torch.arange(0, len(features), max(len(features) // 1000, 1))).features.sum()
            opening.append(opened - started)
            slicing.append(time.perf_counter() - opened)
        size = path.stat().st_size / 1e9
    print(f"{config.n_rows} x {config.dim}, {size:.2f} GB: opened in {median(opening):.2f} s, 1,000 rows read in "
          f"{1000 * median(slicing):.1f} ms more; medians of {config.repeats}")  # fmt: skip
    return EXIT_DONE


def make_features(n_rows: int, dim: int) -> FeatureSet:
    """Return noise, labelled as 5,000 speakers with four sessions each."""
    rows = torch.arange(n_rows)
    return FeatureSet(
        features=torch.randn(n_rows, dim),
        labels=rows % 5_000,
        speakers=tuple(f"id{number:05d}" for number in range(5_000)),
        sessions=rows % 20_000,
        session_names=tuple(f"session {number}" for number in range(20_000)),
        ids=tuple(f"id{number % 5_000:05d}/{number % 20_000}/{number:07d}.flac" for number in range(n_rows)),
        durations=torch.ones(n_rows),
        encoder={"name": "noise", "dim": dim, "layers": [], "options": {}, "sample_rate": 16_000},
        corpus="noise",
        audio=AudioProvenance(
            digest=torch.zeros(n_rows, 32, dtype=torch.uint8),
            size=torch.ones(n_rows, dtype=torch.int64),
            mtime_ns=torch.ones(n_rows, dtype=torch.int64),
            start=torch.zeros(n_rows, dtype=torch.float64),
            duration=torch.full((n_rows,), torch.nan, dtype=torch.float64),
            channel=torch.full((n_rows,), MEAN_CHANNEL),
            file_rate=torch.full((n_rows,), 16_000),
            offset=torch.zeros(n_rows),
            bandwidth=torch.full((n_rows,), 8_000.0),
            rate=16_000,
            crop=10.0,
        ),
    )


if __name__ == "__main__":
    run(OpeningBenchmark, main)
