"""A small corpus and short training runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpora import Corpus
from training import TrainedEncoder, train_encoder

# A run that takes about a second: few, short crops.
SHORT: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "n_frames": 30,
    "num_workers": 0,
    "device": "cpu",
    "progress": False,
}


@pytest.fixture
def train(corpus: Corpus, tmp_path: Path) -> Callable[..., TrainedEncoder]:
    """Return a function that trains on the small corpus, by default ``conv1d`` for two epochs."""

    def run(network: Any = "conv1d", objective: str = "classification", **settings: Any) -> TrainedEncoder:
        given = {"output_dir": tmp_path / "run", **SHORT, **settings}
        return train_encoder(given.pop("corpus", corpus), network, objective, **given)

    return run
