"""`UnknownScores`: the scores that recordings of unknown speakers reach, for a threshold with a given error rate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from files import InputError

# Shares of the recordings of unknown speakers at which their scores are kept.
RATES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001)


class UnknownScoresError(InputError):
    """A threshold with the requested false-accept rate is not known."""


@dataclass(frozen=True)
class UnknownScores:
    """Log-likelihood ratios of enrolled against unknown speakers that recordings of unknown speakers reach.

    Attributes
    ----------
    counts : tuple of int
        Numbers of enrolled speakers, rising.
    rates : tuple of float
        Shares of the recordings of unknown speakers, falling. The last one is the lowest that is known.
    llrs : tuple of tuples of float
        For each count, the ratios that these shares exceed.
    n_recordings : int
        Number of different recordings that they were measured on.
    """

    counts: tuple[int, ...]
    rates: tuple[float, ...]
    llrs: tuple[tuple[float, ...], ...]
    n_recordings: int

    @classmethod
    def measure(cls, llrs: ArrayLike, counts: ArrayLike, n_recordings: int) -> "UnknownScores":
        """Measure the distribution for each number of enrolled speakers.

        Parameters
        ----------
        llrs : array-like (n,)
            Log-likelihood ratios. A recording may occur several times, against different enrolled speakers.
        counts : array-like (n,)
            Number of enrolled speakers.
        n_recordings : int
            Number of different recordings. One of them is the lowest share that can be known.
        """
        values, of_each = np.asarray(llrs, dtype=np.float64), np.asarray(counts)
        listed, lowest = np.unique(of_each).tolist(), 1 / n_recordings
        rates = (*(rate for rate in RATES if rate > lowest), lowest)
        quantiles = (
            np.quantile(values[of_each == count], 1 - np.array(rates), method="inverted_cdf") for count in listed
        )
        llrs = tuple(tuple(each.tolist()) for each in quantiles)
        return cls(tuple(map(int, listed)), rates, llrs, n_recordings=n_recordings)

    @classmethod
    def highest(cls, parts: Sequence["UnknownScores"]) -> "UnknownScores":
        """Return the highest ratio of several corpora for each share; in none of them does a larger share exceed it."""
        rates = min((part.rates for part in parts), key=len)
        counts = sorted({count for part in parts for count in part.counts})
        llrs = tuple(
            tuple(max(part.threshold(rate, count) for part in parts if count in part.counts) for rate in rates)
            for count in counts
        )
        return cls(tuple(counts), rates, llrs, n_recordings=min(part.n_recordings for part in parts))

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "UnknownScores":
        """Read a distribution from plain values.

        Raises
        ------
        ValueError
            The values are not a distribution.
        """
        counts, rates = tuple(map(int, content["counts"])), tuple(map(float, content["rates"]))
        llrs = tuple(tuple(map(float, row)) for row in content["llrs"])
        is_rising = bool(counts) and counts[0] > 0 and all(one < other for one, other in pairwise(counts))
        is_falling = bool(rates) and all(0 < other < one for one, other in pairwise((1.0, *rates)))
        has_shape = [len(row) for row in llrs] == [len(rates)] * len(counts)
        if not (is_rising and is_falling and has_shape and all(map(math.isfinite, sum(llrs, ())))):
            raise ValueError("its scores of unknown speakers are not a distribution")
        return cls(counts, rates, llrs, n_recordings=int(content["n_recordings"]))

    def threshold(self, rate: float, n_speakers: int) -> float:
        """Return the log-likelihood ratio that this share of the recordings of unknown speakers exceeds.

        Between the known shares and between the known counts, it is interpolated linearly in their logarithms.

        Raises
        ------
        UnknownScoresError
            The share is lower than the lowest known one, or higher than the highest.
        """
        lowest = self.rates[-1]
        if not lowest <= rate <= self.rates[0]:
            place = 10.0 ** (1 - math.floor(math.log10(lowest)))
            rounded_up = math.ceil(lowest * place) / place  # to two significant digits
            raise UnknownScoresError(
                f"A false-accept rate of {rate:g} is not known: the verifier was calibrated on {self.n_recordings} "
                f"recordings of unknown speakers. Give {rounded_up:g} to {self.rates[0]:g}, or train a verifier on "
                "more recordings."
            )
        of_count = [np.interp(-math.log(rate), -np.log(self.rates), row) for row in self.llrs]
        return float(np.interp(math.log(n_speakers), np.log(self.counts), of_count))
