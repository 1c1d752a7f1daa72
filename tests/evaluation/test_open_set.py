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

MadeUp = Callable[..., FeatureSet]


def compared(features: FeatureSet, head: str = "lda", **options: object) -> Comparison:
    return compare_heads(features, [head], **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def everyone(made_up: MadeUp) -> FeatureSet:
    return made_up(n_speakers=60, shift=0.0, noise=0.35)


@pytest.fixture(scope="module", params=["lda", "linear", "centroid"])
def found(request: pytest.FixtureRequest, everyone: FeatureSet) -> Comparison:
    return compared(everyone.select((everyone.labels < 40).numpy()), request.param)


def test_the_threshold_holds_for_strangers_whom_nobody_has_seen(found: Comparison, everyone: FeatureSet) -> None:
    strangers = everyone.select((everyone.labels >= 40).numpy())
    names = found.classifier.predict_features(strangers, reject=True)
    named = np.mean([speakers[0] != UNKNOWN for speakers, _ in names])
    assert named == pytest.approx(found.open_set["miss"], abs=0.1)
    assert named < 0.2


def test_the_threshold_holds_for_new_recordings_of_the_known(
    found: Comparison, everyone: FeatureSet, made_up: MadeUp
) -> None:
    known = everyone.select((everyone.labels < 40).numpy())
    fresh = replace(known, features=known.features + 0.35 * torch.randn(known.features.shape) / 4)
    rejected = np.mean([names[0] == UNKNOWN for names, _ in found.classifier.predict_features(fresh, reject=True)])
    assert rejected < 0.2


def test_figures_are_shares_and_the_sentence_has_them(found: Comparison) -> None:
    figures = found.open_set
    assert figures["n_strangers"] == 40
    assert 0 < figures["dir_at_far_0.01"] <= found.best["test_accuracy"] + 0.05
    assert figures["false_alarm"] < 0.25
    note = next(note for note in found.notes if note.startswith("strangers (40 speakers"))
    assert f"{100 * figures['miss']:.1f} % of their test recordings get a name" in note
    assert f"DIR at FAR 1 %: {100 * figures['dir_at_far_0.01']:.1f} %" in note
    assert found.classifier.metrics["open_set"] == figures


def test_the_detector_is_worth_its_place(everyone: FeatureSet) -> None:
    """LDA is sure of everything; likelihood ratios are not."""
    known = everyone.select((everyone.labels < 40).numpy())
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
    known = everyone.select((everyone.labels < 20).numpy())
    before = compared(known)
    test = next(iter(before.outcomes.values()))[0].rows
    spoiled = replace(known, features=known.features.clone())
    spoiled.features[torch.from_numpy(test)] += 3
    after = compared(spoiled)
    assert after.classifier.threshold == before.classifier.threshold
    assert after.open_set != before.open_set


def test_an_ensemble_and_layers_reject_too(everyone: FeatureSet) -> None:
    known = everyone.select((everyone.labels < 20).numpy())
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
    known = everyone.select((everyone.labels < 20).numpy())
    first, again, other = (compared(known, "linear", seed=seed) for seed in (1, 1, 2))
    assert (first.classifier.threshold, first.open_set) == (again.classifier.threshold, again.open_set)
    assert first.classifier.threshold != other.classifier.threshold
