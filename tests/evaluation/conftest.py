"""Made-up features for the comparison."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from features import FeatureSet


@pytest.fixture(scope="session")
def made_up() -> Callable[..., FeatureSet]:
    """Return a function that makes overlapping speakers, each with sessions that shift its rows."""

    def make(
        n_speakers: int = 12,
        n_each: int = 20,
        n_sessions: int = 4,
        seed: int = 0,
        noise: float = 1.0,
        shift: float = 1.0,
        encoder: str = "made up",
    ) -> FeatureSet:
        random = np.random.default_rng(seed)
        speaker = np.repeat(np.arange(n_speakers), n_each)
        session = speaker * n_sessions + np.tile(np.arange(n_each) % n_sessions, n_speakers)
        rows = random.normal(0, 1.2, (n_speakers, 10))[speaker]
        rows = rows + random.normal(0, shift, (n_speakers * n_sessions, 10))[session]
        rows = rows + noise * random.standard_normal(rows.shape)
        return FeatureSet(
            features=torch.from_numpy(rows).float(),
            labels=torch.from_numpy(speaker),
            speakers=tuple(f"speaker {number:02d}" for number in range(n_speakers)),
            sessions=torch.from_numpy(session),
            session_names=tuple(f"session {number}" for number in range(n_speakers * n_sessions)),
            ids=tuple(f"{number}.wav" for number in range(len(rows))),
            durations=torch.ones(len(rows)),
            encoder={"name": encoder, "dim": 10, "layers": [], "options": {}},
            corpus="hard",
        )

    return make
