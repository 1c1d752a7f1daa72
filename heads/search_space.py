"""Distributions that ``--tune`` takes settings from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LogUniform:
    """A positive number whose logarithm is uniform between those of two bounds.

    It is ``scipy.stats.loguniform``, which is imported when it is used, because that takes half a second.

    Attributes
    ----------
    low, high : float
    """

    low: float
    high: float

    def ppf(self, position: float) -> float:
        """Return the quantile at a position from 0 to 1."""
        from scipy.stats import loguniform

        return float(loguniform(self.low, self.high).ppf(position))


@dataclass(frozen=True)
class Uniform:
    """A number that is uniform between two bounds.

    Attributes
    ----------
    low, high : float
    """

    low: float
    high: float

    def ppf(self, position: float) -> float:
        """Return the quantile at a position from 0 to 1."""
        return self.low + (self.high - self.low) * position
