"""What the training of heads costs: together, beside a plain loop of torch, beside scikit-learn, of many speakers.

python benchmarks/heads.py --features_path outputs/librispeech_features_audiosep.pt
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
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
from evaluation.table import format_table
from features import FeatureSet
from heads import create_head, create_scaler
from heads.flat_adam import FlatAdam
from heads.minibatch import MinibatchHead

NETWORKS = ("linear", "mlp", "bn_mlp", "cosine")
MANY = 1_000, 100, 512  # speakers, utterances of each, dimensions

Part = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class HeadsBenchmark(ScriptConfig):
    """Time the training of the heads."""

    features_path: Path
    """Features file, with one vector a row."""
    seeds: int = 5
    """Splits of the comparison of all heads."""
    device: str = "cpu"
    """Where to train: auto (CUDA where there is one), cpu, cuda, cuda:N or mps."""
    repeats: int = 3
    """Times that what stands side by side is done, in turn."""
    log_level: LogLevel = "error"
    """How much is told of the work."""


def main(config: HeadsBenchmark) -> int:
    """Print the four tables."""
    features = FeatureSet.load(config.features_path)
    size = f"{len(features)} rows, {features.features.shape[-1]} dimensions, {len(features.speakers)} speakers"
    print(f"{features.corpus}: {size}; {config.device}; medians of {config.repeats}\n")
    started = time.perf_counter()
    comparison = compare_heads(features, ["all"], seeds=config.seeds, options={"device": config.device})
    print(f"All heads, {config.seeds} seeds: {time.perf_counter() - started:.1f} s")
    print(comparison.table(), end="\n\n")
    train, test = _parts(features)
    _beside_plain_loop(train, config.device, config.repeats)
    _beside_scikit_learn(train, test, config.device, config.repeats)
    _many_speakers(config.device)
    return EXIT_DONE


def _parts(features: FeatureSet) -> tuple[Part, Part]:
    """Return scaled train and test rows with their speakers."""
    rows = split(features.labels.numpy(), fractions=(0.8, 0.0, 0.2), seed=42)
    train, test = torch.from_numpy(rows[0]), torch.from_numpy(rows[2])
    scaler = create_scaler("standard").fit(features.features[train])
    parts = [(scaler.transform(features.features[part]), features.labels[part]) for part in (train, test)]
    return parts[0], parts[1]


def _beside_plain_loop(train: Part, device: str, repeats: int) -> None:
    """Train the same networks in the usual way, and find what their arithmetic alone takes."""
    lines = []
    for name in NETWORKS:
        head = create_head(name, device=device, epochs=30)
        assert isinstance(head, MinibatchHead)
        ways: list[Callable[[], object]] = [
            lambda head=head: head.fit(*train),  # type: ignore[misc]
            lambda head=head: _fit_plainly(head, train),  # type: ignore[misc]
            lambda head=head: _arithmetic(head, train),  # type: ignore[misc]
        ]
        ours, plain, least = _times(ways, repeats)
        n_steps = head.epochs * -(-len(train[0]) // head.batch_size)
        cells = [f"{1e6 * seconds / n_steps:.0f}" for seconds in (ours, plain, least)]
        lines.append([name, *cells, f"{plain / ours:.1f}", f"{plain / least:.1f}"])
    print("Microseconds of a training step: fit, a plain loop with DataLoader, and matrix products and Adam alone")
    header = ["head", "fit", "plain loop", "arithmetic", "plain / fit", "plain / arithmetic"]
    print(format_table(header, lines, "<>>>>>"), end="\n\n")


def _times(ways: list[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median seconds of each way, done in turn."""
    spent: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats):
        for number, way in enumerate(ways):
            started = time.perf_counter()
            way()
            spent[number].append(time.perf_counter() - started)
    return [median(seconds) for seconds in spent]


def _fit_plainly(head: MinibatchHead, train: Part) -> None:
    """Train the head's network by its settings as tutorials do."""
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
    """Do the matrix products of the linear layers, forward and backward, and Adam's steps, and nothing else."""
    device = resolve_device(head.device)
    n_classes = int(train[1].max()) + 1
    network = head.build(train[0].shape[1:], n_classes).to(device)
    matrices = [weight for weight in network.parameters() if weight.ndim == 2]
    optimizer = FlatAdam(network, head.lr)
    batch = [torch.zeros(head.batch_size, weight.shape[1], device=device) for weight in matrices]
    slopes = [torch.zeros(head.batch_size, weight.shape[0], device=device) for weight in matrices]
    with torch.no_grad(), single_thread():
        for _ in range(head.epochs * -(-len(train[0]) // head.batch_size)):
            for number, weight in enumerate(matrices):
                torch.mm(batch[number], weight.t())
                torch.mm(slopes[number].t(), batch[number])
                if number:
                    torch.mm(slopes[number], weight)
            optimizer.step()


def _beside_scikit_learn(train: Part, test: Part, device: str, repeats: int) -> None:
    """Compare accuracy and time with scikit-learn's classifiers, each as by default (the MLP of mlp's size)."""
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
    print(f"Beside scikit-learn, {len(X)} training rows, {len(test[0])} of test")
    print(format_table(["", "seconds", "test acc"], lines, "<>>"), end="\n\n")


def _many_speakers(device: str) -> None:
    """Train on 1,000 speakers of 100 rows each."""
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
    print(f"The products of linear's 20 epochs at the rate of one large product on this CPU: {products / peak:.1f} s")


if __name__ == "__main__":
    run(HeadsBenchmark, main)
