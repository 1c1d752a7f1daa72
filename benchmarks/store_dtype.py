"""Measure the effect of storing features in fp16 on the heads.

python benchmarks/store_dtype.py --features_path outputs/librispeech_features_wav2vec2.pt
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from command_line import EXIT_DONE, run
from config import HeadName, LogLevel, ScriptConfig
from evaluation import compare_heads
from features import FeatureSet
from files import format_table


@dataclass(frozen=True, kw_only=True)
class StoreBenchmark(ScriptConfig):
    """Compare heads on features in fp32 and rounded to fp16."""

    features_path: Path
    """Features file in fp32."""
    heads: tuple[HeadName, ...] = ("linear", "mlp", "lda")
    """Heads to compare."""
    n_seeds: int = 5
    """Number of splits over which the accuracies are averaged."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def main(config: StoreBenchmark) -> int:
    """Print the mean test accuracy of each head and the largest error; of several layers, only the last is used."""
    exact = FeatureSet.load(config.features_path)
    exact = exact.layer(exact.layers[-1]) if exact.layers else exact
    rounded = exact.to(torch.float16)
    lines = []
    for name, features in (("fp32", exact), ("fp16", rounded)):
        tables = [compare_heads(features, config.heads, seed=seed).rows for seed in range(config.n_seeds)]
        rows = [row for table in tables for row in table]
        shares = [mean(row["test_accuracy"] for row in rows if row["head"] == head) for head in config.heads]
        lines.append([name, *(f"{100 * share:.2f}" for share in shares)])
    header = ["stored in", *(f"{head}, test %" for head in config.heads)]
    print(format_table(header, lines, "<" + ">" * len(config.heads)))
    spread = (exact.features - exact.features.mean(0)).norm(dim=1)
    error = ((rounded.features.float() - exact.features).norm(dim=1) / spread).max()
    print(f"largest error of a row, divided by its distance from the mean: {error:.1e}")
    return EXIT_DONE


if __name__ == "__main__":
    run(StoreBenchmark, main)
