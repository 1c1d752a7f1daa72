"""Bootstrap intervals over speakers: cases by hand, properties, and how often they contain the true value."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import difference_interval, ratio_interval

COUNTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30).filter(
    lambda pairs: sum(count for _, count in pairs) > 0
)


def columns(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [min(hit, count) for hit, count in pairs], [count for _, count in pairs]


@given(COUNTS)
@settings(max_examples=60, deadline=None)
def test_interval_contains_the_share(pairs: list[tuple[int, int]]) -> None:
    hits, counts = columns(pairs)
    low, high = ratio_interval(hits, counts, confidence=0.999)
    assert 0 <= low <= high <= 1
    present = [hit / count for hit, count in zip(hits, counts, strict=True) if count]
    assert min(present) - 1e-12 <= low
    assert high <= max(present) + 1e-12
    assert low - 1e-12 <= sum(hits) / sum(counts) <= high + 1e-12 or len(present) > 6


@given(COUNTS)
@settings(max_examples=30, deadline=None)
def test_equal_shares_have_no_difference(pairs: list[tuple[int, int]]) -> None:
    hits, counts = columns(pairs)
    assert difference_interval(hits, counts, other_hits=hits, other_counts=counts) == (0, 0)


def test_interval_of_two_speakers_spans_their_shares() -> None:
    assert ratio_interval([4, 0], [4, 4]) == (0, 1)
    assert ratio_interval([3, 1], [4, 4]) == (0.25, 0.75)
    assert ratio_interval([3], [4]) == (0.75, 0.75)


def test_pairing_removes_the_variation_between_speakers() -> None:
    random = np.random.default_rng(0)
    counts = np.full(40, 20)
    hard = random.binomial(20, random.uniform(0.2, 1, 40))  # speakers differ much
    better = np.minimum(hard + random.binomial(2, 0.7, 40), 20)  # one head is a little better for nearly all
    low, high = difference_interval(better, counts, other_hits=hard, other_counts=counts)
    assert 0.02 < low < high < 0.12
    first, second = ratio_interval(better, counts), ratio_interval(hard, counts)
    assert first[0] < second[1]  # the unpaired intervals overlap


@pytest.mark.parametrize("n_speakers", [6, 10, 40])
def test_ratio_interval_has_its_confidence_level(n_speakers: int) -> None:
    random = np.random.default_rng(0)
    n_contained = 0
    for trial in range(200):
        accuracies = random.beta(8, 2, n_speakers)  # their mean is 0.8
        hits, counts = random.binomial(10, accuracies), np.full(n_speakers, 10)
        low, high = ratio_interval(hits, counts, n_draws=1000, seed=trial)
        n_contained += low <= 0.8 <= high
    assert 0.89 <= n_contained / 200 <= 0.995


@pytest.mark.parametrize("n_speakers", [6, 10, 40])
def test_equally_good_heads_seldom_differ(n_speakers: int) -> None:
    random = np.random.default_rng(1)
    n_different = 0
    for trial in range(200):
        accuracies = random.beta(8, 2, n_speakers)
        one, other = random.binomial(10, accuracies), random.binomial(10, accuracies)
        counts = np.full(n_speakers, 10)
        low, high = difference_interval(one, counts, other_hits=other, other_counts=counts, n_draws=1000, seed=trial)
        n_different += low > 0 or high < 0
    assert n_different / 200 <= 0.09


def test_few_speakers_have_a_wide_interval() -> None:
    """A few speakers that are always right or always wrong are little evidence, even with many utterances."""
    low, high = ratio_interval([100, 100, 100, 0], [100] * 4)
    assert high - low >= 0.5


def test_seed_fixes_the_draws_and_blocks_do_not_matter() -> None:
    hits, counts = np.arange(30) % 7, np.full(30, 7)
    assert ratio_interval(hits, counts, seed=1) == ratio_interval(hits, counts, seed=1)
    assert ratio_interval(hits, counts, seed=1) != ratio_interval(hits, counts, seed=2)
    few, many = ratio_interval(hits, counts, n_draws=2000), ratio_interval(hits, counts, n_draws=20_000)
    assert few == pytest.approx(many, abs=0.03)


def test_interval_without_utterances_is_nan() -> None:
    assert all(map(math.isnan, ratio_interval([], [])))
    assert all(map(math.isnan, ratio_interval([0, 0], [0, 0])))
    assert all(map(math.isnan, difference_interval([1], [1], other_hits=[0], other_counts=[0])))


def test_intervals_refuse_shapes_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="hits and counts"):
        ratio_interval([1, 2], [3])
    with pytest.raises(ValueError, match="same speakers"):
        difference_interval([1, 2], [3, 3], other_hits=[1], other_counts=[3])
