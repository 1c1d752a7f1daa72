"""Smooth the decisions about the windows of a recording: the most probable path, and a minimum length of turns."""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Choice for a window that belongs to no speaker.
NOBODY = -1


def most_probable_path(evidence: Iterable[NDArray[np.float64]], switch_cost: float) -> NDArray[np.int64]:
    """Choose a speaker for each window so that the evidence minus the cost of all changes is highest (Viterbi).

    Parameters
    ----------
    evidence : iterable of ndarray (k,), or ndarray (n, k)
        Log-likelihood of each of k speakers for each of n windows in order of time, up to a constant per window.
    switch_cost : float
        Cost of a change of the speaker from one window to the next. With 0, each window is decided alone.

    Returns
    -------
    ndarray (n,)
        int64, number of a speaker; ties are broken by the lowest number.

    Examples
    --------
    >>> evidence = np.array([[2.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    >>> most_probable_path(evidence, 0.0).tolist(), most_probable_path(evidence, 1.0).tolist()
    ([0, 1, 0], [0, 0, 0])
    """
    # For each window, the best speaker of the window before, and the speakers that the path keeps.
    best: list[int] = []
    stays: list[NDArray[np.bool_]] = []
    total = np.zeros(1)
    for row in evidence:
        best.append(int(total.argmax()))
        highest = total[best[-1]] - switch_cost
        stays.append(np.broadcast_to(total >= highest, row.shape))
        total = np.maximum(total, highest) + row
        total -= total.max()  # the sums of a long recording stay small
    path = np.empty(len(best), np.int64)
    number = int(total.argmax())
    for window in reversed(range(len(path))):
        path[window] = number
        number = number if stays[window][number] else best[window]
    return path


def absorb_short_turns(choices: NDArray[np.int64], spans: NDArray[np.float64], min_seconds: float) -> NDArray[np.int64]:
    """Give turns that are too short to the longer adjacent turn, the shortest first.

    A turn is a run of windows with the same choice whose spans touch. A short turn that touches no other becomes
    `NOBODY`.

    Parameters
    ----------
    choices : ndarray (n,)
        int64, number of the speaker of each window.
    spans : ndarray (n, 2)
        Start and end of each window's part of the recording (seconds).
    min_seconds : float
        Minimum length of a turn (seconds).
    """
    choices, starts, ends = choices.copy(), spans[:, 0].tolist(), spans[:, 1].tolist()
    # The last window of each turn by its first one, and the other way round.
    last_of = {first: last for first, last in runs_of(choices, spans) if choices[first] != NOBODY}
    first_of = {last: first for first, last in last_of.items()}

    def seconds(first: int) -> float:
        return float(ends[last_of[first]] - starts[first])

    shortest = [(seconds(first), first) for first in last_of]
    heapify(shortest)
    while shortest and shortest[0][0] < min_seconds - 1e-6:
        length, first = heappop(shortest)
        if first not in last_of or seconds(first) != length:  # it is a part of a longer turn by now
            continue
        last, adjacent = last_of[first], []
        if first - 1 in first_of and ends[first - 1] == starts[first]:
            adjacent.append(first_of[first - 1])
        if last + 1 in last_of and ends[last] == starts[last + 1]:
            adjacent.append(last + 1)
        longest = max(adjacent, key=seconds, default=None)
        choices[first : last + 1] = NOBODY if longest is None else choices[longest]
        joined = [first, *(each for each in adjacent if choices[each] == choices[first])]
        first, last = min(joined), max(last_of[each] for each in joined)
        for each in joined:
            del first_of[last_of.pop(each)]
        if longest is not None:
            last_of[first], first_of[last] = last, first
            heappush(shortest, (seconds(first), first))
    return choices


def runs_of(choices: NDArray[np.int64], spans: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the first and last window of each run of windows with the same choice whose spans touch."""
    is_first = (choices[1:] != choices[:-1]) | (spans[1:, 0] != spans[:-1, 1])
    bounds = [0, *(np.flatnonzero(is_first) + 1).tolist(), len(choices)]
    return [(first, end - 1) for first, end in pairwise(bounds) if end > first]
