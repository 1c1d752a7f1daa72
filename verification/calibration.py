"""From scores to log-likelihood ratios, and from these to probabilities and decisions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from audio import InputError


class CalibrationError(InputError):
    """Scores cannot be calibrated by these trials."""


@dataclass(frozen=True)
class Calibration:
    """An affine map from scores to natural log-likelihood ratios.

    Attributes
    ----------
    slope, offset : float
        ``llr = slope * score + offset``.
    """

    slope: float
    offset: float

    @classmethod
    def fit(cls, labels: ArrayLike, scores: ArrayLike) -> "Calibration":
        """Learn by logistic regression, targets and nontargets weighing the same (Brümmer and du Preez, 2006).

        Parameters
        ----------
        labels : array-like (n,)
            1 for targets, 0 for nontargets.
        scores : array-like (n,)
            Of speakers who are not tested by it.

        Raises
        ------
        CalibrationError
            There are no targets or no nontargets, or a score is not finite.
        """
        is_target, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
        if not 0 < is_target.sum() < len(is_target) or not np.isfinite(values).all():
            raise CalibrationError(
                f"Calibration takes finite scores of targets and nontargets; there are {is_target.sum()} targets and "
                f"{(~is_target).sum()} nontargets, and {(~np.isfinite(values)).sum()} scores that are not finite."
            )
        # In deviations from the mean, so that the penalty, which keeps separable scores finite, has no unit.
        mean, deviation = float(values.mean()), max(float(values.std()), 1e-12)
        model = LogisticRegression(C=len(values), class_weight="balanced")
        model.fit(((values - mean) / deviation)[:, None], is_target)
        slope = float(model.coef_[0, 0]) / deviation
        if slope <= 0:  # a higher score never speaks against the speaker; scores that do so say nothing
            return cls(0.0, 0.0)
        return cls(slope, float(model.intercept_[0]) - slope * mean)

    def llrs(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return natural log-likelihood ratios."""
        return self.slope * np.asarray(scores, dtype=np.float64) + self.offset

    def probabilities(self, scores: ArrayLike, p_target: float = 0.5) -> NDArray[np.float64]:
        """Return the probabilities of the same speaker, by a prior probability."""
        posterior: NDArray[np.float64] = expit(self.llrs(scores) + logit(p_target))
        return posterior

    def threshold(self, p_target: float = 0.5) -> float:
        """Return the score above which the same speaker is the likelier, by a prior probability."""
        needed = -float(logit(p_target)) - self.offset
        if self.slope == 0:  # all scores are accepted, or none
            return float("-inf") if needed < 0 else float("inf")
        return needed / self.slope
