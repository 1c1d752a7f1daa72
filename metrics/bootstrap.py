"""How sure a figure is: intervals by drawing the speakers again.

Utterances of one speaker are alike, so that to draw utterances would promise too much; speakers are what another corpus
would have others of.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

# Draws at a time, to bound the memory for many speakers.
BLOCK = 250
# Speakers below which trials have no interval.
FEWEST = 4


def ratio_interval(
    hits: ArrayLike, counts: ArrayLike, confidence: float = 0.95, n_draws: int = 4000, seed: int = 0
) -> tuple[float, float]:
    """Interval of a share, such as the accuracy, by the expanded percentile bootstrap over speakers.

    Parameters
    ----------
    hits : array-like (n_speakers,)
        What was counted of each speaker, such as the utterances that were recognised.
    counts : array-like (n_speakers,)
        Utterances of each speaker.
    confidence : float
        Of the interval.
    n_draws : int
        Sets of speakers drawn with replacement.
    seed : int
        Of the draws.

    Returns
    -------
    (float, float)
        Lower and upper bound of ``sum(hits) / sum(counts)``; NaN without utterances. Where nothing was missed the
        interval has no width: no draw can show an error that was not seen.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    nobody = np.zeros(0)
    return _interval(_columns(hits, counts), (nobody, nobody), confidence, n_draws, seed)


def difference_interval(
    hits: ArrayLike,
    counts: ArrayLike,
    other_hits: ArrayLike,
    other_counts: ArrayLike,
    confidence: float = 0.95,
    n_draws: int = 4000,
    seed: int = 0,
) -> tuple[float, float]:
    """Paired bootstrap interval, over speakers, of the difference of two shares of the same speakers.

    Parameters
    ----------
    hits, counts, other_hits, other_counts : array-like (n_speakers,)
        As `ratio_interval` takes them; each draw has the same speakers on both sides.
    confidence, n_draws, seed
        As for `ratio_interval`.

    Returns
    -------
    (float, float)
        Bounds of the first share less the other; if 0 lies outside, the difference is larger than chance.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    return _interval(_columns(hits, counts), _columns(other_hits, other_counts), confidence, n_draws, seed)


def trial_interval(
    statistic: Callable[[NDArray[np.float64]], ArrayLike],
    first: ArrayLike,
    second: ArrayLike,
    confidence: float = 0.95,
    n_draws: int = 400,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Interval of figures of trials, such as the equal error rate, by the expanded bootstrap over speakers.

    A trial of two speakers counts as often as both were drawn together, one within a speaker as often as the speaker
    was; trials that share a speaker are not independent, and drawing trials would promise too much.

    Parameters
    ----------
    statistic : callable
        From how often each trial counts (n,) to a figure or an array of them; a draw for which it raises ValueError (no
        targets, say) is left out.
    first, second : array-like (n,)
        int, speaker of either side, numbered from 0.
    confidence, n_draws, seed
        As for `ratio_interval`.

    Returns
    -------
    (ndarray, ndarray)
        Lower and upper bounds, of the figures' shape; NaN if no draw has a figure, or for fewer than 4 speakers.
    """
    one, other = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    present, numbers = np.unique(np.stack([one, other]), return_inverse=True)
    one, other = numbers.reshape(2, -1)
    same = one == other
    if len(present) < FEWEST:  # nearly all draws are of nobody twice, or have no nontargets
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


def _interval(first: Columns, other: Columns, confidence: float, n_draws: int, seed: int) -> tuple[float, float]:
    n_speakers = len(first[0])
    paired = bool(len(other[0]))
    if paired and len(other[0]) != n_speakers:
        raise ValueError(f"expected the same speakers on both sides; got {n_speakers} and {len(other[0])}")
    if not n_speakers or not first[1].sum() or (paired and not other[1].sum()):
        return float("nan"), float("nan")
    shares = []
    with np.errstate(invalid="ignore"):  # a draw of speakers without utterances is no draw
        for weights in _draws(n_speakers, n_draws, seed):
            share = (weights @ first[0]) / (weights @ first[1])
            shares.append(share - (weights @ other[0]) / (weights @ other[1]) if paired else share)
    low, high = _percentiles(np.concatenate(shares), n_speakers, confidence)
    return float(low), float(high)


def _percentiles(
    figures: NDArray[np.float64], n_speakers: int, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the expanded percentiles (Hesterberg, 2015) over the first axis.

    Plain ones are too narrow for few speakers, as a normal approximation without Student's correction is; these go as
    far out as that correction does.
    """
    tail = 0.0
    if n_speakers > 1:
        reach = stats.t.ppf((1 + confidence) / 2, n_speakers - 1) * (n_speakers / (n_speakers - 1)) ** 0.5
        tail = 100 * stats.norm.sf(reach)
    low, high = np.nanpercentile(figures, [tail, 100 - tail], axis=0)
    return low, high


def _draws(n_speakers: int, n_draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each speaker is in each draw, in blocks (n, n_speakers)."""
    random = np.random.default_rng(seed)
    for start in range(0, n_draws, BLOCK):
        drawn = random.integers(n_speakers, size=(min(BLOCK, n_draws - start), n_speakers))
        cells = drawn + n_speakers * np.arange(len(drawn))[:, None]
        yield np.bincount(cells.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
