"""Made-up voices for the tests of verification."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from features import FeatureSet


@pytest.fixture(scope="session")
def voices() -> Callable[..., FeatureSet]:
    """Return a function that draws speakers from the two-covariance model."""
    return draw_voices


def draw_voices(n_speakers: int = 40, n_each: int = 12, dim: int = 12, seed: int = 0) -> FeatureSet:
    """Draw speakers from the two-covariance model, mixed by a matrix that hides small directions under large ones."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_speakers), n_each)
    rows = random.normal(0, 2, (n_speakers, dim))[labels] + random.standard_normal((len(labels), dim))
    rows = rows * np.geomspace(1, 0.01, dim) + 0.5
    rows[:, 0] += random.normal(0, 5, len(labels))
    return FeatureSet(
        features=torch.from_numpy(rows).float(),
        labels=torch.from_numpy(labels),
        speakers=tuple(f"{number:03d}" for number in range(n_speakers)),
        sessions=torch.from_numpy(labels),
        session_names=tuple(f"{number:03d}" for number in range(n_speakers)),
        ids=tuple(f"{number}.wav" for number in range(len(rows))),
        durations=torch.ones(len(rows)),
        encoder={"name": "made up", "dim": dim, "layers": [], "options": {}},
        corpus="voices",
    )
