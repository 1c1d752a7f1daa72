"""Comparisons on the splits that a corpus gives."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from corpora import SPLITS, Corpus, CorpusError, Utterance
from evaluation import check_split, compare_heads
from evaluation.protocol import SELECTION_SHARE, split_rows
from evaluation.summary import key_of
from features import FeatureSet
from heads import HeadError

MadeUp = Callable[..., FeatureSet]
FRACTIONS = (0.8, 0.1, 0.1)


def give(features: FeatureSet, splits: np.ndarray) -> FeatureSet:
    return replace(features, splits=torch.from_numpy(splits))


@pytest.fixture
def given(made_up: MadeUp) -> FeatureSet:
    """Return 12 speakers with 20 rows: 14 train, 3 validation, 3 test; speaker 11 is not in train."""
    splits = np.tile(np.repeat([0, 1, 2], [14, 3, 3]), 12)
    splits[-20:] = 2
    return give(made_up(), splits)


def test_heads_are_trained_validated_and_tested_on_the_given_splits(given: FeatureSet) -> None:
    comparison = compare_heads(given, ["lda", "centroid"], split_by="given", seeds=2)
    assert given.splits is not None
    splits = given.splits.numpy()
    is_known = np.arange(240) < 220
    for seed in (0, 1):
        rows = split_rows(given, "given", FRACTIONS, seed=seed)
        assert rows.train.tolist() == np.flatnonzero(splits == 0).tolist()
        assert rows.validation.tolist() == np.flatnonzero(splits == 1).tolist()
        assert rows.test.tolist() == np.flatnonzero(is_known & (splits == 2)).tolist()
    assert {row["split_by"] for row in comparison.rows} == {"given"}
    assert comparison.sizes["given"] == {"train": 154, "validation": 33, "shared": 0, "test": 33, "folds": 1}
    outcome = comparison.outcomes[key_of(comparison.best)][0]
    assert outcome.rows.tolist() == rows.test.tolist()
    table = comparison.table()
    assert "split by given: 154 train, 33 validation, 33 test utterances" in table
    assert "left out of the test split: 20 utterances of 1 speaker without training utterances (speaker 11)" in table
    assert comparison.classifier.training["split_by"] == "given"


@pytest.mark.parametrize("refit", [True, False])
def test_saved_classifier_knows_the_speakers_that_it_is_fitted_on(given: FeatureSet, refit: bool) -> None:
    classifier = compare_heads(given, ["lda"], split_by="given", refit=refit).classifier
    known = {names[0] for names, _ in classifier.predict_features(given)}
    assert ("speaker 11" in known) == refit
    assert classifier.metrics["open_set"]["split_by"] == "given"
    assert classifier.threshold is not None


def test_without_a_validation_split_an_eighth_of_train_selects(made_up: MadeUp) -> None:
    features = give(made_up(), np.tile(np.repeat([0, 2], [16, 4]), 12))
    rows = split_rows(features, "given", FRACTIONS, seed=0)
    assert (len(rows.train), len(rows.validation), len(rows.test)) == (192, 192 * SELECTION_SHARE, 48)
    assert set(rows.validation) <= set(rows.train)
    assert not set(rows.train) & set(rows.test)
    comparison = compare_heads(features, ["lda"], split_by="given")
    assert "192 train (including 24 validation), 48 test" in comparison.table()


def test_sessions_in_train_and_test_are_reported(given: FeatureSet) -> None:
    leaks = compare_heads(given, ["centroid"], split_by="given").leaks
    assert "split by given: 100 % of test utterances are from sessions with training utterances" in leaks


def test_other_splits_do_not_use_the_given_ones(given: FeatureSet) -> None:
    plain = compare_heads(replace(given, splits=None), ["lda"])
    for row, other in zip(compare_heads(given, ["lda"]).rows, plain.rows, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}


def test_splits_that_share_no_speaker_are_refused_before_extraction(made_up: MadeUp) -> None:
    message = r"closed-set identification is not possible .* Use speaker_verification\.py, or --split_by utterance"
    features = give(made_up(), np.repeat([0, 2], 120))
    with pytest.raises(CorpusError, match=message):
        compare_heads(features, ["lda"], split_by="given")
    utterances = tuple(
        Utterance(f"{name}.wav", features.speakers[label], "s", split=SPLITS[split])  # type: ignore[arg-type]
        for name, label, split in zip(range(240), features.labels.tolist(), np.repeat([0, 2], 120), strict=True)
    )
    with pytest.raises(CorpusError, match=message):
        check_split(Corpus(utterances, utterances[0].root, "made"), "given", FRACTIONS, seed=0)


def test_features_without_splits_are_refused(made_up: MadeUp) -> None:
    with pytest.raises(HeadError, match="The features hold no splits that the corpus gives"):
        compare_heads(made_up(), ["lda"], split_by="given")


def test_training_split_of_one_speaker_is_refused(made_up: MadeUp) -> None:
    splits = np.full(240, 2)
    splits[:10] = 0
    with pytest.raises(HeadError, match="The given training split has one speaker"):
        compare_heads(give(made_up(), splits), ["lda"], split_by="given")
