"""Calibration by held-out speakers: of enrolled speakers, and of strangers."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from features import FeatureSet
from metrics import cllr, min_cllr
from verification import BACKENDS, Backend, Calibration, CalibrationError, create_backend
from verification.backends import ScaledBackend as WithinBackend
from verification.open_set import calibrate

Voices = Callable[..., FeatureSet]
Scored = tuple[Calibration, Calibration, FeatureSet, Backend]


def part(features: FeatureSet, first: int, last: int) -> FeatureSet:
    return features.select((features.labels >= first) & (features.labels < last))


@pytest.fixture(scope="module", params=BACKENDS)
def scored(request: pytest.FixtureRequest, voices: Voices) -> Scored:
    everyone = voices(n_speakers=120)
    backend = create_backend(request.param).fit(part(everyone, 0, 40))
    return *calibrate(backend, part(everyone, 40, 80)), part(everyone, 80, 120), backend


def test_ratios_hold_for_speakers_of_one_and_of_several_recordings(scored: Scored) -> None:
    calibration, _, strangers, backend = scored
    rows, labels = backend.embed(strangers.features), strangers.labels.numpy()
    probes = np.arange(480) % 12 >= 8
    for count in (1, 3, 8):
        models = torch.stack([backend.combine(rows[start : start + count]) for start in range(0, 480, 12)])
        scores = backend.score_speakers(rows[probes], models, torch.full((40,), count)).numpy().ravel()
        is_target = (labels[probes][:, None] == labels[::12]).ravel()
        cost, least = cllr(is_target, calibration.llrs(scores, count)), min_cllr(is_target, scores)
        assert cost < least + 0.15, (count, cost, least)


# Not cosine: these voices are made so that it says next to nothing.
@pytest.mark.parametrize("scored", [name for name in BACKENDS if name != "cosine"], indirect=True)
def test_half_of_the_errors_are_strangers_who_get_a_name(scored: Scored) -> None:
    """Whatever the number of speakers who are enrolled: neither kind of error is bought by the other."""
    calibration, open_set, strangers, backend = scored
    rows = backend.embed(strangers.features)
    for n_known in (4, 20):
        known, unknown = rows[: 12 * n_known], rows[12 * 20 :]
        models = torch.stack([backend.combine(known[start : start + 4]) for start in range(0, 12 * n_known, 12)])
        rates = []
        for probes in (known[np.arange(len(known)) % 12 >= 4], unknown):
            llrs = calibration.llrs(backend.score_speakers(probes, models, torch.full((n_known,), 4)).numpy(), 4)
            rates.append(float((open_set.probabilities(llrs.max(axis=1), 0.5, n_known) >= 0.5).mean()))
        named, rejected = rates[1], 1 - rates[0]
        assert named < 0.3
        assert rejected < 0.3


class Grown(WithinBackend):
    """A backend whose scores grow with the recordings of the speaker, which calibration takes out again."""

    def score_speakers(self, probes: torch.Tensor, models: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return super().score_speakers(probes, models, counts) + 2 * counts.log()


def test_strangers_are_told_whatever_the_number_of_recordings_does_to_scores(voices: Voices) -> None:
    everyone = voices(n_speakers=80)
    plain, grown = (kind("within").fit(part(everyone, 0, 40)) for kind in (WithinBackend, Grown))
    (_, expected), (calibration, found) = (calibrate(backend, part(everyone, 40, 80)) for backend in (plain, grown))
    assert calibration.growth < -5
    for name in ("slope", "offset", "growth"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=0.5)


def test_more_speakers_ask_for_higher_ratios(scored: Scored) -> None:
    _, open_set, _, backend = scored
    assert -1.5 < open_set.growth < (0 if backend.name == "cosine" else -0.3)


def test_who_has_several_sessions_is_heard_in_another(voices: Voices) -> None:
    """Where recordings are copies of their session's, and that says nothing of the voice, no score does."""
    held_out = voices(n_speakers=30)
    sessions = torch.arange(len(held_out)) // 4
    rows = torch.randn(90, 12, generator=torch.Generator().manual_seed(0))[sessions]
    copied = replace(held_out, features=rows, sessions=sessions, session_names=tuple(map(str, range(90))))
    by_session, _ = calibrate(create_backend("cosine"), copied)
    by_chance, _ = calibrate(create_backend("cosine"), replace(copied, sessions=copied.labels))
    assert abs(by_session.llrs(1.0)) < 0.5
    assert by_chance.llrs(1.0) > 1


def test_the_same_seed_calibrates_the_same(voices: Voices) -> None:
    held_out = voices(n_speakers=8)
    backend = create_backend("cosine")
    assert calibrate(backend, held_out, seed=1) == calibrate(backend, held_out, seed=1)
    assert calibrate(backend, held_out, seed=1) != calibrate(backend, held_out, seed=2)


def test_one_speaker_or_one_recording_each_cannot_calibrate(voices: Voices) -> None:
    backend = create_backend("cosine")
    for held_out in (voices(n_speakers=1), voices(n_speakers=6, n_each=1)):
        with pytest.raises(CalibrationError, match="two speakers at least, one of them with two recordings"):
            calibrate(backend, held_out)
    few, _ = calibrate(backend, voices(n_speakers=2, n_each=2))
    assert np.isfinite(few.llrs(0.5, 3))
