"""Synthetic speakers and a store for them, shared by the tests of verification."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from features import FeatureSet
from verification import Recording, SpeakerStore, SpeakerVerifier


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


@pytest.fixture(scope="session")
def select_speakers() -> Callable[..., FeatureSet]:
    """Return a function that selects speakers `first` to `last` - 1 of a set, and every n-th row of these."""

    def select(features: FeatureSet, first: int, last: int, every: int = 1) -> FeatureSet:
        is_selected = (features.labels >= first) & (features.labels < last)
        return features.select((is_selected & (torch.arange(len(features)) % every == 0)).numpy())

    return select


@pytest.fixture(scope="session")
def population(voices: Callable[..., FeatureSet]) -> FeatureSet:
    """Return 80 speakers with 12 recordings each; the first 60 train the verifier, the others are enrolled."""
    return voices(n_speakers=80)


@pytest.fixture(scope="session")
def recordings(population: FeatureSet) -> Callable[..., list[Recording]]:
    """Return a function that makes the first recordings of a speaker of the population."""

    def make(speaker: int, count: int = 3) -> list[Recording]:
        rows = (population.labels == speaker).nonzero().flatten().tolist()[:count]
        return [
            Recording(
                path=population.ids[row],
                digest=bytes([row % 256, row // 256]),
                seconds=1.0,
                vector=population.features[row],
            )
            for row in rows
        ]

    return make


@pytest.fixture(scope="session")
def plda_verifier(population: FeatureSet, select_speakers: Callable[..., FeatureSet]) -> SpeakerVerifier:
    return SpeakerVerifier.train(select_speakers(population, 0, 60), "plda")


@pytest.fixture
def store(plda_verifier: SpeakerVerifier, tmp_path: Path) -> Iterator[SpeakerStore]:
    """Return an empty store."""
    with SpeakerStore.create(tmp_path / "speakers.db", plda_verifier) as store:
        yield store
