"""Measure the training time of heads: all heads, compared with a plain torch loop and scikit-learn, many speakers.

python benchmarks/heads.py --features_path outputs/librispeech_features_audiosep.pt
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from command_line import EXIT_DONE, run
from config import LogLevel, ScriptConfig
from corpora import split
from encoders import resolve_device, single_thread
from evaluation import compare_heads
from features import FeatureSet
from files import format_table
from heads import create_head, create_scaler
from heads.flat_adam import FlatAdam
from heads.minibatch import MinibatchHead

NETWORKS = ("linear", "mlp", "bn_mlp", "cosine")
MANY = 1_000, 100, 512  # speakers, utterances per speaker, dimensions

Part = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class HeadsBenchmark(ScriptConfig):
    """Time the training of the heads."""

    features_path: Path
    """Features file with one vector per row."""
    seeds: int = 5
    """Number of splits in the comparison of all heads."""
    device: str = "cpu"
    """Device: auto (CUDA if available), cpu, cuda, cuda:N or mps."""
    repeats: int = 3
    """Number of repetitions of each measurement; the alternatives take turns."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def main(config: HeadsBenchmark) -> int:
    """Print four tables."""
    features = FeatureSet.load(config.features_path)
    size = f"{len(features)} rows, {features.features.shape[-1]} dimensions, {len(features.speakers)} speakers"
    print(f"{features.corpus}: {size}; {config.device}; medians of {config.repeats}\n")
    started = time.perf_counter()
    comparison = compare_heads(features, ["all"], seeds=config.seeds, options={"device": config.device})
    print(f"All heads, {config.seeds} seeds: {time.perf_counter() - started:.1f} s")
    print(comparison.table(), end="\n\n")
    train, test = _parts(features)
    _beside_plain_loop(train, config.device, config.repeats)
    _beside_scikit_learn(train, test, config.device, repeats=config.repeats)
    _many_speakers(config.device)
    return EXIT_DONE


def _parts(features: FeatureSet) -> tuple[Part, Part]:
    """Return the scaled training and test rows with their labels."""
    rows = split(features.labels.numpy(), fractions=(0.8, 0.0, 0.2), seed=42)
    train, test = torch.from_numpy(rows[0]), torch.from_numpy(rows[2])
    scaler = create_scaler("standard").fit(features.features[train])
    parts = [(scaler.transform(features.features[part]), features.labels[part]) for part in (train, test)]
    return parts[0], parts[1]


def _beside_plain_loop(train: Part, device: str, repeats: int) -> None:
    """Compare `fit` with a plain training loop and with the arithmetic alone."""
    lines = []
    for name in NETWORKS:
        head = create_head(name, device=device, epochs=30)
        assert isinstance(head, MinibatchHead)
        ways: list[Callable[[], object]] = [
            partial(head.fit, *train),
            partial(_fit_plainly, head, train),
            partial(_arithmetic, head, train),
        ]
        ours, plain, least = _times(ways, repeats)
        n_steps = head.epochs * math.ceil(len(train[0]) / head.batch_size)
        cells = [f"{1e6 * seconds / n_steps:.0f}" for seconds in (ours, plain, least)]
        lines.append([name, *cells, f"{plain / ours:.1f}", f"{plain / least:.1f}"])
    print("Microseconds per training step: fit, a plain loop with DataLoader, and only matrix products and Adam")
    header = ["head", "fit", "plain loop", "arithmetic", "plain / fit", "plain / arithmetic"]
    print(format_table(header, lines, "<>>>>>"), end="\n\n")


def _times(ways: list[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median time of each way (seconds); the ways take turns."""
    spent: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats):
        for number, way in enumerate(ways):
            started = time.perf_counter()
            way()
            spent[number].append(time.perf_counter() - started)
    return [median(seconds) for seconds in spent]


def _fit_plainly(head: MinibatchHead, train: Part) -> None:
    """Train the head's network with its settings in a plain loop, as in tutorials."""
    device = resolve_device(head.device)
    network = head.build(train[0].shape[1:], int(train[1].max()) + 1).to(device)
    loader = DataLoader(TensorDataset(*train), head.batch_size, shuffle=True)
    optimizer = torch.optim.Adam(network.parameters(), head.lr)
    for _ in range(head.epochs):
        total = 0.0
        for rows, labels in loader:
            rows, labels = rows.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = head.losses(network(rows), labels).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item() * len(rows)


def _arithmetic(head: MinibatchHead, train: Part) -> None:
    """Compute only the matrix products of the linear layers, forward and backward, and the steps of Adam."""
    device = resolve_device(head.device)
    n_classes = int(train[1].max()) + 1
    network = head.build(train[0].shape[1:], n_classes).to(device)
    matrices = [weight for weight in network.parameters() if weight.ndim == 2]
    optimizer = FlatAdam(network, head.lr)
    batch = [torch.zeros(head.batch_size, weight.shape[1], device=device) for weight in matrices]
    gradients = [torch.zeros(head.batch_size, weight.shape[0], device=device) for weight in matrices]
    with torch.no_grad(), single_thread():
        for _ in range(head.epochs * math.ceil(len(train[0]) / head.batch_size)):
            for number, weight in enumerate(matrices):
                torch.mm(batch[number], weight.t())
                torch.mm(gradients[number].t(), batch[number])
                if number:
                    torch.mm(gradients[number], weight)
            optimizer.step()


def _beside_scikit_learn(train: Part, test: Part, device: str, *, repeats: int) -> None:
    """Compare accuracy and time with scikit-learn's classifiers at their defaults (the MLP has the size of mlp)."""
    X, y = (part.numpy() for part in train)
    scores: dict[str, list[float]] = {}

    def ours(name: str) -> Callable[[], object]:
        def fit() -> None:
            # One tenth of the rows stops the training, as MLPClassifier's early_stopping does.
            inner, held_out, _ = split(y, fractions=(0.9, 0.1, 0.0))
            head = create_head(name, **({"device": device} if name in NETWORKS else {})).fit(
                X[inner], y[inner], X[held_out], y[held_out]
            )
            scores.setdefault(name, []).append(float((head.predict(test[0]) == test[1].numpy()).mean()))

        return fit

    def theirs(name: str, model: LogisticRegression | MLPClassifier) -> Callable[[], object]:
        def fit() -> None:
            scores.setdefault(name, []).append(float(model.fit(X, y).score(test[0].numpy(), test[1].numpy())))

        return fit

    networks = MLPClassifier((256, 128), early_stopping=True, random_state=0)
    ways = {
        "linear": ours("linear"),
        "lda": ours("lda"),
        "LogisticRegression": theirs("LogisticRegression", LogisticRegression(max_iter=1000)),
        "mlp": ours("mlp"),
        "MLPClassifier": theirs("MLPClassifier", MLPClassifier((256, 128), max_iter=200, random_state=0)),
        "MLPClassifier, stopped early": theirs("MLPClassifier, stopped early", networks),
    }
    seconds = _times(list(ways.values()), repeats)
    lines = [
        [name, f"{spent:.2f}", f"{100 * np.mean(scores[name]):.2f}"] for name, spent in zip(ways, seconds, strict=True)
    ]
    print(f"Compared with scikit-learn, {len(X)} training rows, {len(test[0])} test rows")
    print(format_table(["", "seconds", "test %"], lines, "<>>"), end="\n\n")


def _many_speakers(device: str) -> None:
    """Train on many speakers."""
    n_speakers, n_each, dim = MANY
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(n_speakers), n_each))
    rows = 0.3 * random.standard_normal((n_speakers, dim))[labels] + random.standard_normal((len(labels), dim))
    X, y = torch.from_numpy(rows).float(), torch.from_numpy(labels)
    lines = []
    for name, options in (
        ("lda", {}),
        ("plda", {}),
        ("centroid", {}),
        ("linear", {"epochs": 20, "batch_size": 256, "device": device}),
    ):
        started = time.perf_counter()
        create_head(name, **options).fit(X, y)
        lines.append([name, f"{time.perf_counter() - started:.1f}"])
    products = 20 * 2 * 2 * X.numel() * n_speakers
    left, right = torch.randn(4096, 4096), torch.randn(4096, 4096)
    peak = 2 * 4096**3 / min(_times([lambda: left @ right], 3))
    print(f"{n_speakers} speakers, {len(X)} rows, {dim} dimensions (linear: 20 epochs, batches of 256)")
    print(format_table(["head", "seconds"], lines, "<>"))
    print(f"Time of the products in the 20 epochs of linear at the rate of one large product: {products / peak:.1f} s")


if __name__ == "__main__":
    run(HeadsBenchmark, main)
