"""Confidence intervals of figures, by a bootstrap over speakers.

Speakers are drawn, not utterances: the utterances of a speaker are alike, so drawing them would give intervals that are
too narrow.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Number of draws at a time, to bound the memory for many speakers.
BLOCK = 250
# Minimum number of speakers for an interval over trials.
MIN_BOOTSTRAP_SPEAKERS = 4


def ratio_interval(
    hits: ArrayLike, counts: ArrayLike, *, confidence: float = 0.95, n_draws: int = 4000, seed: int = 0
) -> tuple[float, float]:
    """Compute the interval of a share, such as the accuracy, by the expanded percentile bootstrap over speakers.

    Parameters
    ----------
    hits : array-like (n_speakers,)
        Number of hits of each speaker, such as correctly identified utterances.
    counts : array-like (n_speakers,)
        Number of utterances of each speaker.
    confidence : float
        Confidence level of the interval, from 0 to 1.
    n_draws : int
        Number of sets of speakers that are drawn with replacement.
    seed : int
        Random seed of the draws.

    Returns
    -------
    (float, float)
        Lower and upper bound of ``sum(hits) / sum(counts)``; NaN without utterances. Without any errors the interval
        has zero width, since no draw can contain one.

    Raises
    ------
    ValueError
        The shapes differ.

    Examples
    --------
    >>> ratio_interval([3, 1], [4, 4])
    (0.25, 0.75)
    """
    no_speakers = np.zeros(0), np.zeros(0)
    return _interval(_columns(hits, counts), no_speakers, confidence=confidence, n_draws=n_draws, seed=seed)


def difference_interval(
    hits: ArrayLike,
    counts: ArrayLike,
    *,
    other_hits: ArrayLike,
    other_counts: ArrayLike,
    confidence: float = 0.95,
    n_draws: int = 4000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute the interval of the difference of two shares, by a paired bootstrap over the same speakers.

    Parameters
    ----------
    hits, counts, other_hits, other_counts : array-like (n_speakers,)
        As for `ratio_interval`; each draw has the same speakers on both sides.
    confidence, n_draws, seed
        As for `ratio_interval`.

    Returns
    -------
    (float, float)
        Lower and upper bound of the first share minus the other. The difference is significant if 0 is outside.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    return _interval(
        _columns(hits, counts), _columns(other_hits, other_counts), confidence=confidence, n_draws=n_draws, seed=seed
    )


def trial_interval(
    statistic: Callable[[NDArray[np.float64]], ArrayLike],
    first: ArrayLike,
    second: ArrayLike,
    *,
    confidence: float = 0.95,
    n_draws: int = 400,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the intervals of figures of trials, such as the EER, by the expanded bootstrap over speakers.

    The weight of a target trial is the number of times that its speaker was drawn; that of a nontarget trial is the
    product of these numbers for its two speakers. Drawing trials instead would give intervals that are too narrow,
    since trials that share a speaker are not independent.

    Parameters
    ----------
    statistic : callable
        Function from the weights of the trials (n,) to a figure or an array of figures. A draw for which it raises
        ValueError (because it has no targets, for example) is skipped.
    first, second : array-like (n,)
        int, speakers of the two sides, numbered from 0.
    confidence, n_draws, seed
        As for `ratio_interval`.

    Returns
    -------
    (ndarray, ndarray)
        Lower and upper bounds, in the shape of the figures; NaN if no draw has a figure, or for fewer than 4 speakers.
    """
    one, other = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    present, numbers = np.unique(np.stack([one, other]), return_inverse=True)
    one, other = numbers.reshape(2, -1)
    same = one == other
    if len(present) < MIN_BOOTSTRAP_SPEAKERS:  # too many draws would have a single speaker, and no nontargets
        return np.array(np.nan), np.array(np.nan)
    figures = []
    for weights in _draws(len(present), n_draws, seed):
        for drawn in weights:
            try:
                figures.append(statistic(np.where(same, drawn[one], drawn[one] * drawn[other])))
            except ValueError:
                continue
    if not figures:
        return np.array(np.nan), np.array(np.nan)
    return _percentiles(np.array(figures, dtype=np.float64), len(present), confidence)


Columns = tuple[NDArray[np.float64], NDArray[np.float64]]


def _columns(hits: ArrayLike, counts: ArrayLike) -> Columns:
    columns = np.asarray(hits, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if columns[0].ndim != 1 or columns[0].shape != columns[1].shape:
        raise ValueError(f"expected (n_speakers,) hits and counts; got {columns[0].shape} and {columns[1].shape}")
    return columns


def _interval(first: Columns, other: Columns, *, confidence: float, n_draws: int, seed: int) -> tuple[float, float]:
    n_speakers = len(first[0])
    paired = bool(len(other[0]))
    if paired and len(other[0]) != n_speakers:
        raise ValueError(f"expected the same speakers on both sides; got {n_speakers} and {len(other[0])}")
    if not n_speakers or not first[1].sum() or (paired and not other[1].sum()):
        return float("nan"), float("nan")
    shares = []
    with np.errstate(invalid="ignore"):  # a draw of speakers without utterances gives NaN, which is left out
        for weights in _draws(n_speakers, n_draws, seed):
            share = (weights @ first[0]) / (weights @ first[1])
            shares.append(share - (weights @ other[0]) / (weights @ other[1]) if paired else share)
    low, high = _percentiles(np.concatenate(shares), n_speakers, confidence)
    return float(low), float(high)


def _percentiles(
    figures: NDArray[np.float64], n_speakers: int, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the expanded percentiles (Hesterberg, 2015) over the first axis.

    Plain percentiles give intervals that are too narrow for few speakers, like a normal approximation without Student's
    correction. These are widened by that correction.
    """
    tail = 0.0
    if n_speakers > 1:
        from scipy import stats  # here, because it takes a second to import

        reach = stats.t.ppf((1 + confidence) / 2, n_speakers - 1) * (n_speakers / (n_speakers - 1)) ** 0.5
        tail = 100 * stats.norm.sf(reach)
    low, high = np.nanpercentile(figures, [tail, 100 - tail], axis=0)
    return low, high


def _draws(n_speakers: int, n_draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield the number of times that each speaker is in each draw, in blocks (n, n_speakers)."""
    random = np.random.default_rng(seed)
    for start in range(0, n_draws, BLOCK):
        drawn = random.integers(n_speakers, size=(min(BLOCK, n_draws - start), n_speakers))
        cells = drawn + n_speakers * np.arange(len(drawn))[:, None]
        yield np.bincount(cells.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
