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

    A score may depend on a count beside the likeness: that of a mean grows with the recordings in it, the best of many
    with their number (Mandasari et al., 2013, have such a term for the seconds that are heard).

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
        cls, labels: ArrayLike, scores: ArrayLike, counts: ArrayLike = 1, n_distinct: int | None = None
    ) -> "Calibration":
        """Learn by logistic regression (Brümmer and du Preez, 2006).

        Targets and nontargets of a count weigh the same; a count of which there is one kind alone says nothing.

        Parameters
        ----------
        labels : array-like (n,)
            1 for targets, 0 for nontargets.
        scores : array-like (n,)
            Of speakers who are not tested by it.
        counts : array-like (n,), or one number
            1 or more.
        n_distinct : int, optional
            How many of the trials are different ones, where they were drawn again and again; by default all.

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
        logs = np.log(np.broadcast_to(np.asarray(counts, dtype=np.float64), values.shape))
        # In deviations from the mean, so that the penalty has no unit: few trials without an error are no proof, which
        # holds the ratios back, and many of which some are wrong outweigh it.
        columns = np.stack([values, logs], axis=1)
        means, deviations = columns.mean(axis=0), np.maximum(columns.std(axis=0), 1e-12)
        model = LogisticRegression(C=min(1.0, (n_distinct or len(values)) / len(values)))
        model.fit((columns - means) / deviations, is_target, sample_weight=_balanced(is_target, logs))
        slope, growth = (model.coef_[0] / deviations).tolist()
        if slope <= 0:  # a higher score never speaks against the speaker; scores that do so say nothing
            return cls(0.0, 0.0)
        growth = growth if deviations[1] > 1e-9 else 0.0
        return cls(slope, float(model.intercept_[0] - means @ [slope, growth]), growth)

    def llrs(self, scores: ArrayLike, counts: ArrayLike = 1) -> NDArray[np.float64]:
        """Return natural log-likelihood ratios."""
        logs = np.log(np.asarray(counts, dtype=np.float64))
        return self.slope * np.asarray(scores, dtype=np.float64) + self.offset + self.growth * logs

    def probabilities(self, scores: ArrayLike, p_target: float = 0.5, counts: ArrayLike = 1) -> NDArray[np.float64]:
        """Return the probabilities of the same speaker, by a prior probability."""
        posterior: NDArray[np.float64] = expit(self.llrs(scores, counts) + logit(p_target))
        return posterior

    def threshold(self, p_target: float = 0.5, count: int = 1) -> float:
        """Return the score above which the same speaker is the likelier, by a prior probability."""
        needed = -float(logit(p_target)) - float(self.llrs(0.0, count))
        if self.slope == 0:  # all scores are accepted, or none
            return float("-inf") if needed < 0 else float("inf")
        return needed / self.slope


def _balanced(is_target: NDArray[np.bool_], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights (n,), of the mean 1, by which targets and nontargets of each count weigh the same."""
    numbers = np.unique(counts, return_inverse=True)[1]
    cells = 2 * numbers + is_target
    sizes = np.bincount(cells, minlength=2 * (numbers.max() + 1)).reshape(-1, 2)
    shares = np.where(sizes.all(axis=1, keepdims=True), sizes.sum(axis=1, keepdims=True) / np.maximum(2 * sizes, 1), 0)
    weights: NDArray[np.float64] = shares.reshape(-1)[cells]
    return weights
