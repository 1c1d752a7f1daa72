"""Verification: are these two the same speaker? Error rates of scores, and what they cost.

Trials are targets (the same speaker, label 1) or nontargets (0). Scores may be any numbers; a higher one speaks for the
same speaker.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ErrorRates:
    """The staircase of error rates as the threshold falls: the points of a DET curve.

    Attributes
    ----------
    thresholds : ndarray (n_points,)
        Scores of at least this are accepted; from infinity downwards.
    false_accept : ndarray (n_points,)
        Share of the nontargets that is accepted, from 0 to 1.
    miss : ndarray (n_points,)
        Share of the targets that is rejected, from 1 to 0.
    """

    thresholds: Floats
    false_accept: Floats
    miss: Floats


def error_rates(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> ErrorRates:
    """Return false accepts and misses at every threshold that makes a difference.

    Parameters
    ----------
    labels : array-like (n,)
        1 for targets, 0 for nontargets; or booleans.
    scores : array-like (n,)
        Trials with the same score are accepted together.
    weights : array-like (n,), optional
        How often each trial counts; by default once.

    Raises
    ------
    ValueError
        There are no targets or no nontargets, a score is NaN, or the shapes differ.
    """
    is_target, values, counts = _check(labels, scores, weights)
    order = np.argsort(-values)
    values, is_target, counts = values[order], is_target[order], counts[order]
    targets, nontargets = np.where(is_target, counts, 0).cumsum(), np.where(is_target, 0, counts).cumsum()
    last = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)  # of equal scores
    return ErrorRates(
        thresholds=np.append(np.inf, values[last]),
        false_accept=np.append(0.0, nontargets[last] / nontargets[-1]),
        miss=np.append(1.0, 1 - targets[last] / targets[-1]),
    )


def equal_error_rate(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Where false accepts and misses are equally frequent, by linear interpolation on the staircase.

    Parameters
    ----------
    labels, scores, weights
        As `error_rates` takes them.

    Returns
    -------
    float
        From 0 (all targets above all nontargets) to 1.

    Raises
    ------
    ValueError
        As `error_rates`.
    """
    rates = error_rates(labels, scores, weights)
    gaps = rates.false_accept - rates.miss  # rises from -1 to 1
    after = int(np.argmax(gaps >= 0))
    share = -gaps[after - 1] / (gaps[after] - gaps[after - 1])
    return float(rates.false_accept[after - 1] + share * (rates.false_accept[after] - rates.false_accept[after - 1]))


def equal_error_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """Score from which on to accept, so that misses are as frequent as false accepts, or just less.

    It is halfway between the lowest score that is then accepted and the highest that is not.

    Parameters
    ----------
    labels, scores
        As `error_rates` takes them.
    """
    rates = error_rates(labels, scores)
    crossing = int(np.argmax(rates.false_accept >= rates.miss))
    return float(rates.thresholds[crossing : crossing + 2].mean())


def min_dcf(
    labels: ArrayLike,
    scores: ArrayLike,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_false_accept: float = 1.0,
    weights: ArrayLike | None = None,
) -> float:
    """Cost of detection at the best threshold, relative to the better of accepting and rejecting all (NIST SRE).

    Parameters
    ----------
    labels, scores, weights
        As `error_rates` takes them.
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
        As `error_rates`; or the prior or a cost makes no sense.
    """
    if not 0 < p_target < 1 or min(c_miss, c_false_accept) <= 0:
        raise ValueError(f"expected 0 < p_target < 1 and costs above 0; got {p_target=}, {c_miss=}, {c_false_accept=}")
    rates = error_rates(labels, scores, weights)
    by_miss, by_false_accept = c_miss * p_target, c_false_accept * (1 - p_target)
    costs = by_miss * rates.miss + by_false_accept * rates.false_accept
    return float(costs.min() / min(by_miss, by_false_accept))


def cllr(labels: ArrayLike, llrs: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Cost of log-likelihood ratios: how good and how well calibrated they are (Brümmer and du Preez, 2006).

    Parameters
    ----------
    labels, weights
        As `error_rates` takes them.
    llrs : array-like (n,)
        Natural logarithms of likelihood ratios.

    Returns
    -------
    float
        In bits: 0 at best, 1 for scores of 0, which say nothing, and without bound for wrong ones.

    Raises
    ------
    ValueError
        As `error_rates`.
    """
    is_target, values, counts = _check(labels, llrs, weights)
    losses = np.logaddexp(0, np.where(is_target, -values, values)) / np.log(2)
    return float(sum(np.average(losses[part], weights=counts[part]) for part in (is_target, ~is_target)) / 2)


def min_cllr(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Cost that is left once the scores are calibrated as well as their order allows.

    The best calibration is found by the pool-adjacent-violators algorithm.

    Parameters
    ----------
    labels, scores, weights
        As `error_rates` takes them.

    Returns
    -------
    float
        In bits, from 0 to 1.

    Raises
    ------
    ValueError
        As `error_rates`.
    """
    is_target, values, counts = _check(labels, scores, weights)
    order = np.argsort(values)
    values, is_target, counts = values[order], is_target[order], counts[order]
    first = np.append(0, np.flatnonzero(values[1:] != values[:-1]) + 1)  # of equal scores, which stay together
    targets, trials = (np.add.reduceat(column, first) for column in (np.where(is_target, counts, 0), counts))
    present = trials > 0
    targets, trials = targets[present], trials[present]
    shares = np.clip(isotonic_regression(targets / trials, weights=trials).x, 0, 1)
    n_targets, n_nontargets = targets.sum(), (trials - targets).sum()
    # Posterior odds over prior odds; where one kind alone is left its loss is 0, whatever the other's would be.
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
