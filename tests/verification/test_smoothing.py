"""Smoothing of decisions: the most probable path, and turns that are too short."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verification.smoothing import NOBODY, absorb_short_turns, most_probable_path, runs_of

SEEDS = st.integers(0, 10_000)


@given(SEEDS, st.integers(1, 6), st.integers(1, 4), st.sampled_from([0.0, 0.3, 1.0, 4.0]))
def test_the_path_is_the_best_of_all_paths(seed: int, n_windows: int, n_speakers: int, cost: float) -> None:
    evidence = np.random.default_rng(seed).normal(0, 1, (n_windows, n_speakers))

    def value(path: tuple[int, ...]) -> float:
        changes = sum(one != other for one, other in pairwise(path))
        return float(sum(evidence[window, number] for window, number in enumerate(path)) - cost * changes)

    best = max(value(path) for path in product(range(n_speakers), repeat=n_windows))
    assert value(tuple(most_probable_path(evidence, cost).tolist())) == pytest.approx(best)


def test_a_recording_of_hours_has_an_exact_path() -> None:
    evidence = np.random.default_rng(0).normal(0, 3, (50_000, 5))
    evidence[:25_000, 1] += 2
    evidence[25_000:, 3] += 2
    assert np.array_equal(most_probable_path(evidence, 0.0), evidence.argmax(axis=1))
    path = most_probable_path(evidence, 60.0)
    [change] = np.flatnonzero(path[1:] != path[:-1])
    assert (path[0], path[-1]) == (1, 3)
    assert int(change) == pytest.approx(25_000, abs=20)
    assert most_probable_path(evidence[:0], 1.0).tolist() == []


def random_windows(random: np.random.Generator, n_windows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return choices and spans; some windows do not touch the next one, and many turns are equally long."""
    edges = np.cumsum(random.choice([0.25, 0.5, random.uniform(0.2, 0.8)], n_windows + 1))
    spans = np.stack([edges[:-1], edges[1:]], 1)
    spans[:, 1] -= np.where(random.random(n_windows) < 0.1, 0.125, 0.0)
    return random.integers(NOBODY, 3, n_windows), spans


def absorbed_one_by_one(choices: np.ndarray, spans: np.ndarray, min_seconds: float) -> np.ndarray:
    """Absorb short turns as `absorb_short_turns` defines it, in quadratic time."""
    choices = choices.copy()
    while runs := [run for run in runs_of(choices, spans) if choices[run[0]] != NOBODY]:
        lengths = [spans[last, 1] - spans[first, 0] for first, last in runs]
        number = int(np.argmin(lengths))
        first, last = runs[number]
        if lengths[number] >= min_seconds - 1e-6:
            break
        near = [each for each in (number - 1, number + 1) if 0 <= each < len(runs)]
        near = [each for each in near if spans[runs[min(each, number)][1], 1] == spans[runs[max(each, number)][0], 0]]
        longest = max(near, key=lambda each: lengths[each], default=None)
        choices[first : last + 1] = NOBODY if longest is None else choices[runs[longest][0]]
    return choices


@given(SEEDS, st.integers(0, 40), st.sampled_from([0.0, 0.5, 0.6, 1.0, 3.0]))
def test_short_turns_are_absorbed_one_by_one(seed: int, n_windows: int, min_seconds: float) -> None:
    choices, spans = random_windows(np.random.default_rng(seed), n_windows)
    expected = absorbed_one_by_one(choices, spans, min_seconds)
    assert absorb_short_turns(choices, spans, min_seconds).tolist() == expected.tolist()


def test_a_recording_of_hours_with_many_changes_is_smoothed() -> None:
    random = np.random.default_rng(0)
    edges = np.arange(100_001) / 2
    kept = absorb_short_turns(random.integers(0, 5, 100_000), np.stack([edges[:-1], edges[1:]], 1), 1.0)
    assert all(last > first for first, last in runs_of(kept, np.stack([edges[:-1], edges[1:]], 1)))


@given(SEEDS, st.integers(1, 20), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_no_turn_is_too_short_afterwards(seed: int, n_windows: int, min_seconds: float) -> None:
    random = np.random.default_rng(seed)
    edges = np.cumsum(random.uniform(0.2, 0.8, n_windows + 1))
    spans = np.stack([edges[:-1], edges[1:]], 1)
    spans[:, 1] -= np.where(random.random(n_windows) < 0.2, 0.1, 0.0)  # some windows do not touch the next one
    choices = random.integers(0, 3, n_windows)
    kept = absorb_short_turns(choices, spans, min_seconds)
    for first, last in runs_of(kept, spans):
        assert kept[first] == NOBODY or spans[last, 1] - spans[first, 0] >= min_seconds - 1e-6
    # A window gets a choice of its own stretch of touching windows; a stretch that is long enough loses nothing.
    for first, last in runs_of(np.zeros(n_windows, np.int64), spans):
        assert set(kept[first : last + 1].tolist()) <= {*choices[first : last + 1].tolist(), NOBODY}
        is_long = spans[last, 1] - spans[first, 0] >= min_seconds
        assert (NOBODY in kept[first : last + 1]) == (not is_long)
    if min_seconds == 0:
        assert kept.tolist() == choices.tolist()


def test_a_short_turn_goes_to_the_longer_neighbour() -> None:
    spans = np.array([[0, 1], [1, 2], [2, 2.3], [2.3, 3], [5, 5.2]])
    choices = np.array([0, 0, 1, 2, 1])
    assert absorb_short_turns(choices, spans, 0.5).tolist() == [0, 0, 0, 2, NOBODY]
    assert absorb_short_turns(choices, spans, 0.1).tolist() == choices.tolist()
