"""Confidence interval of a mean over independent runs, such as one for each meeting."""

import math
from collections.abc import Sequence

import numpy as np


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Compute the mean of some values, and its interval by Student's t distribution.

    Parameters
    ----------
    values : sequence of float
        Independent values; NaN and infinity are left out.
    confidence : float
        Confidence level of the interval, from 0 to 1.

    Returns
    -------
    mean, low, high : float
        NaN for the bounds if there are fewer than two values, and for the mean if there are none.

    Examples
    --------
    >>> [round(number, 3) for number in mean_interval([0.8, 0.9, 1.0])]
    [0.9, 0.652, 1.148]
    """
    from scipy.stats import t

    finite = np.array([value for value in values if math.isfinite(value)], np.float64)
    if len(finite) < 2:
        return (float(finite[0]) if len(finite) else math.nan), math.nan, math.nan
    mean = float(finite.mean())
    half = float(t.ppf((1 + confidence) / 2, len(finite) - 1) * finite.std(ddof=1) / math.sqrt(len(finite)))
    return mean, mean - half, mean + half
