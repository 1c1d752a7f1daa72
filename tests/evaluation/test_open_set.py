"""Strangers: speakers whom a classifier was never trained on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation import Comparison, compare_heads
from features import FeatureSet
from heads import UNKNOWN, ClassifierError, SpeakerClassifier
from heads.classifier import log_odds

MadeUp = Callable[..., FeatureSet]


def compared(features: FeatureSet, head: str = "lda", **options: object) -> Comparison:
    return compare_heads(features, [head], **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def everyone(made_up: MadeUp) -> FeatureSet:
    """Return 60 speakers of 30 recordings, of which 20 are trained and tested with."""
    return made_up(n_speakers=60, n_each=30, shift=0.0, noise=0.35)


def some(features: FeatureSet, last: int, fresh: bool = False) -> FeatureSet:
    """Return the first 20 recordings of the first speakers, or their last 10."""
    return features.select(((features.labels < last) & ((torch.arange(len(features)) % 30 >= 20) == fresh)).numpy())


@pytest.fixture(scope="module", params=["lda", "linear", "centroid"])
def found(request: pytest.FixtureRequest, everyone: FeatureSet) -> Comparison:
    return compared(some(everyone, 40), request.param)


def test_the_threshold_holds_for_strangers_whom_nobody_has_seen(found: Comparison, everyone: FeatureSet) -> None:
    strangers = everyone.select((everyone.labels >= 40).numpy())
    names = found.classifier.predict_features(strangers, reject=True)
    named = np.mean([speakers[0] != UNKNOWN for speakers, _ in names])
    assert named == pytest.approx(found.open_set["miss"], abs=0.1)
    assert named < 0.2


def test_the_threshold_holds_for_new_recordings_of_the_known(found: Comparison, everyone: FeatureSet) -> None:
    names = found.classifier.predict_features(some(everyone, 40, fresh=True), reject=True)
    rejected = np.mean([speakers[0] == UNKNOWN for speakers, _ in names])
    assert rejected == pytest.approx(found.open_set["false_alarm"], abs=0.1)
    assert rejected < 0.2


def test_figures_are_shares_and_the_sentence_has_them(found: Comparison) -> None:
    figures = found.open_set
    assert figures["n_strangers"] == 40
    assert 0 < figures["dir_at_far_0.01"] <= found.best["test_accuracy"] + 0.05
    assert figures["false_alarm"] < 0.25
    place = next(
        place
        for place, note in enumerate(found.notes)
        if note.startswith("strangers (40 left out in turn, by utterance")
    )
    named, rejected = found.notes[place : place + 2]
    assert f": {100 * figures['miss']:.1f} % (" in named
    assert f"{100 * figures['miss_high']:.1f}) get a name" in named
    assert f"{100 * figures['false_alarm']:.1f} % (" in rejected
    for name in ("miss", "false_alarm"):
        assert 0 <= figures[f"{name}_low"] <= figures[name] <= figures[f"{name}_high"]
    assert f"DIR at FAR 1 %: {100 * figures['dir_at_far_0.01']:.1f}" in rejected
    assert found.classifier.metrics["open_set"] == figures


def test_the_detector_is_worth_its_place(everyone: FeatureSet) -> None:
    """LDA is sure of everything; likelihood ratios are not."""
    known = some(everyone, 40)
    assert compared(known, "lda").open_set["by"] == "plda"


def test_a_saved_classifier_rejects_as_before(found: Comparison, everyone: FeatureSet, tmp_path: Path) -> None:
    loaded = SpeakerClassifier.load(found.classifier.save(tmp_path / "c.pt"))
    for top_k in (1, 3):
        before = found.classifier.predict_features(everyone, top_k, reject=True)
        again = loaded.predict_features(everyone, top_k, reject=True)
        assert [names for names, _ in again] == [names for names, _ in before]
        np.testing.assert_array_equal([shares for _, shares in again], [shares for _, shares in before])
    plain = loaded.predict_features(everyone, 3)
    for (names, shares), (closed, closed_shares) in zip(again, plain, strict=True):
        assert len(names) == 3
        if names[0] == UNKNOWN:
            assert np.isnan(shares[0])
            assert (names[1:], shares[1:]) == (closed[:2], closed_shares[:2])
        else:
            assert (names, shares) == (closed, closed_shares)


def test_test_rows_do_not_move_the_threshold(everyone: FeatureSet) -> None:
    known = some(everyone, 20)
    before = compared(known)
    test = torch.from_numpy(next(iter(before.outcomes.values()))[0].rows)
    swapped = replace(known, features=known.features.clone())
    swapped.features[test] = known.features[(test + 200) % 400]  # every test recording is now of another voice
    after = compared(swapped)
    assert after.classifier.threshold == before.classifier.threshold
    assert after.open_set["miss"] > before.open_set["miss"] + 0.3  # strangers who sound like the known are not noticed
    far = replace(known, features=known.features.clone())
    far.features[test] += 5
    assert compared(far).open_set["false_alarm"] > 0.9  # no threshold follows them


def test_an_ensemble_and_layers_reject_too(everyone: FeatureSet) -> None:
    known = some(everyone, 20)
    both = compare_heads(known, ["linear", "centroid"], ensemble=True, scaler="within")
    ensemble = next(row for row in both.summary if row["head"] == "ensemble")
    assert both.open_set
    assert ensemble["test_accuracy"] > 0.5
    layers = torch.stack([known.features, known.features.flip(1)], dim=1)
    layered = replace(known, features=layers, encoder={**known.encoder, "layers": [0, 1]})
    weighted = compare_heads(layered, ["weighted"])
    assert weighted.open_set["by"] == "probability"  # likelihood ratios take one vector
    assert weighted.classifier.predict_features(layered, reject=True)


def test_too_few_speakers_leave_no_threshold(made_up: MadeUp) -> None:
    two = compared(made_up(n_speakers=2))
    assert two.open_set == {}
    assert two.classifier.threshold is None
    with pytest.raises(ClassifierError, match="has no threshold to tell strangers by"):
        two.classifier.predict_features(made_up(n_speakers=2), reject=True)
    three = compared(made_up(n_speakers=3), "centroid")
    assert three.open_set["n_strangers"] == 3


def test_the_same_seed_gives_the_same_threshold(everyone: FeatureSet) -> None:
    known = some(everyone, 20)
    first, again, other = (compared(known, "linear", seed=seed) for seed in (1, 1, 2))
    assert (first.classifier.threshold, first.open_set) == (again.classifier.threshold, again.open_set)
    assert first.classifier.threshold != other.classifier.threshold


def test_sure_heads_keep_an_order() -> None:
    """Beyond what a probability in float32 can tell."""
    logits = np.array([[200.0, 0.0, 0.0], [300.0, 0.0, 0.0], [0.0, 0.0, 1.0]], np.float32)
    found = log_odds(logits)
    assert found[1] > found[0] > found[2]
    assert found[2] == pytest.approx(np.log(np.e / 2))
