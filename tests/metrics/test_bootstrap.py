"""Intervals over speakers: hand-made cases, laws, and how often they hold the truth."""

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
def test_an_interval_lies_around_the_share(pairs: list[tuple[int, int]]) -> None:
    hits, counts = columns(pairs)
    low, high = ratio_interval(hits, counts, confidence=0.999)
    assert 0 <= low <= high <= 1
    present = [hit / count for hit, count in zip(hits, counts, strict=True) if count]
    assert min(present) - 1e-12 <= low
    assert high <= max(present) + 1e-12
    assert low - 1e-12 <= sum(hits) / sum(counts) <= high + 1e-12 or len(present) > 6


@given(COUNTS)
@settings(max_examples=30, deadline=None)
def test_no_one_differs_from_oneself(pairs: list[tuple[int, int]]) -> None:
    assert difference_interval(*columns(pairs), *columns(pairs)) == (0, 0)


def test_two_speakers_span_what_both_are() -> None:
    assert ratio_interval([4, 0], [4, 4]) == (0, 1)
    assert ratio_interval([3, 1], [4, 4]) == (0.25, 0.75)
    assert ratio_interval([3], [4]) == (0.75, 0.75)


def test_the_paired_interval_does_not_see_what_both_share() -> None:
    random = np.random.default_rng(0)
    counts = np.full(40, 20)
    hard = random.binomial(20, random.uniform(0.2, 1, 40))  # speakers differ a lot
    better = np.minimum(hard + random.binomial(2, 0.7, 40), 20)  # one head is a little better for nearly all
    low, high = difference_interval(better, counts, hard, counts)
    assert 0.02 < low < high < 0.12
    first, second = ratio_interval(better, counts), ratio_interval(hard, counts)
    assert first[0] < second[1]  # side by side the intervals overlap


@pytest.mark.parametrize("n_speakers", [6, 10, 40])
def test_it_holds_the_truth_about_as_often_as_it_says(n_speakers: int) -> None:
    random = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        chances = random.beta(8, 2, n_speakers)  # the share of all speakers is 0.8
        hits, counts = random.binomial(10, chances), np.full(n_speakers, 10)
        low, high = ratio_interval(hits, counts, n_draws=1000, seed=trial)
        held += low <= 0.8 <= high
    assert 0.89 <= held / 200 <= 0.995


@pytest.mark.parametrize("n_speakers", [6, 10, 40])
def test_two_heads_that_are_alike_seldom_seem_to_differ(n_speakers: int) -> None:
    random = np.random.default_rng(1)
    apart = 0
    for trial in range(200):
        chances = random.beta(8, 2, n_speakers)
        one, other = random.binomial(10, chances), random.binomial(10, chances)
        counts = np.full(n_speakers, 10)
        low, high = difference_interval(one, counts, other, counts, n_draws=1000, seed=trial)
        apart += low > 0 or high < 0
    assert apart / 200 <= 0.09


def test_drawing_utterances_would_promise_too_much() -> None:
    """A few speakers that are always right or always wrong say little, however many utterances there are."""
    low, high = ratio_interval([100, 100, 100, 0], [100] * 4)
    assert high - low >= 0.5


def test_the_same_seed_draws_the_same_and_blocks_do_not_count() -> None:
    hits, counts = np.arange(30) % 7, np.full(30, 7)
    assert ratio_interval(hits, counts, seed=1) == ratio_interval(hits, counts, seed=1)
    assert ratio_interval(hits, counts, seed=1) != ratio_interval(hits, counts, seed=2)
    few, many = ratio_interval(hits, counts, n_draws=2000), ratio_interval(hits, counts, n_draws=20_000)
    assert few == pytest.approx(many, abs=0.03)


def test_nothing_to_draw_from_is_nan() -> None:
    assert all(map(math.isnan, ratio_interval([], [])))
    assert all(map(math.isnan, ratio_interval([0, 0], [0, 0])))
    assert all(map(math.isnan, difference_interval([1], [1], [0], [0])))


def test_shapes_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="hits and counts"):
        ratio_interval([1, 2], [3])
    with pytest.raises(ValueError, match="same speakers"):
        difference_interval([1, 2], [3, 3], [1], [3])
