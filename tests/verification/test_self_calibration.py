"""The ready verifier, and stores that adapt its calibration to their own speakers."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from features import FeatureSet
from verification import (
    Calibration,
    Conditions,
    Recording,
    SelfCalibration,
    SpeakerStore,
    SpeakerVerifier,
    StoreError,
    VerifierError,
    compare_with_ready,
)

DIM = 192
Speak = Callable[..., FeatureSet]


@pytest.fixture(scope="module")
def ready() -> SpeakerVerifier:
    return SpeakerVerifier.ready()


@pytest.fixture(scope="module")
def speak(ready: SpeakerVerifier) -> Speak:
    """Return a function that draws speakers whose vectors have a part in common, as those of a corpus do."""

    def make(n_speakers: int = 12, n_each: int = 4, common: float = 0.4, seed: int = 0) -> FeatureSet:
        random = np.random.default_rng(seed)
        labels = np.repeat(np.arange(n_speakers), n_each)
        rows = common * random.standard_normal(DIM) + random.standard_normal((n_speakers, DIM))[labels]
        rows = rows + 0.6 * random.standard_normal((len(labels), DIM))
        return FeatureSet(
            features=torch.from_numpy(rows).float(),
            labels=torch.from_numpy(labels),
            speakers=tuple(f"{seed}-{number:03d}" for number in range(n_speakers)),
            sessions=torch.from_numpy(labels),
            session_names=tuple(map(str, range(n_speakers))),
            ids=tuple(f"{number}.wav" for number in range(len(rows))),
            durations=torch.full((len(rows),), 4.0),
            encoder=ready.encoder,
            corpus="made up",
        )

    return make


@pytest.fixture
def store(ready: SpeakerVerifier, tmp_path: Path) -> Iterator[SpeakerStore]:
    with SpeakerStore.create(tmp_path / "ready.db", ready) as store:
        yield store


def recordings(features: FeatureSet, name: str) -> list[Recording]:
    return [
        Recording(path=f"{name}{row}", digest=f"{name}{row}".encode(), seconds=4.0, vector=vector)
        for row, vector in enumerate(features.features)
    ]


SCORES = st.lists(st.floats(-1, 1), min_size=1, max_size=30).map(np.array)


@given(SCORES, st.floats(-0.5, 0.5), st.integers(1, 500))
def test_shift_is_a_share_of_the_difference(scores: NDArray[np.float64], higher: float, n_speakers: int) -> None:
    own = SelfCalibration(Calibration(0.0, 0.1, 0.02, -0.3, -0.2), share=0.5, prior_speakers=10.0)
    conditions = Conditions(3, 2.0, 4.0)
    shift, moved = (own.shift(each, conditions, n_speakers=n_speakers) for each in (scores, scores + higher))
    assert moved - shift == pytest.approx(0.5 * n_speakers / (n_speakers + 10) * higher, abs=1e-9)


def test_scores_as_in_the_calibration_corpora_do_not_shift() -> None:
    random = np.random.default_rng(0)
    seconds = random.uniform(0.5, 10, 20_000)
    scores = 0.2 - 0.1 / np.sqrt(seconds) + 0.1 * random.standard_normal(len(seconds))
    own = SelfCalibration.fit(scores, Conditions(1, 5.0, seconds), share=0.5, prior_speakers=10.0)
    assert own.shift(scores, Conditions(1, 5.0, seconds), n_speakers=50) == pytest.approx(0, abs=2e-3)
    assert own.expected.probe_shortness == pytest.approx(-0.1, abs=0.01)
    assert own.shift(np.empty(0), n_speakers=0) == 0


def test_store_adapts_to_its_own_speakers(store: SpeakerStore, ready: SpeakerVerifier, speak: Speak) -> None:
    assert store.own_calibration().calibration == ready.calibration
    similar, probe = speak(common=1.5), speak(seed=1).features[:1]
    store.enroll(similar.speakers[0], recordings(similar.select(similar.labels.numpy() == 0), "a"))
    assert store.own_calibration().shift == 0  # one speaker has no scores against others
    before = store.nearest(probe, 1)
    store.enroll_features(similar.select(similar.labels.numpy() > 0))
    own = store.own_calibration()
    assert (own.n_speakers, own.n_background) == (12, 0)
    assert own.shift > 0.05
    assert own.calibration == ready.calibration.shifted(own.shift)
    # The same score supports the same speaker less than before.
    after = store.nearest(probe, 12)
    first = after.names[0].index(before.names[0][0])
    assert after.scores[0, first] == pytest.approx(float(before.scores[0, 0]), abs=1e-6)
    lowered = float(before.llrs[0, 0]) - ready.calibration.slope * own.shift
    assert after.llrs[0, first] == pytest.approx(lowered, abs=1e-3)
    for name in similar.speakers[1:]:
        store.remove(name)
    assert store.own_calibration().shift == 0


def test_more_speakers_shift_more(ready: SpeakerVerifier, speak: Speak, tmp_path: Path) -> None:
    shifts = []
    for n_speakers in (2, 12, 40):
        with SpeakerStore.create(tmp_path / f"{n_speakers}.db", ready) as store:
            store.enroll_features(speak(n_speakers, common=1.5))
            shifts.append(store.own_calibration().shift)
    assert 0 < shifts[0] < shifts[1] < shifts[2]


def test_background_recordings_adapt_the_calibration(store: SpeakerStore, speak: Speak) -> None:
    similar = speak(13, common=0.9)
    is_anna = similar.labels.numpy() == 12
    others = recordings(similar.select(~is_anna), "b")
    assert store.add_background(others) == 48
    assert store.add_background(others) == 0
    assert len(store) == 0
    store.enroll("anna", recordings(similar.select(is_anna), "a"))
    own = store.own_calibration()
    assert (own.n_speakers, own.n_background) == (0, 48)
    assert own.shift > 0.01
    # A background recording that is enrolled is no longer background; others of that speaker are left out.
    store.enroll("ben", others[8:10])
    assert store.own_calibration().n_background <= 44
    assert [each.n_recordings for each in store.speakers()] == [4, 2]
    assert store.nearest(similar.features[8:9], 1).names == [["ben"]]
    assert store.remove_background() == 46
    assert store.own_calibration().n_background == 0


def test_background_recordings_are_merged(
    store: SpeakerStore, ready: SpeakerVerifier, speak: Speak, tmp_path: Path
) -> None:
    features = speak(common=0.9)
    store.enroll_features(features.select(features.labels.numpy() == 0))
    with SpeakerStore.create(tmp_path / "other.db", ready) as other:
        other.add_background(recordings(features.select(features.labels.numpy() > 2), "b"))
        assert store.merge(other) == 0
    assert store.own_calibration().n_background == 36


@pytest.mark.parametrize("vector", [torch.ones(5), torch.full((DIM,), torch.nan)])
def test_unusable_background_recording_is_refused(store: SpeakerStore, vector: torch.Tensor, speak: Speak) -> None:
    store.enroll_features(speak(2))
    with pytest.raises(StoreError, match=r"b\.wav: its embedding is not a vector of 192 finite numbers"):
        store.add_background([Recording(path="b.wav", digest=b"b", seconds=1.0, vector=vector)])
    assert store.own_calibration().n_background == 0


def test_trained_verifier_is_not_adapted(ready: SpeakerVerifier, speak: Speak, tmp_path: Path) -> None:
    trained = replace(ready, self_calibration=None)
    with SpeakerStore.create(tmp_path / "trained.db", trained) as store:
        store.enroll_features(speak(common=1.5))
        assert store.own_calibration().calibration == ready.calibration
        with pytest.raises(StoreError, match="background recordings have no effect on this store"):
            store.add_background(recordings(speak(2), "b"))


def test_length_of_two_recordings_matters_in_either_order(ready: SpeakerVerifier) -> None:
    calibration = ready.calibration
    orders = [Conditions(1, 1.0, 30.0), Conditions(1, 30.0, 1.0)]
    expected = np.mean([calibration.llrs(0.3, conditions) for conditions in orders])
    assert calibration.pair_llrs(0.3, 1.0, 30.0) == pytest.approx(expected)
    assert calibration.pair_llrs(0.3, 30.0, 1.0) == pytest.approx(expected)


def test_short_recordings_need_lower_scores(store: SpeakerStore, ready: SpeakerVerifier, speak: Speak) -> None:
    features = speak(2)
    store.enroll_features(features)
    llrs = [float(store.nearest(features.features[:1], 1, torch.tensor([seconds])).llrs) for seconds in (1.0, 5.0, 0.0)]
    assert llrs[0] > llrs[1]
    assert llrs[2] == llrs[1]  # an unknown length counts as 5 s
    shortness = ready.calibration.probe_shortness
    assert llrs[0] - llrs[1] == pytest.approx(shortness * (1 - 5**-0.5), abs=1e-3)
    verdicts = [store.verify("0-000", features.features[0], seconds=seconds).llr for seconds in (1.0, 5.0)]
    assert verdicts[0] - verdicts[1] == pytest.approx(llrs[0] - llrs[1], abs=1e-3)


def test_ready_verifier_is_saved_and_read_again(ready: SpeakerVerifier, tmp_path: Path) -> None:
    loaded = SpeakerVerifier.load(ready.save(tmp_path / "verifier.pt"))
    assert loaded.same_decisions_as(ready)
    assert not replace(loaded, self_calibration=None).same_decisions_as(ready)
    assert loaded.self_calibration == ready.self_calibration


def test_ready_verifier_fits_the_published_weights(ready: SpeakerVerifier, real_campplus_weights: Path) -> None:
    from encoders import lazy_encoder, spec_differences

    assert spec_differences(lazy_encoder("campplus", real_campplus_weights).spec, ready.encoder) == []


@pytest.mark.parametrize(
    "own", [{"share": 2.0}, {"prior_speakers": 0.0}, {"share": "much"}, {"expected": {"slope": 0.0, "offset": "x"}}]
)
def test_damaged_self_calibration_is_refused(ready: SpeakerVerifier, own: dict[str, object]) -> None:
    content = json.loads(json.dumps(ready.content()))
    content["self_calibration"].update(own)
    with pytest.raises(VerifierError, match=r"x\.pt"):
        SpeakerVerifier.from_content(content, Path("x.pt"))


def test_comparison_with_the_ready_verifier(speak: Speak, made_up: Speak) -> None:
    compared = compare_with_ready(speak(40, common=1.5), "cosine")
    assert compared is not None
    own, of_ready = compared
    assert own < of_ready  # these speakers are unlike those of the calibration corpora
    with pytest.raises(VerifierError, match="10 speakers with two recordings or more are too few to compare"):
        compare_with_ready(speak(10), "cosine")
    assert compare_with_ready(made_up(n_speakers=30), "cosine") is None  # another encoder
