"""`ScoreHistogram`: the log-likelihood ratios of the pairs that calibrated a verifier, to compare a new pair with."""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Maximum number of bins.
MAX_BINS = 60
# Widths of the bins, times a power of ten. Round widths make 0 an edge if it is in the range.
WIDTHS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
# Shares that are closer to 0 or 1 are described as less or more than this.
SMALLEST_SHARE = 0.001


@dataclass(frozen=True)
class ScoreHistogram:
    """Histogram of the calibrated log-likelihood ratios of pairs of recordings.

    Attributes
    ----------
    edges : tuple of float
        Edges of the bins, rising (natural log-likelihood ratio); a bin includes its lower edge.
    same_counts, different_counts : tuple of int
        Number of pairs of the same speaker and of different speakers in each bin.
    """

    edges: tuple[float, ...]
    same_counts: tuple[int, ...]
    different_counts: tuple[int, ...]

    @property
    def n_same(self) -> int:
        """Number of pairs of the same speaker."""
        return sum(self.same_counts)

    @property
    def n_different(self) -> int:
        """Number of pairs of different speakers."""
        return sum(self.different_counts)

    @property
    def same(self) -> NDArray[np.float64]:
        """Share of the pairs of the same speaker in each bin; the sum is 1."""
        return np.array(self.same_counts) / self.n_same

    @property
    def different(self) -> NDArray[np.float64]:
        """Share of the pairs of different speakers in each bin; the sum is 1."""
        return np.array(self.different_counts) / self.n_different

    @classmethod
    def measure(cls, labels: ArrayLike, llrs: ArrayLike) -> "ScoreHistogram":
        """Count pairs in at most `MAX_BINS` bins of equal and round width.

        Parameters
        ----------
        labels : array-like (n,)
            1 for pairs of the same speaker, 0 for pairs of different speakers; there are pairs of both.
        llrs : array-like (n,)
            Finite natural log-likelihood ratios.
        """
        is_same, values = np.asarray(labels, dtype=bool), np.asarray(llrs, dtype=np.float64)
        edges = _round_edges(float(values.min()), float(values.max()))
        bins = np.searchsorted(edges, values, side="right") - 1
        same, different = (np.bincount(bins[kept], minlength=len(edges) - 1) for kept in (is_same, ~is_same))
        return cls(edges, tuple(same.tolist()), tuple(different.tolist()))

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "ScoreHistogram":
        """Read a histogram from plain values.

        Raises
        ------
        ValueError
            The values are not a histogram.
        """
        try:
            edges = tuple(map(float, content["edges"]))
            same, different = (tuple(content[name]) for name in ("same", "different"))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError("its histogram of scores lacks edges or counts") from error
        is_rising = all(map(math.isfinite, edges)) and all(low < high for low, high in pairwise(edges))
        has_counts = all(
            len(counts) == len(edges) - 1 and all(type(count) is int and count >= 0 for count in counts) and sum(counts)
            for counts in (same, different)
        )
        if not (is_rising and has_counts):
            raise ValueError("its histogram of scores does not have rising edges and a count for each bin")
        return cls(edges, same, different)

    def content(self) -> dict[str, Any]:
        """Return the histogram as plain values, for a file."""
        return {"edges": list(self.edges), "same": list(self.same_counts), "different": list(self.different_counts)}

    def shares(self, llr: float) -> tuple[float, float]:
        """Return how many pairs are at least as high, or at most as high, as a log-likelihood ratio.

        Within a bin, the share is interpolated linearly.

        Parameters
        ----------
        llr : float
            Natural log-likelihood ratio.

        Returns
        -------
        (float, float)
            Share of the pairs of different speakers with at least this ratio, and share of the pairs of the same
            speaker with at most this ratio.
        """
        return 1 - self._share_below(llr, self.different_counts), self._share_below(llr, self.same_counts)

    def describe(self, llr: float) -> str:
        """Describe in a sentence how many pairs have at least this ratio, or at most this ratio if it is below 0."""
        below = [self._share_below(llr, counts) for counts in (self.different_counts, self.same_counts)]
        different, same = (_percent(share if llr < 0 else 1 - share) for share in below)
        sentence = (
            f"{different} of the {self.n_different} pairs of different speakers and {same} of the {self.n_same} pairs "
            f"of the same speaker that calibrated the verifier have a log-likelihood ratio of at "
            f"{'most' if llr < 0 else 'least'} {llr:.2f}."
        )
        return sentence[0].upper() + sentence[1:]

    def _share_below(self, llr: float, counts: tuple[int, ...]) -> float:
        return float(np.interp(llr, self.edges, np.cumsum((0, *counts)) / sum(counts)))


def _round_edges(lowest: float, highest: float) -> tuple[float, ...]:
    """Return multiples of a round width, from the last one that is not above `lowest` to the first above `highest`."""
    extent = max(highest - lowest, 1e-6 * max(abs(lowest), abs(highest)))
    if extent < 1e-9:  # all ratios are about 0: the scores carry no information
        extent = 1.0
    needed = extent / (MAX_BINS - 2)
    power = math.floor(math.log10(needed))
    width = next(factor for factor in WIDTHS if factor * 10.0**power >= needed) * 10.0**power
    # One more at each end, because the multiples are rounded.
    first, last = math.floor(lowest / width) - 1, math.floor(highest / width) + 2
    edges = [round(number * width, 2 - power) for number in range(first, last + 1)]
    return tuple(edges[bisect_right(edges, lowest) - 1 : bisect_right(edges, highest) + 1])


def _percent(share: float) -> str:
    """Format a share in words or in percent."""
    if share in (0, 1):
        return "all" if share else "none"
    if share < SMALLEST_SHARE:
        return f"less than {100 * SMALLEST_SHARE:g} %"
    if share > 1 - SMALLEST_SHARE:
        return f"more than {100 * (1 - SMALLEST_SHARE):g} %"
    return f"{100 * share:.1f} %"
