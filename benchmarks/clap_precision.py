"""Measure the effect of bf16 or fp16 on the vectors of `audiosep` and on the heads trained on them.

python benchmarks/clap_precision.py --data_dir LibriSpeech/dev-clean --encoder_weights clap.pt
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.clap import Size, random_clap
from command_line import EXIT_DONE, run
from config import LogLevel, Precision, ScriptConfig
from corpora import load_corpus
from encoders import load_encoder
from evaluation import compare_heads
from features import FeatureSet, extract
from files import format_table

HEADS = ("linear", "mlp", "lda")


@dataclass(frozen=True, kw_only=True)
class PrecisionBenchmark(ScriptConfig):
    """Compare the vectors of several precisions with those of fp32."""

    data_dir: Path
    """Folder of the corpus."""
    encoder_weights: Path | None = None
    """CLAP checkpoint; by default random weights."""
    size: Size = "base"
    """Size of the HTSAT network with random weights."""
    precisions: tuple[Precision, ...] = ("bf16",)
    """Precisions to compare with fp32."""
    device: str = "auto"
    """Device: auto (CUDA if available), cpu, cuda or cuda:N."""
    n_seeds: int = 5
    """Number of splits over which the accuracies are averaged."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def main(config: PrecisionBenchmark) -> int:
    """Print the errors of the vectors and the test accuracies."""
    with TemporaryDirectory() as folder:
        weights = config.encoder_weights or Path(folder) / "random.pt"
        if config.encoder_weights is None:
            torch.save(random_clap(config.size).state_dict(), weights)
        corpus = load_corpus(config.data_dir)
        sets = {
            name: extract(
                corpus, load_encoder("audiosep", weights, config.device, precision=name), Path(folder) / f"{name}.pt"
            ).to(copy=True)
            for name in ("fp32", *config.precisions)
        }
    exact = sets["fp32"].features
    spread = (exact - exact.mean(0)).norm(dim=1)
    lines = []
    for name, features in sets.items():
        error = ((features.features - exact).norm(dim=1) / spread).quantile(torch.tensor([0.5, 0.95]))
        lines.append([name, *(f"{value:.4f}" for value in error), *accuracies(features, config.n_seeds)])
    print(f"{len(corpus)} files of {corpus.name}; median distance of a vector from the mean: {spread.median():.4f}")
    print("Error: distance from the vector in fp32, divided by the distance of that vector from the mean")
    print(format_table(["", "median error", "95 %", *(f"{head}, test %" for head in HEADS)], lines, "<>>>>>"))
    return EXIT_DONE


def accuracies(features: FeatureSet, n_seeds: int) -> list[str]:
    """Return the mean test accuracy of each head, in percent."""
    tables = [compare_heads(features, list(HEADS), seed=seed).rows for seed in range(n_seeds)]
    return [
        f"{100 * mean(row['test_accuracy'] for rows in tables for row in rows if row['head'] == head):.2f}"
        for head in HEADS
    ]


if __name__ == "__main__":
    run(PrecisionBenchmark, main)
