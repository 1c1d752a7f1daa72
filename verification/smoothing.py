"""Smooth the decisions about the windows of a recording: the most probable path, and a minimum length of turns."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Choice for a window that belongs to no speaker.
NOBODY = -1


def most_probable_path(evidence: NDArray[np.float64], switch_cost: float) -> NDArray[np.int64]:
    """Choose a speaker for each window so that the evidence minus the cost of all changes is highest (Viterbi).

    Parameters
    ----------
    evidence : ndarray (n, k)
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
    n_windows, n_speakers = evidence.shape
    # For each window and speaker, the speaker of the window before on the best path.
    before = np.zeros((n_windows, n_speakers), np.int64)
    total = np.zeros(n_speakers)
    for window in range(n_windows):
        best = int(total.argmax())
        stays = total >= total[best] - switch_cost
        before[window] = np.where(stays, np.arange(n_speakers), best)
        total = np.where(stays, total, total[best] - switch_cost) + evidence[window]
        total -= total.max()  # the sums of a long recording stay small
    path = np.empty(n_windows, np.int64)
    number = int(total.argmax()) if n_windows else 0
    for window in reversed(range(n_windows)):
        path[window] = number
        number = int(before[window, number])
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
    choices = choices.copy()
    while runs := [run for run in runs_of(choices, spans) if choices[run[0]] != NOBODY]:
        lengths = [spans[last, 1] - spans[first, 0] for first, last in runs]
        number = int(np.argmin(lengths))
        first, last = runs[number]
        if lengths[number] >= min_seconds - 1e-6:
            break
        adjacent = []
        if number > 0 and spans[runs[number - 1][1], 1] == spans[first, 0]:
            adjacent.append(number - 1)
        if number + 1 < len(runs) and spans[last, 1] == spans[runs[number + 1][0], 0]:
            adjacent.append(number + 1)
        longest = max(adjacent, key=lambda each: lengths[each], default=None)
        choices[first : last + 1] = NOBODY if longest is None else choices[runs[longest][0]]
    return choices


def runs_of(choices: NDArray[np.int64], spans: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the first and last window of each run of windows with the same choice whose spans touch."""
    is_first = (choices[1:] != choices[:-1]) | (spans[1:, 0] != spans[:-1, 1])
    bounds = [0, *(np.flatnonzero(is_first) + 1).tolist(), len(choices)]
    return [(first, end - 1) for first, end in pairwise(bounds) if end > first]
