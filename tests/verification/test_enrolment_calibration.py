"""Calibration on held-out speakers: scores of enrolled speakers, and rejection of unknown speakers."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from features import FeatureSet
from metrics import cllr, min_cllr
from verification import BACKENDS, Backend, Calibration, CalibrationError, Conditions, create_backend
from verification.backends import WithinBackend
from verification.enrolment_calibration import calibrate

Voices = Callable[..., FeatureSet]
Select = Callable[..., FeatureSet]


@dataclass(frozen=True)
class Calibrated:
    """A backend of 40 speakers, its calibrations on 40 others, and 40 further speakers for the test."""

    backend: Backend
    calibration: Calibration
    open_set: Calibration
    test_set: FeatureSet


@pytest.fixture(scope="module", params=BACKENDS)
def calibrated(request: pytest.FixtureRequest, voices: Voices, select_speakers: Select) -> Calibrated:
    everyone = voices(n_speakers=120)
    backend = create_backend(request.param).fit(select_speakers(everyone, 0, 40))
    calibration, open_set, _ = calibrate(backend, select_speakers(everyone, 40, 80))
    return Calibrated(backend, calibration, open_set, select_speakers(everyone, 80, 120))


def test_llrs_are_calibrated_for_one_and_several_recordings(calibrated: Calibrated) -> None:
    backend = calibrated.backend
    rows, labels = backend.embed(calibrated.test_set.features), calibrated.test_set.labels.numpy()
    probes = np.arange(480) % 12 >= 8
    for count in (1, 3, 8):
        models = torch.stack([backend.combine(rows[start : start + count]) for start in range(0, 480, 12)])
        scores = backend.score_speakers(rows[probes], models, torch.full((40,), count)).numpy().ravel()
        is_target = (labels[probes][:, None] == labels[::12]).ravel()
        cost, least = (
            cllr(is_target, calibrated.calibration.llrs(scores, Conditions(count))),
            min_cllr(is_target, scores),
        )
        assert cost < least + 0.15, (count, cost, least)


# Not cosine: its scores carry almost no information about these speakers.
@pytest.mark.parametrize("calibrated", [name for name in BACKENDS if name != "cosine"], indirect=True)
def test_both_error_rates_are_low_for_few_and_many_speakers(calibrated: Calibrated) -> None:
    backend = calibrated.backend
    rows = backend.embed(calibrated.test_set.features)
    for n_known in (4, 20):
        known, unknown = rows[: 12 * n_known], rows[12 * 20 :]
        models = torch.stack([backend.combine(known[start : start + 4]) for start in range(0, 12 * n_known, 12)])
        rates = []  # shares of recordings that are accepted
        for probes in (known[np.arange(len(known)) % 12 >= 4], unknown):
            scores = backend.score_speakers(probes, models, torch.full((n_known,), 4)).numpy()
            best = calibrated.calibration.llrs(scores, Conditions(4)).max(axis=1)
            rates.append(float((calibrated.open_set.probabilities(best, 0.5, Conditions(n_known)) >= 0.5).mean()))
        assert 1 - rates[0] < 0.3
        assert rates[1] < 0.3


class GrowingBackend(WithinBackend):
    """A backend whose scores grow with the number of recordings of the speaker."""

    def score_speakers(self, probes: torch.Tensor, models: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return super().score_speakers(probes, models, counts) + 2 * counts.log()


def test_open_set_does_not_depend_on_growth_of_scores(population: FeatureSet, select_speakers: Select) -> None:
    train, held_out = (select_speakers(population, first, first + 40) for first in (0, 40))
    (_, expected, _), (calibration, found, _) = (
        calibrate(kind("within").fit(train), held_out) for kind in (WithinBackend, GrowingBackend)
    )
    assert calibration.growth < -5
    for name in ("slope", "offset", "growth"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=0.5)


def test_more_enrolled_speakers_need_higher_ratios(calibrated: Calibrated) -> None:
    highest = 0 if calibrated.backend.name == "cosine" else -0.3
    assert -1.5 < calibrated.open_set.growth < highest


def test_speakers_with_several_sessions_are_tested_across_them(voices: Voices) -> None:
    """Test with recordings that are identical within a session, and random between sessions of a speaker."""
    held_out = voices(n_speakers=30)
    sessions = torch.arange(len(held_out)) // 4
    rows = torch.randn(90, 12, generator=torch.Generator().manual_seed(0))[sessions]
    copied = replace(held_out, features=rows, sessions=sessions, session_names=tuple(map(str, range(90))))
    across, _, _ = calibrate(create_backend("cosine"), copied)
    within, _, _ = calibrate(create_backend("cosine"), replace(copied, sessions=copied.labels))
    assert abs(across.llrs(1.0)) < 0.5
    assert within.llrs(1.0) > 1


def test_same_seed_gives_the_same_calibration(voices: Voices) -> None:
    held_out = voices(n_speakers=8)
    backend = create_backend("cosine")
    assert calibrate(backend, held_out, seed=1) == calibrate(backend, held_out, seed=1)
    assert calibrate(backend, held_out, seed=1) != calibrate(backend, held_out, seed=2)


def test_too_few_speakers_or_recordings_are_refused(voices: Voices) -> None:
    backend = create_backend("cosine")
    for held_out in (voices(n_speakers=1), voices(n_speakers=6, n_each=1)):
        with pytest.raises(CalibrationError, match="at least 2 speakers, one of them with 2 recordings"):
            calibrate(backend, held_out)
    few, _, _ = calibrate(backend, voices(n_speakers=2, n_each=2))
    assert np.isfinite(few.llrs(0.5, Conditions(3)))
