"""Rejection of unknown speakers: the threshold, and its error rates."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation import HeadComparison, compare_heads
from evaluation.summary import key_of
from features import FeatureSet
from heads import UNKNOWN, ClassifierError, SpeakerClassifier, log_odds

MadeUp = Callable[..., FeatureSet]


def compare(features: FeatureSet, head: str = "lda", **options: object) -> HeadComparison:
    return compare_heads(features, [head], **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def all_speakers(made_up: MadeUp) -> FeatureSet:
    """Return 60 speakers with 30 recordings each."""
    return made_up(n_speakers=60, n_each=30, shift=0.0, noise=0.35)


def first_speakers(features: FeatureSet, n_speakers: int, is_new: bool = False) -> FeatureSet:
    """Return the first 20 recordings of the first speakers, or their 10 new ones."""
    new = torch.arange(len(features)) % 30 >= 20
    return features.select(((features.labels < n_speakers) & (new == is_new)).numpy())


@pytest.fixture(scope="module", params=["lda", "linear", "centroid"])
def comparison(request: pytest.FixtureRequest, all_speakers: FeatureSet) -> HeadComparison:
    return compare(first_speakers(all_speakers, 40), request.param)


def test_miss_rate_holds_for_other_unknown_speakers(comparison: HeadComparison, all_speakers: FeatureSet) -> None:
    unknown = all_speakers.select((all_speakers.labels >= 40).numpy())
    predictions = comparison.classifier.predict_features(unknown, reject=True)
    accepted = np.mean([speakers[0] != UNKNOWN for speakers, _ in predictions])
    assert accepted == pytest.approx(comparison.open_set["unknown_accepted"], abs=0.1)
    assert accepted < 0.2


def test_false_alarm_rate_holds_for_new_recordings(comparison: HeadComparison, all_speakers: FeatureSet) -> None:
    predictions = comparison.classifier.predict_features(first_speakers(all_speakers, 40, is_new=True), reject=True)
    rejected = np.mean([speakers[0] == UNKNOWN for speakers, _ in predictions])
    assert rejected == pytest.approx(comparison.open_set["known_rejected"], abs=0.1)
    assert rejected < 0.2


def test_figures_are_in_the_notes_and_the_classifier(comparison: HeadComparison) -> None:
    figures = comparison.open_set
    assert figures["n_unknown"] == 40
    assert 0 < figures["dir_at_far_0.01"] <= comparison.best["test_accuracy"] + 0.05
    assert figures["known_rejected"] < 0.25
    scores = "probabilities" if figures["by"] == "probability" else f"{figures['by']} scores"
    percent = {name: f"{100 * share:.1f}" for name, share in figures.items() if isinstance(share, float)}
    for sentence in (
        f"unknown speakers (40 held out in turn, {scores}): {percent['unknown_accepted']} % falsely accepted "
        f"(95 % CI {percent['unknown_accepted_low']} to {percent['unknown_accepted_high']})",
        f"known speakers in new sessions: {percent['known_rejected']} % falsely rejected at that threshold "
        f"(95 % CI {percent['known_rejected_low']} to {percent['known_rejected_high']})",
    ):
        assert sentence in comparison.notes
        assert len(sentence) <= 100
    assert any(note.endswith(f"(DIR at FAR 1 %): {percent['dir_at_far_0.01']} %") for note in comparison.notes)
    for name in ("unknown_accepted", "known_rejected"):
        assert 0 <= figures[f"{name}_low"] <= figures[name] <= figures[f"{name}_high"]
    assert comparison.classifier.metrics["open_set"] == figures


def test_detector_is_used_for_an_overconfident_head(all_speakers: FeatureSet) -> None:
    """LDA is overconfident on recordings of any speaker; likelihood ratios are not."""
    known = first_speakers(all_speakers, 40)
    assert compare(known, "lda").open_set["by"] == "plda"


def test_saved_classifier_rejects_as_before(
    comparison: HeadComparison, all_speakers: FeatureSet, tmp_path: Path
) -> None:
    loaded = SpeakerClassifier.load(comparison.classifier.save(tmp_path / "c.pt"))
    for top_k in (1, 3):
        before = comparison.classifier.predict_features(all_speakers, top_k, reject=True)
        again = loaded.predict_features(all_speakers, top_k, reject=True)
        assert [names for names, _ in again] == [names for names, _ in before]
        np.testing.assert_array_equal([shares for _, shares in again], [shares for _, shares in before])
    plain = loaded.predict_features(all_speakers, 3)
    for (names, shares), (closed_names, closed_shares) in zip(again, plain, strict=True):
        assert len(names) == 3
        if names[0] == UNKNOWN:
            assert np.isnan(shares[0])
            assert (names[1:], shares[1:]) == (closed_names[:2], closed_shares[:2])
        else:
            assert (names, shares) == (closed_names, closed_shares)


def test_test_rows_do_not_affect_the_threshold(all_speakers: FeatureSet) -> None:
    known = first_speakers(all_speakers, 20)
    before = compare(known)
    by_session = next(record for record in before.summary if record["split_by"] == "session")
    test = torch.from_numpy(before.outcomes[key_of(by_session)][0].rows)
    swapped = replace(known, features=known.features.clone())
    swapped.features[test] = known.features[(test + 200) % 400]  # now recordings of other speakers
    after = compare(swapped)
    assert after.classifier.threshold == before.classifier.threshold
    assert (
        after.open_set["unknown_accepted"] > before.open_set["unknown_accepted"] + 0.3
    )  # "unknown" ones now resemble known speakers
    far = replace(known, features=known.features.clone())
    far.features[test] += 5
    assert compare(far).open_set["known_rejected"] > 0.9  # the threshold does not follow them


def test_detector_has_the_rows_of_the_classifier(all_speakers: FeatureSet) -> None:
    """The detector is fitted on the rows that the members are fitted on, so never on test rows without a refit."""
    known = first_speakers(all_speakers, 20)
    for refit in (True, False):
        comparison = compare(known, "lda", refit=refit)
        classifier, detector = comparison.classifier, comparison.classifier.detector
        assert detector is not None
        n_rows = len(known) if refit else comparison.sizes["utterance"]["train"]
        assert classifier.training["n_utterances"] == n_rows
        torch.testing.assert_close(detector.scaler.mean_, classifier.members[0].scaler.mean_)


def test_threshold_holds_for_heads_with_more_sessions_than_those_that_calibrate(made_up: MadeUp) -> None:
    """PLDA's scores of unknown speakers depend on the number of training sessions: 2 of 3 in a fold, then 3."""
    features = made_up(n_speakers=24, n_each=24, shift=1.0, noise=0.5)
    found = compare(features, "plda", split_by="session").open_set
    assert found["split_by"] == "session"
    assert abs(found["unknown_accepted"] - found["known_rejected"]) < 0.25  # an equal-error threshold, roughly


def test_few_speakers_with_several_sessions_fall_back_on_the_split_by_utterance(all_speakers: FeatureSet) -> None:
    known = first_speakers(all_speakers, 20)
    one = torch.where(known.labels < 2, known.sessions, known.labels * 4)
    found = compare(replace(known, sessions=one), "centroid")
    assert found.open_set["split_by"] == "utterance"
    assert found.classifier.threshold is not None


def test_ensembles_and_heads_on_layers_reject_too(all_speakers: FeatureSet) -> None:
    known = first_speakers(all_speakers, 20)
    both = compare_heads(known, ["linear", "centroid"], ensemble=True, scaler="within")
    ensemble = next(row for row in both.summary if row["head"] == "ensemble")
    assert both.open_set
    assert ensemble["test_accuracy"] > 0.5
    layers = torch.stack([known.features, known.features.flip(1)], dim=1)
    layered = replace(known, features=layers, encoder={**known.encoder, "layers": [0, 1]})
    weighted = compare_heads(layered, ["weighted"])
    assert weighted.open_set["by"] == "probability"  # the detector takes one vector
    assert weighted.classifier.predict_features(layered, reject=True)


def test_too_few_speakers_give_no_threshold(made_up: MadeUp) -> None:
    two = compare(made_up(n_speakers=2))
    assert two.open_set == {}
    assert two.classifier.threshold is None
    with pytest.raises(ClassifierError, match="has no threshold for unknown speakers"):
        two.classifier.predict_features(made_up(n_speakers=2), reject=True)


@pytest.mark.parametrize(("head", "n_needed"), [("centroid", 4), ("lda", 8)])
def test_few_speakers_give_no_threshold_that_would_not_hold(head: str, n_needed: int, made_up: MadeUp) -> None:
    features = made_up(n_speakers=n_needed, shift=0.0, noise=0.35)
    enough = compare(features, head)
    assert enough.open_set["n_unknown"] == n_needed
    assert n_needed == 8 or enough.open_set["by"] == "probability"  # the detector needs as many as lda
    few = compare(features.select((features.labels < n_needed - 1).numpy()), head)
    assert few.open_set == {}
    with pytest.raises(
        ClassifierError, match=f"it knows {n_needed - 1} speakers, and {head} needs at least {n_needed}"
    ):
        few.classifier.predict_features(features, reject=True)


def test_same_seed_gives_the_same_threshold(all_speakers: FeatureSet) -> None:
    known = first_speakers(all_speakers, 20)
    first, again, other = (compare(known, "linear", seed=seed) for seed in (1, 1, 2))
    assert (first.classifier.threshold, first.open_set) == (again.classifier.threshold, again.open_set)
    assert first.classifier.threshold != other.classifier.threshold


def test_log_odds_rank_logits_beyond_float32_probabilities() -> None:
    logits = np.array([[200.0, 0.0, 0.0], [300.0, 0.0, 0.0], [0.0, 0.0, 1.0]], np.float32)
    odds = log_odds(logits)
    assert odds[1] > odds[0] > odds[2]
    assert odds[2] == pytest.approx(np.log(np.e / 2))
