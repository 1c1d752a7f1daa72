"""Calibration: maps scores to log-likelihood ratios, and log-likelihood ratios to probabilities and thresholds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from files import InputError


class CalibrationError(InputError):
    """A calibration cannot be learned from these trials."""


@dataclass(frozen=True)
class Calibration:
    """An affine map from scores to natural log-likelihood ratios.

    The map can also depend on a count, because scores do: the score against a speaker's model grows with the number of
    recordings in the model, and the highest score of a recording grows with the number of enrolled speakers. Mandasari
    et al. (2013) use a similar term for the duration of recordings.

    Attributes
    ----------
    slope, offset, growth : float
        ``llr = slope * score + offset + growth * log(count)``.
    """

    slope: float
    offset: float
    growth: float = 0.0

    @classmethod
    def fit(
        cls, labels: ArrayLike, scores: ArrayLike, counts: ArrayLike = 1, *, n_distinct: int | None = None
    ) -> "Calibration":
        """Learn the map by logistic regression (Brümmer and du Preez, 2006).

        Among the trials with the same count, targets and nontargets have the same total weight. Counts that have only
        targets or only nontargets are not used.

        Parameters
        ----------
        labels : array-like (n,)
            1 for targets, 0 for nontargets.
        scores : array-like (n,)
            Scores of trials whose speakers are not in the test set.
        counts : array-like (n,), or one number
            Counts of the trials, at least 1.
        n_distinct : int, optional
            Number of distinct trials, if some were drawn several times; by default n.

        Raises
        ------
        CalibrationError
            There are no targets or no nontargets, or a score is not finite.
        """
        is_target, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
        if not 0 < is_target.sum() < len(is_target) or not np.isfinite(values).all():
            raise CalibrationError(
                f"Calibration needs targets and nontargets with finite scores; there are {is_target.sum()} targets, "
                f"{(~is_target).sum()} nontargets, and {(~np.isfinite(values)).sum()} scores that are not finite."
            )
        logs = np.log(np.broadcast_to(np.asarray(counts, dtype=np.float64), values.shape))
        # The columns are standardised so that the L2 penalty does not depend on the unit of the scores. The penalty
        # keeps the log-likelihood ratios small if there are few trials and no errors. It is negligible if there are
        # many trials and some errors.
        columns = np.stack([values, logs], axis=1)
        means, deviations = columns.mean(axis=0), np.maximum(columns.std(axis=0), 1e-12)
        model = LogisticRegression(C=min(1.0, (n_distinct or len(values)) / len(values)))
        model.fit((columns - means) / deviations, is_target, sample_weight=_balanced_weights(is_target, logs))
        slope, growth = (model.coef_[0] / deviations).tolist()
        if slope <= 0:  # a higher score must not lower the probability of a target, so these scores are not used
            return cls(0.0, 0.0)
        growth = growth if deviations[1] > 1e-9 else 0.0
        return cls(slope, float(model.intercept_[0] - means @ [slope, growth]), growth)

    def llrs(self, scores: ArrayLike, counts: ArrayLike = 1) -> NDArray[np.float64]:
        """Return natural log-likelihood ratios."""
        logs = np.log(np.asarray(counts, dtype=np.float64))
        return self.slope * np.asarray(scores, dtype=np.float64) + self.offset + self.growth * logs

    def probabilities(self, scores: ArrayLike, p_target: float = 0.5, counts: ArrayLike = 1) -> NDArray[np.float64]:
        """Return the probabilities that the speaker is the same, given a prior probability."""
        posterior: NDArray[np.float64] = expit(self.llrs(scores, counts) + logit(p_target))
        return posterior

    def threshold(self, p_target: float = 0.5, count: int = 1) -> float:
        """Return the score above which the speaker is more probably the same than not, given a prior probability."""
        needed = -float(logit(p_target)) - float(self.llrs(0.0, count))
        if self.slope == 0:  # all scores are accepted, or none
            return float("-inf") if needed < 0 else float("inf")
        return needed / self.slope


def _balanced_weights(is_target: NDArray[np.bool_], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights (n,) with mean 1 that give targets and nontargets of each count the same total weight."""
    numbers = np.unique(counts, return_inverse=True)[1]
    cells = 2 * numbers + is_target
    sizes = np.bincount(cells, minlength=2 * (numbers.max() + 1)).reshape(-1, 2)
    shares = np.where(sizes.all(axis=1, keepdims=True), sizes.sum(axis=1, keepdims=True) / np.maximum(2 * sizes, 1), 0)
    weights: NDArray[np.float64] = shares.reshape(-1)[cells]
    return weights
