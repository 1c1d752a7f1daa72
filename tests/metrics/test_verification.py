"""Error rates of trials: cases by hand, comparison with exhaustive counting, and properties."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from metrics import cllr, equal_error_rate, equal_error_threshold, error_rates, min_cllr, min_dcf, trial_interval

Trial = tuple[bool, float]
TRIALS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0])), min_size=2, max_size=25
).filter(lambda trials: 0 < sum(label for label, _ in trials) < len(trials))


def columns(trials: list[Trial]) -> tuple[list[bool], list[float]]:
    return [label for label, _ in trials], [score for _, score in trials]


def points_by_counting(trials: list[Trial]) -> list[tuple[float, float]]:
    """Return (false accept, miss) at every threshold, each by counting all trials."""
    targets = [score for label, score in trials if label]
    nontargets = [score for label, score in trials if not label]
    thresholds = [math.inf, *sorted({score for _, score in trials}, reverse=True)]
    return [
        (
            sum(score >= threshold for score in nontargets) / len(nontargets),
            sum(score < threshold for score in targets) / len(targets),
        )
        for threshold in thresholds
    ]


def test_equal_error_rate_of_the_from_scratch_systems() -> None:
    scores = [0.2, 0.3, 0.4, 0.59, 0.6, 0.588, 0.602, 0.7, 0.8, 0.9]
    assert equal_error_rate([0] * 5 + [1] * 5, scores) == pytest.approx(0.2)


def test_figures_by_hand() -> None:
    assert equal_error_rate([1, 0], [2.0, 1.0]) == 0
    assert equal_error_rate([1, 0], [1.0, 2.0]) == 1
    assert equal_error_rate([1, 0], [1.0, 1.0]) == 0.5
    assert min_dcf([1, 0], [2.0, 1.0]) == 0
    assert min_dcf([1, 0], [1.0, 2.0]) == 1  # rejecting all trials is best
    # Three of four targets are above all nontargets: that threshold has 25 % misses and no false accepts.
    assert min_dcf([1, 1, 1, 1, 0, 0], [5, 4, 3, 1, 2, 0], p_target=0.01) == pytest.approx(0.25)
    assert min_dcf([1, 1, 0, 0], [3, 1, 2, 0], p_target=0.5) == pytest.approx(0.5)
    assert cllr([1, 0], [0.0, 0.0]) == pytest.approx(1)
    assert cllr([1, 0], [math.log(3), -math.log(3)]) == pytest.approx(math.log2(4 / 3))
    assert cllr([1, 0], [math.inf, -math.inf]) == 0
    assert min_cllr([1, 1, 0], [3.0, 2.0, 1.0]) == 0
    assert min_cllr([1, 0, 1, 0], [1.0, 1.0, 1.0, 1.0]) == pytest.approx(1)


@given(TRIALS)
@settings(max_examples=150, deadline=None)
def test_error_rates_equal_counting(trials: list[Trial]) -> None:
    rates = error_rates(*columns(trials))
    np.testing.assert_allclose(
        np.stack([rates.false_accept, rates.miss], axis=1), points_by_counting(trials), atol=1e-12
    )


def test_equal_error_threshold_is_halfway_between_scores() -> None:
    assert equal_error_threshold([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1]) == pytest.approx(0.5)
    assert equal_error_threshold([1, 0], [0.3, 0.3]) == 0.3


@given(TRIALS)
@settings(max_examples=150, deadline=None)
def test_equal_error_threshold_balances_the_errors(trials: list[Trial]) -> None:
    labels, scores = map(np.array, columns(trials))
    threshold = equal_error_threshold(labels, scores)
    targets, nontargets = scores[labels], scores[~labels]
    assert (targets < threshold).mean() <= (nontargets >= threshold).mean() + 1e-9
    above = scores[scores > threshold].min(initial=np.inf)
    assert (targets <= above).mean() >= (nontargets > above).mean() - 1e-9


@given(TRIALS)
@settings(max_examples=150, deadline=None)
def test_equal_error_rate_is_interpolated_where_the_rates_cross(trials: list[Trial]) -> None:
    found = equal_error_rate(*columns(trials))
    expected = []
    for (fa, miss), (next_fa, next_miss) in itertools.pairwise(points_by_counting(trials)):
        if fa <= miss and next_fa >= next_miss:
            share = (miss - fa) / ((miss - fa) + (next_fa - next_miss)) if (fa, miss) != (next_fa, next_miss) else 0
            expected.append(fa + share * (next_fa - fa))
    assert any(found == pytest.approx(value, abs=1e-9) for value in expected)


@given(TRIALS, st.sampled_from([0.01, 0.05, 0.5]), st.floats(0.1, 10), st.floats(0.1, 10))
@settings(max_examples=100, deadline=None)
def test_min_dcf_is_the_lowest_cost_of_all_thresholds(
    trials: list[Trial], p_target: float, c_miss: float, c_fa: float
) -> None:
    costs = [c_miss * p_target * miss + c_fa * (1 - p_target) * fa for fa, miss in points_by_counting(trials)]
    lowest = min(costs) / min(c_miss * p_target, c_fa * (1 - p_target))
    found = min_dcf(*columns(trials), p_target, c_miss=c_miss, c_false_accept=c_fa)
    assert found == pytest.approx(lowest)
    assert 0 <= found <= 1


@given(TRIALS)
@settings(max_examples=100, deadline=None)
def test_no_linear_calibration_is_better_than_min_cllr(trials: list[Trial]) -> None:
    labels, scores = columns(trials)
    lowest = min_cllr(labels, scores)
    assert -1e-9 <= lowest <= 1 + 1e-9
    prior = math.log(sum(labels) / (len(labels) - sum(labels)))
    for slope in (0.0, 0.3, 1.0, 3.0):
        for offset in (-1.0, 0.0, prior):
            assert lowest <= cllr(labels, [slope * score + offset for score in scores]) + 1e-9


FIGURES: list[Callable[..., float]] = [equal_error_rate, min_dcf, min_cllr]


@given(TRIALS)
@settings(max_examples=60, deadline=None)
def test_figures_depend_on_the_order_of_scores_only(trials: list[Trial]) -> None:
    labels, scores = columns(trials)
    for figure in FIGURES:
        value = figure(labels, scores)
        assert figure(labels, [math.atan(score) * 7 + 3 for score in scores]) == pytest.approx(value, abs=1e-9)
        shuffled = trials[::-1]
        assert figure(*columns(shuffled)) == pytest.approx(value, abs=1e-9)


@given(TRIALS, st.data())
@settings(max_examples=60, deadline=None)
def test_weight_is_a_number_of_repetitions(trials: list[Trial], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(trials), max_size=len(trials)))
    repeated = [trial for trial, weight in zip(trials, weights, strict=True) for _ in range(weight)]
    labels, scores = columns(trials)
    if not 0 < sum(label for label, _ in repeated) < len(repeated):
        with pytest.raises(ValueError, match="no targets or no nontargets"):
            error_rates(labels, scores, weights)
        return
    for figure in (*FIGURES, cllr):
        assert figure(labels, scores, weights=weights) == pytest.approx(figure(*columns(repeated)), abs=1e-9)


@pytest.mark.parametrize("figure", [equal_error_rate, min_dcf, cllr, min_cllr, error_rates])
def test_unusable_trials_are_refused(figure: Callable[..., object]) -> None:
    for labels, scores, message in (
        ([1, 1], [1.0, 2.0], "there are 2 target and 0 nontarget trials; both kinds are needed"),
        ([0, 0], [1.0, 2.0], "0 target and 2 nontarget"),
        ([], [], "0 target and 0 nontarget"),
        ([1, 0], [math.nan, 2.0], "1 scores are NaN"),
        ([1, 2], [1.0, 2.0], "must be 1"),
        ([1, 0], [1.0], r"expected \(n,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            figure(labels, scores)


def test_priors_and_costs_out_of_range_are_refused() -> None:
    for settings_ in ({"p_target": 0.0}, {"p_target": 1.0}, {"c_miss": 0.0}, {"c_false_accept": -1.0}):
        with pytest.raises(ValueError, match="expected 0 < p_target < 1"):
            min_dcf([0, 1], [0.0, 1.0], **settings_)


def test_infinite_scores_are_accepted() -> None:
    assert equal_error_rate([1, 0, 1, 0], [math.inf, -math.inf, 0.0, -1.0]) == 0
    for labels in ([1, 0], [0, 1]):
        assert equal_error_rate(labels, [math.inf, math.inf]) == 0.5
        assert min_cllr(labels, [-math.inf, -math.inf]) == pytest.approx(1)


@pytest.mark.parametrize("figure", [equal_error_rate, min_dcf, cllr, min_cllr])
def test_unusable_weights_are_refused(figure: Callable[..., float]) -> None:
    for weights, message in (([0, 1], "no targets or no nontargets"), ([1], "weights"), ([-1, 1], "0 or more")):
        with pytest.raises(ValueError, match=message):
            figure([1, 0], [1.0, 0.0], weights=weights)


def trials_of(
    n_speakers: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return scores, first and second speakers of all pairs of utterances, four per speaker, in one dimension."""
    speakers = np.repeat(np.arange(n_speakers), 4)
    rows = random.normal(0, 2, n_speakers)[speakers] + random.standard_normal(len(speakers))
    first, second = np.triu_indices(len(speakers), 1)
    return -np.abs(rows[first] - rows[second]), speakers[first], speakers[second]


def test_trial_interval_contains_the_true_value() -> None:
    random = np.random.default_rng(0)
    scores, one, other = trials_of(400, random)
    truth = equal_error_rate(one == other, scores)
    n_contained = 0
    for draw in range(60):
        scores, one, other = trials_of(12, random)
        figure = partial(equal_error_rate, one == other, scores)
        low, high = map(float, trial_interval(figure, one, other, n_draws=200, seed=draw))
        assert low <= high
        n_contained += int(low <= truth <= high)
    assert n_contained >= 50


def test_several_figures_share_their_draws() -> None:
    scores, one, other = trials_of(8, np.random.default_rng(0))
    labels = one == other

    def both(weights: NDArray[np.float64]) -> list[float]:
        return [equal_error_rate(labels, scores, weights), min_dcf(labels, scores, weights=weights)]

    low, high = trial_interval(both, one, other, n_draws=50)
    single = trial_interval(lambda weights: both(weights)[1], one, other, n_draws=50)
    assert low.shape == high.shape == (2,)
    assert (low[1], high[1]) == (float(single[0]), float(single[1]))


def test_weights_of_trials_are_counts_of_drawn_speakers() -> None:
    seen = []

    def remember(weights: NDArray[np.float64]) -> float:
        seen.append(weights)
        return 0.0

    one, other = np.array([0, 0, 1, 2, 3, 0]), np.array([0, 1, 1, 2, 3, 3])
    trial_interval(remember, one, other, n_draws=50)
    assert len(seen) == 50
    for weights in seen:
        drawn = weights[[0, 2, 3, 4]]  # the targets of the four speakers
        assert drawn.sum() == 4
        assert weights[1] == drawn[0] * drawn[1]
        assert weights[5] == drawn[0] * drawn[3]


@pytest.mark.parametrize("n_speakers", [1, 3])
def test_too_few_speakers_have_no_trial_interval(n_speakers: int) -> None:
    scores, one, other = trials_of(n_speakers, np.random.default_rng(0))
    low, high = trial_interval(lambda weights: float(weights @ scores), one, other)
    assert math.isnan(low)
    assert math.isnan(high)


def test_thinned_error_rates_are_points_of_the_curve_with_both_ends() -> None:
    random = np.random.default_rng(0)
    labels = random.random(50_000) < 0.1
    rates = error_rates(labels, random.standard_normal(50_000) + labels)
    thinned = rates.thinned(100)
    assert 100 < len(thinned.thresholds) <= 300
    places = np.searchsorted(-rates.thresholds, -thinned.thresholds)
    for name in ("thresholds", "false_accept", "miss"):
        np.testing.assert_array_equal(getattr(thinned, name), getattr(rates, name)[places])
    assert (places[0], places[-1]) == (0, len(rates.thresholds) - 1)
    few = error_rates([1, 0], [0.5, 0.1])
    assert few.thinned().thresholds.tolist() == few.thresholds.tolist()
