"""The shrinkage of `within` and `lda`, which training speakers alone choose."""

import numpy as np
import pytest
import torch
from torch import Tensor

from heads import ClassStatistics
from metrics import equal_error_rate
from verification.backends import LDABackend, WithinBackend
from verification.shrinkage import SHRINKAGES, choose_shrinkage


def speakers(n_speakers: int, n_each: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw speakers whose recordings vary much less in some directions than training speakers can show."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_speakers), n_each)
    scale = np.geomspace(1, 0.03, dim)
    rows = 0.15 * random.standard_normal((n_speakers, dim))[labels]
    rows = rows + random.standard_normal((len(labels), dim)) * scale
    return torch.from_numpy(rows).float(), torch.from_numpy(labels)


def error_rate(backend: WithinBackend | LDABackend, rows: Tensor, labels: Tensor) -> float:
    mapped = backend.embed(rows)
    first, second = torch.triu_indices(len(rows), len(rows), 1)
    return equal_error_rate((labels[first] == labels[second]).numpy(), (mapped @ mapped.T)[first, second].numpy())


@pytest.mark.parametrize("kind", [WithinBackend, LDABackend])
def test_shrinkage_lowers_the_error_rate_on_other_speakers(kind: type[WithinBackend] | type[LDABackend]) -> None:
    rows, labels = speakers(20, 4, 50, seed=0)
    backend = kind("within" if kind is WithinBackend else "lda")
    backend._learn(rows, labels)
    assert backend.shrinkage_ in SHRINKAGES[1:]
    test = speakers(60, 4, 50, seed=1)
    chosen = error_rate(backend, *test)
    backend.mean_, backend.projection_ = backend._project(ClassStatistics.of(rows, labels), 0.0)
    assert chosen < error_rate(backend, *test)


def test_few_speakers_are_not_shrunk() -> None:
    rows, labels = speakers(11, 4, 10, seed=0)
    assert choose_shrinkage(rows, labels, WithinBackend._project) == 0.0


def test_many_speakers_are_compared_in_part() -> None:
    """With 7,000 speakers, each group has more speakers than rows that are compared."""
    rows, labels = speakers(7_000, 2, 3, seed=0)
    assert choose_shrinkage(rows, labels, WithinBackend._project) in SHRINKAGES
