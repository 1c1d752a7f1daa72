"""What the training of heads costs, and beside the usual loop of DataLoader, module and optimizer.

python benchmarks/heads.py --features_path outputs/librispeech_features_audiosep.pt
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from command_line import EXIT_DONE, run
from config import LogLevel, ScriptConfig
from corpora import split
from encoders import resolve_device, single_thread
from evaluation import compare_heads
from evaluation.table import format_table
from features import FeatureSet
from heads import create_scaler
from heads.linear import LinearHead
from heads.minibatch import MinibatchHead
from heads.mlp import MLPHead

HEADS = ("linear", "mlp", "lda")
NETWORKS: dict[str, type[MinibatchHead]] = {"linear": LinearHead, "mlp": MLPHead}
WITH_VALIDATION, WITHOUT = (0.8, 0.1, 0.1), (0.8, 0.0, 0.2)

Part = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class HeadsBenchmark(ScriptConfig):
    """Time the training of the heads."""

    features_path: Path
    """Features file, with one vector a row."""
    device: str = "cpu"
    """Where to train: auto (CUDA where there is one), cpu, cuda, cuda:N or mps."""
    repeats: int = 3
    """Times that everything is done, in turn."""
    log_level: LogLevel = "warning"
    """How much is told of the work."""


def main(config: HeadsBenchmark) -> int:
    """Print the medians of the whole comparison, and of one training of a network by the head and by the plain loop."""
    features = FeatureSet.load(config.features_path)
    size = f"{len(features)} rows, {features.features.shape[-1]} dimensions, {len(features.speakers)} speakers"
    print(f"{features.corpus}: {size}; {config.device}; medians\n")
    _print_comparison(features, config.device, config.repeats)
    _print_plain_loop(features, config.device, config.repeats)
    return EXIT_DONE


def _print_comparison(features: FeatureSet, device: str, repeats: int) -> None:
    lines = []
    for fractions in (WITH_VALIDATION, WITHOUT):
        runs = [compare_heads(features, HEADS, fractions=fractions, options={"device": device}) for _ in range(repeats)]
        for rows in zip(*(comparison.rows for comparison in runs), strict=True):
            seconds = median(row["seconds"] for row in rows)
            share = " ".join(f"{fraction:g}" for fraction in fractions)
            lines.append([rows[0]["head"], share, f"{seconds:.2f}", f"{100 * rows[0]['test_accuracy']:.2f}"])
    print("compare_heads, as by default")
    print(format_table(["head", "fractions", "seconds", "test acc"], lines, "<<>>"))


def _print_plain_loop(features: FeatureSet, device: str, repeats: int) -> None:
    train, test = _parts(features)
    lines = []
    for name, kind in NETWORKS.items():
        ours, plain = [], []
        for _ in range(repeats):
            ours.append(_fit_head(kind(device=device), train, test))
            with single_thread():  # as the heads do; a second thread makes the plain loop slower on a busy machine
                plain.append(_fit_plainly(kind(device=device), train, test))
        shares = [f"{100 * results[0][1]:.2f}" for results in (ours, plain)]
        seconds = [median(spent for spent, _ in results) for results in (ours, plain)]
        ratio = median(theirs[0] / own[0] for own, theirs in zip(ours, plain, strict=True))
        cells = [f"{seconds[0]:.2f}", shares[0], f"{seconds[1]:.2f}", shares[1], f"{ratio:.2f}"]
        lines.append([name, str(kind().epochs), *cells])
    print(f"\nThe same network, {len(train[0])} rows and epochs: the head's fit, and a plain loop of torch")
    header = ["head", "epochs", "fit", "test acc", "plain loop", "test acc", "plain loop / fit"]
    print(format_table(header, lines, "<>>>>>>"))


def _parts(features: FeatureSet) -> tuple[Part, Part]:
    """Return scaled train and test rows with their speakers."""
    train, _, test = (torch.from_numpy(rows) for rows in split(features.labels.numpy(), fractions=WITHOUT))
    scaler = create_scaler("standard").fit(features.features[train])
    parts = [(scaler.transform(features.features[rows]), features.labels[rows]) for rows in (train, test)]
    return parts[0], parts[1]


def _fit_head(head: MinibatchHead, train: Part, test: Part) -> tuple[float, float]:
    """Return the seconds of training, and the test accuracy."""
    started = time.perf_counter()
    head.fit(*train)
    return time.perf_counter() - started, float((head.predict(test[0]) == test[1].numpy()).mean())


def _fit_plainly(head: MinibatchHead, train: Part, test: Part) -> tuple[float, float]:
    """Do the same in the usual way, with the head's network and settings."""
    started = time.perf_counter()
    device = resolve_device(head.device)
    torch.manual_seed(head.seed)
    network = head.build(train[0].shape[1:], int(train[1].max()) + 1).to(device)
    loader = DataLoader(TensorDataset(*train), head.batch_size, shuffle=True)
    optimizer = torch.optim.Adam(network.parameters(), head.lr)
    for _ in range(head.epochs):
        for rows, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(rows.to(device)), labels.to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    network.cpu().eval()
    return time.perf_counter() - started, float((network(test[0]).argmax(1) == test[1]).float().mean())


if __name__ == "__main__":
    run(HeadsBenchmark, main)
