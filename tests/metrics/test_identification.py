"""Figures of identification: against scikit-learn, by hand, and cases that must not make them optimistic."""

import math
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from metrics import detection_identification_rate, expected_calibration_error, log_loss, macro_f1, ranks, top_k_accuracy

Scores = NDArray[np.float64]


@st.composite
def scored(draw: st.DrawFn, ties: bool) -> tuple[NDArray[np.int64], Scores]:
    """Draw labels (n,) and scores (n, n_classes), with or without ties within rows."""
    n, n_classes = draw(st.integers(1, 12)), draw(st.integers(3, 6))
    labels = draw(hnp.arrays(np.int64, n, elements=st.integers(0, n_classes - 1)))
    if ties:
        scores = draw(hnp.arrays(np.float64, (n, n_classes), elements=st.integers(-2, 2)))
    else:
        scores = np.array([draw(st.permutations(range(n_classes))) for _ in range(n)]) * 0.37 - 1.0
    return labels, scores


# Top-k accuracy


@settings(deadline=None, max_examples=50)
@given(scored(ties=False), st.integers(1, 5))
def test_top_k_without_ties_equals_scikit_learn(drawn: tuple[NDArray[np.int64], Scores], k: int) -> None:
    labels, scores = drawn
    n_classes = scores.shape[1]
    k = min(k, n_classes - 1)
    expected = sklearn.metrics.top_k_accuracy_score(labels, scores, k=k, labels=np.arange(n_classes))
    assert top_k_accuracy(labels, scores, k) == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(scored(ties=True))
def test_top_k_grows_with_k_up_to_one(drawn: tuple[NDArray[np.int64], Scores]) -> None:
    labels, scores = drawn
    n_classes = scores.shape[1]
    accuracies = [top_k_accuracy(labels, scores, k) for k in range(1, n_classes + 3)]
    assert accuracies == sorted(accuracies)
    assert accuracies[0] >= 0
    assert set(accuracies[n_classes - 1 :]) == {1.0}


@settings(deadline=None, max_examples=50)
@given(scored(ties=True), st.integers(1, 5))
def test_ties_count_as_errors(drawn: tuple[NDArray[np.int64], Scores], k: int) -> None:
    labels, scores = drawn
    lowered = scores.copy()
    lowered[np.arange(len(labels)), labels] -= 0.5  # less than the difference of two scores
    assert top_k_accuracy(labels, scores, k) == top_k_accuracy(labels, lowered, k)


@settings(deadline=None, max_examples=50)
@given(scored(ties=True), st.integers(1, 5), st.randoms(use_true_random=False))
def test_order_of_columns_and_rows_does_not_matter(
    drawn: tuple[NDArray[np.int64], Scores], k: int, random: Random
) -> None:
    labels, scores = drawn
    columns = random.sample(range(scores.shape[1]), scores.shape[1])
    rows = random.sample(range(len(labels)), len(labels))
    expected = top_k_accuracy(labels, scores, k)
    assert top_k_accuracy(labels, scores[:, columns], k, classes=columns) == pytest.approx(expected)
    assert top_k_accuracy(labels[rows], scores[rows], k) == pytest.approx(expected)
    names = np.array(["zoë", "ann", "bob", "84", "x", ""])
    assert top_k_accuracy(names[labels], scores, k, classes=names[: scores.shape[1]]) == pytest.approx(expected)


def test_top_k_by_hand() -> None:
    labels = ["ann", "bob", "carl", "ann"]
    scores = [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [-2.0, -1.0, -1.5]]
    classes = ["ann", "bob", "carl"]
    assert [top_k_accuracy(labels, scores, k, classes=classes) for k in (1, 2, 3, 99)] == [0.25, 0.5, 1.0, 1.0]
    assert top_k_accuracy([0, 1, 2, 0], scores) == 0.25


@pytest.mark.parametrize("value", [0.0, 1.0, -np.inf, np.inf])
def test_constant_scores_are_never_correct(value: float) -> None:
    scores = np.full((10, 4), value)
    assert [top_k_accuracy(np.arange(10) % 4, scores, k) for k in (1, 2, 3, 4)] == [0, 0, 0, 1]


@pytest.mark.parametrize("k", [1, 3, 100])
def test_class_without_a_column_is_an_error(k: int) -> None:
    assert top_k_accuracy([0, 7, 7, 7], [[9.0, 1.0, 2.0]] * 4, k) == 0.25
    assert top_k_accuracy(["ann", "eve"], [[0.9, 0.1]] * 2, k, classes=["ann", "bob"]) == 0.5


def test_single_class_is_always_correct() -> None:
    assert top_k_accuracy([0, 0], [[1.0], [-1.0]]) == 1.0


@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
def test_lists_arrays_and_tensors_are_accepted(kind: Callable[[Any], Any]) -> None:
    labels, scores = kind([0, 1, 1]), kind([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    accuracy = top_k_accuracy(labels, scores)
    assert type(accuracy) is float
    assert accuracy == pytest.approx(2 / 3)
    assert macro_f1(kind([0, 1, 1]), kind([0, 1, 1])) == 1.0
    assert log_loss(labels, kind([[0.0, 0.0]] * 3)) == pytest.approx(math.log(2))


def test_no_utterances_give_nan() -> None:
    assert math.isnan(top_k_accuracy([], np.empty((0, 3))))
    assert math.isnan(macro_f1([], []))
    assert math.isnan(log_loss([], np.empty((0, 3))))


@pytest.mark.parametrize(
    ("labels", "scores", "k", "classes"),
    [
        ([0, 1], [[1.0, 2.0]], 1, None),
        ([0], [[1.0, 2.0], [2.0, 1.0]], 1, None),
        ([0, 1], [[1.0, 2.0], [2.0, 1.0]], 0, None),
        ([0, 1], [[1.0, 2.0], [2.0, 1.0]], -1, None),
        ([0, 1], [[1.0, 2.0], [2.0, 1.0]], 1, [0, 1, 2]),
        ([0, 1], [[[1.0, 2.0], [2.0, 1.0]]] * 2, 1, None),
    ],
)
def test_top_k_refuses_shapes_that_do_not_match(
    labels: list[int], scores: list[list[float]], k: int, classes: list[int] | None
) -> None:
    with pytest.raises(ValueError, match="expected"):
        top_k_accuracy(labels, scores, k, classes=classes)


# Macro-F1


def test_macro_f1_by_hand() -> None:
    labels = ["a", "a", "a", "a", "b", "b", "c"]
    predictions = ["a", "a", "a", "b", "b", "c", "d"]
    # a: precision 1, recall 3/4; b: 1/2, 1/2; c: 0, 0; d is never true, but counts as a speaker
    expected = (6 / 7 + 1 / 2 + 0 + 0) / 4
    assert macro_f1(labels, predictions) == pytest.approx(expected)
    assert macro_f1(np.unique(labels, return_inverse=True)[1], [0, 0, 0, 1, 1, 2, 3]) == pytest.approx(expected)


def test_macro_f1_gives_speakers_the_same_weight() -> None:
    labels = [0] * 98 + [1, 2]
    assert macro_f1(labels, [0] * 100) == pytest.approx(2 * 0.98 / 1.98 / 3)
    assert macro_f1(labels, labels) == 1.0
    assert macro_f1([0, 1], [1, 0]) == 0.0


@pytest.mark.filterwarnings("error")
def test_macro_f1_does_not_warn() -> None:
    result = macro_f1(["a", "b"], ["c", "c"])
    assert type(result) is float
    assert result == 0.0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=20))
def test_macro_f1_is_the_mean_over_speakers(pairs: list[tuple[int, int]]) -> None:
    scores = []
    for speaker in {label for pair in pairs for label in pair}:
        hits = sum(pair == (speaker, speaker) for pair in pairs)
        named = sum(label == speaker for label, _ in pairs) + sum(guess == speaker for _, guess in pairs)
        scores.append(2 * hits / named)
    assert macro_f1(*zip(*pairs, strict=True)) == pytest.approx(sum(scores) / len(scores))


def test_macro_f1_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="inconsistent"):
        macro_f1([0, 1, 1], [0, 1])


# Log loss


def test_log_loss_by_hand() -> None:
    logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    expected = -(math.log(0.25) + math.log(0.8)) / 2
    assert log_loss([2, 1], logits) == pytest.approx(expected)
    assert log_loss(["c", "b"], logits, classes=["a", "b", "c"]) == pytest.approx(expected)
    assert log_loss([9, 7], logits + 1000, classes=[5, 7, 9]) == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(scored(ties=True))
def test_log_loss_equals_scikit_learn(drawn: tuple[NDArray[np.int64], Scores]) -> None:
    labels, logits = drawn
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = sklearn.metrics.log_loss(labels, probabilities, labels=np.arange(logits.shape[1]))
    assert log_loss(labels, logits) == pytest.approx(expected)


def test_log_loss_of_large_logits_is_finite() -> None:
    assert log_loss([0, 1], [[5e4, 0.0], [5e4, 0.0]]) == pytest.approx(2.5e4)
    assert log_loss([0], [[1e4, -1e4]]) == 0.0


@pytest.mark.parametrize(("labels", "classes"), [([0, 3], None), (["ann", "eve"], ["ann", "bob"])])
def test_log_loss_refuses_a_class_without_a_column(labels: list[object], classes: list[object] | None) -> None:
    with pytest.raises(ValueError, match=r"expected a column for each class; the classes \[.*\] have none"):
        log_loss(labels, [[0.0, 1.0]] * 2, classes)  # type: ignore[arg-type]


# Cases that must not make figures optimistic


@pytest.mark.parametrize("row", [[np.nan] * 3, [np.nan, 1.0, 2.0], [np.nan, -1.0, -2.0]])
def test_nan_scores_are_never_correct(row: list[float]) -> None:
    assert not top_k_accuracy([0, 0], [row, row]) > 0


def test_scores_of_one_dimension_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        top_k_accuracy([0, 1], [0.1, 0.9])


def test_log_loss_of_fewer_labels_than_rows() -> None:
    with pytest.raises(ValueError, match=r"shape|expected"):
        log_loss([0], [[0.0, 1.0], [1.0, 0.0]])


def test_ranks_by_hand() -> None:
    scores = [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [2.0, 2.0, 0.0], [math.nan, 1.0, 0.0]]
    assert ranks([0, 0, 1, 0], scores).tolist() == [0, 2, 1, 2]
    assert ranks(["x", "b"], [[1.0, 2.0], [1.0, 2.0]], ["a", "b"]).tolist() == [2, 0]


def test_detection_identification_rate_by_hand() -> None:
    unknown = [0.1, 0.2, 0.3, 0.4]
    scores, right = [0.05, 0.25, 0.35, 0.45, 0.5], [True, True, True, False, True]
    rate = partial(detection_identification_rate, scores, right, unknown)
    assert rate(false_accept=0.0) == pytest.approx(1 / 5)  # above 0.4, and right
    assert rate(false_accept=0.25) == pytest.approx(2 / 5)  # above 0.3
    assert rate(false_accept=0.24) == pytest.approx(1 / 5)
    assert rate(false_accept=0.75) == pytest.approx(3 / 5)
    assert detection_identification_rate([0.4], [True], unknown, false_accept=0.0) == 0  # a tie is not above 0.4
    for arguments in (([], [], [0.1]), ([0.1], [True], []), ([0.1], [True, False], [0.1])):
        with pytest.raises(ValueError, match="expected"):
            detection_identification_rate(*arguments)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=20),
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.floats(0, 0.99),
)
def test_detection_identification_rate_takes_the_best_allowed_threshold(
    known: list[tuple[int, bool]], unknown: list[int], false_accept: float
) -> None:
    scores, right = zip(*known, strict=True)
    allowed = [
        threshold
        for threshold in range(-1, 10)
        if sum(score > threshold for score in unknown) <= false_accept * len(unknown) + 1e-9
    ]
    best = max(np.mean([ok and score > threshold for score, ok in known]) for threshold in allowed)
    assert detection_identification_rate(scores, right, unknown, false_accept=false_accept) == pytest.approx(best)


def test_calibration_error_by_hand() -> None:
    # Two at 0.9 of which one is right, two at 0.6 that are right: |1 - 1.8| and |2 - 1.2|, over 4.
    assert expected_calibration_error([1, 0, 1, 1], [0.9, 0.9, 0.6, 0.6]) == pytest.approx(0.4)
    assert expected_calibration_error([1, 1], [1.0, 1.0]) == 0
    assert expected_calibration_error([0, 0], [1.0, 1.0]) == 1
    assert math.isnan(expected_calibration_error([], []))


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1, width=32)), min_size=1, max_size=60), st.integers(1, 30))
def test_calibration_error_is_the_sum_over_bins(pairs: list[tuple[bool, float]], n_bins: int) -> None:
    error = expected_calibration_error([right for right, _ in pairs], [share for _, share in pairs], n_bins)
    total = 0.0
    for number in range(n_bins):
        own = [
            (right, share)
            for right, share in pairs
            if number / n_bins < share <= (number + 1) / n_bins or (number == 0 and share == 0)
        ]
        if own:
            total += abs(sum(right for right, _ in own) - sum(share for _, share in own))
    assert error == pytest.approx(total / len(pairs), abs=1e-6)
    assert 0 <= error <= 1


def test_calibrated_probabilities_have_a_small_error() -> None:
    random = np.random.default_rng(0)
    shares = random.uniform(0, 1, 100_000)
    assert expected_calibration_error(random.uniform(0, 1, 100_000) < shares, shares) < 0.01
    assert expected_calibration_error(random.uniform(0, 1, 100_000) < shares**2, shares) > 0.1


def test_calibration_error_refuses_shapes_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="n_bins"):
        expected_calibration_error([1], [0.5], 0)
    with pytest.raises(ValueError, match="confidences"):
        expected_calibration_error([1, 0], [0.5])
