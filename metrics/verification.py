"""Error rates and costs of verification: are two recordings of the same speaker?

Trials are targets (the same speaker, label 1) or nontargets (0). Scores may be any numbers; a higher score means that
the same speaker is more probable.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from files import fields_repr

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ErrorRates:
    """Error rates as the threshold falls: the points of a DET curve, a staircase.

    Attributes
    ----------
    thresholds : ndarray (n_points,)
        Minimum accepted scores, from infinity downwards.
    false_accept : ndarray (n_points,)
        Share of the nontargets that are accepted, from 0 to 1.
    miss : ndarray (n_points,)
        Share of the targets that are rejected, from 1 to 0.
    """

    thresholds: Floats
    false_accept: Floats
    miss: Floats

    __repr__ = fields_repr

    def thinned(self, n_points: int = 500) -> "ErrorRates":
        """Return at most `3 * n_points` of the points, most of them at low error rates, for a drawing."""
        size = len(self.thresholds)
        near = np.geomspace(1, size, n_points) - 1
        kept = np.unique(np.concatenate([near, size - 1 - near, np.linspace(0, size - 1, n_points)]).astype(np.int64))
        return ErrorRates(self.thresholds[kept], self.false_accept[kept], self.miss[kept])


def error_rates(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> ErrorRates:
    """Compute the rates of false accepts and misses at every threshold at which they change.

    Parameters
    ----------
    labels : array-like (n,)
        1 for targets, 0 for nontargets; or booleans.
    scores : array-like (n,)
        Trials with the same score are accepted together.
    weights : array-like (n,), optional
        Number of times that each trial counts; by default 1.

    Raises
    ------
    ValueError
        There are no targets or no nontargets, a score is NaN, or the shapes differ.
    """
    is_target, values, counts = _check(labels, scores, weights)
    order = np.argsort(-values)
    values, is_target, counts = values[order], is_target[order], counts[order]
    targets, nontargets = np.where(is_target, counts, 0).cumsum(), np.where(is_target, 0, counts).cumsum()
    last = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)  # of each run of equal scores
    return ErrorRates(
        thresholds=np.append(np.inf, values[last]),
        false_accept=np.append(0.0, nontargets[last] / nontargets[-1]),
        miss=np.append(1.0, 1 - targets[last] / targets[-1]),
    )


def equal_error_rate(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Compute the rate at which false accepts and misses are equally frequent.

    Between the points of `error_rates` it is interpolated linearly.

    Parameters
    ----------
    labels, scores, weights
        As for `error_rates`.

    Returns
    -------
    float
        From 0 (all targets above all nontargets) to 1.

    Raises
    ------
    ValueError
        As for `error_rates`.

    Examples
    --------
    >>> equal_error_rate([1, 1, 0, 0], [0.9, 0.4, 0.6, 0.1])
    0.5
    """
    rates = error_rates(labels, scores, weights)
    gaps = rates.false_accept - rates.miss  # rises from -1 to 1
    after = int(np.argmax(gaps >= 0))
    share = -gaps[after - 1] / (gaps[after] - gaps[after - 1])
    return float(rates.false_accept[after - 1] + share * (rates.false_accept[after] - rates.false_accept[after - 1]))


def equal_error_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """Compute the minimum score to accept, so that misses are as frequent as false accepts, or just less frequent.

    It is halfway between the lowest accepted score and the highest rejected one.

    Parameters
    ----------
    labels, scores
        As for `error_rates`.

    Raises
    ------
    ValueError
        As for `error_rates`.
    """
    rates = error_rates(labels, scores)
    crossing = int(np.argmax(rates.false_accept >= rates.miss))
    return float(rates.thresholds[crossing : crossing + 2].mean())


def min_dcf(
    labels: ArrayLike,
    scores: ArrayLike,
    p_target: float = 0.01,
    *,
    c_miss: float = 1.0,
    c_false_accept: float = 1.0,
    weights: ArrayLike | None = None,
) -> float:
    """Compute the detection cost at the best threshold, as NIST's speaker recognition evaluations (SRE) define it.

    The cost is divided by that of accepting all trials or of rejecting all, whichever is lower.

    Parameters
    ----------
    labels, scores, weights
        As for `error_rates`.
    p_target : float
        Prior probability of a target.
    c_miss, c_false_accept : float
        Cost of each error.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        As for `error_rates`; or the prior or a cost is out of range.

    Examples
    --------
    >>> min_dcf([1, 1, 0, 0], [0.9, 0.4, 0.6, 0.1], p_target=0.01)
    0.5
    """
    if not 0 < p_target < 1 or min(c_miss, c_false_accept) <= 0:
        raise ValueError(f"expected 0 < p_target < 1 and costs above 0; got {p_target=}, {c_miss=}, {c_false_accept=}")
    rates = error_rates(labels, scores, weights)
    by_miss, by_false_accept = c_miss * p_target, c_false_accept * (1 - p_target)
    costs = by_miss * rates.miss + by_false_accept * rates.false_accept
    return float(costs.min() / min(by_miss, by_false_accept))


def cllr(labels: ArrayLike, llrs: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Compute the cost of log-likelihood ratios (Brümmer and du Preez, 2006).

    It measures both how well they separate targets from nontargets and how well they are calibrated.

    Parameters
    ----------
    labels, weights
        As for `error_rates`.
    llrs : array-like (n,)
        Natural logarithms of likelihood ratios.

    Returns
    -------
    float
        In bits: 0 at best, 1 if all ratios are 0 (no information), and unbounded for wrong ones.

    Raises
    ------
    ValueError
        As for `error_rates`.

    Examples
    --------
    >>> round(cllr([1, 1, 0, 0], [4.0, 2.0, -1.0, -3.0]), 3)
    0.183
    """
    is_target, values, counts = _check(labels, llrs, weights)
    losses = np.logaddexp(0, np.where(is_target, -values, values)) / np.log(2)
    return float(sum(np.average(losses[part], weights=counts[part]) for part in (is_target, ~is_target)) / 2)


def min_cllr(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Compute the lowest `cllr` that a monotonic calibration of the scores can reach.

    The best calibration is found by the pool-adjacent-violators algorithm.

    Parameters
    ----------
    labels, scores, weights
        As for `error_rates`.

    Returns
    -------
    float
        In bits, from 0 to 1.

    Raises
    ------
    ValueError
        As for `error_rates`.
    """
    is_target, values, counts = _check(labels, scores, weights)
    order = np.argsort(values)
    values, is_target, counts = values[order], is_target[order], counts[order]
    first = np.append(0, np.flatnonzero(values[1:] != values[:-1]) + 1)  # equal scores stay together
    targets, trials = (np.add.reduceat(column, first) for column in (np.where(is_target, counts, 0), counts))
    present = trials > 0
    targets, trials = targets[present], trials[present]
    shares = np.clip(isotonic_regression(targets / trials, weights=trials).x, 0, 1)
    n_targets, n_nontargets = targets.sum(), (trials - targets).sum()
    # Posterior odds over prior odds. They are infinite where only one kind of trial is left, whose loss is then 0.
    with np.errstate(divide="ignore"):
        llrs = np.log(shares) - np.log1p(-shares) - np.log(n_targets / n_nontargets)
    losses = [
        (part * np.logaddexp(0, sign * llrs, where=part > 0, out=np.zeros(len(part)))).sum() / part.sum()
        for part, sign in ((targets, -1), (trials - targets, 1))
    ]
    return float(sum(losses) / 2 / np.log(2))


def _check(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> tuple[NDArray[np.bool_], Floats, Floats]:
    is_target, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if is_target.ndim != 1 or is_target.shape != values.shape:
        raise ValueError(f"expected (n,) labels and (n,) scores; got {is_target.shape} and {values.shape}")
    if not np.isin(is_target, (0, 1)).all():
        raise ValueError("labels must be 1 (target) or 0 (nontarget)")
    is_target = is_target.astype(bool)
    n_targets = int(is_target.sum())
    if not 0 < n_targets < len(values):
        raise ValueError(
            f"there are {n_targets} target and {len(values) - n_targets} nontarget trials; both kinds are needed"
        )
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} scores are NaN")
    counts = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if counts.shape != values.shape or not (counts >= 0).all():
        raise ValueError(f"expected (n,) weights of 0 or more; got {counts.shape}")
    if not (counts[is_target].any() and counts[~is_target].any()):
        raise ValueError("the weights leave no targets or no nontargets")
    return is_target, values, counts
