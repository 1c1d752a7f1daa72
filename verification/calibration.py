"""Calibration: maps scores to log-likelihood ratios, and log-likelihood ratios to probabilities and thresholds."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from files import InputError

# Length below which scores are not expected to depend on the length (seconds), and length of unknown recordings.
MIN_SECONDS = 0.5
TYPICAL_SECONDS = 5.0


class CalibrationError(InputError):
    """A calibration cannot be learned from these trials."""


@dataclass(frozen=True)
class Conditions:
    """Conditions of trials that their scores depend on; each is one number, or an array that fits the scores.

    Attributes
    ----------
    counts : array-like
        Number of recordings that the speaker is enrolled with, or number of enrolled speakers.
    enrolled_seconds : array-like
        Mean length of the recordings that the speaker is enrolled with (seconds); 0 or NaN if it is not known.
    seconds : array-like
        Length of the recording that is compared (seconds); 0 or NaN if it is not known.
    """

    counts: ArrayLike = 1
    enrolled_seconds: ArrayLike = 0.0
    seconds: ArrayLike = 0.0

    def terms(self) -> list[NDArray[np.float64]]:
        """Return the logarithms of counts, and the inverse square roots of both lengths."""
        return [
            np.log(np.asarray(self.counts, dtype=np.float64)),
            _shortness(self.enrolled_seconds),
            _shortness(self.seconds),
        ]


ANY = Conditions()


@dataclass(frozen=True)
class Calibration:
    """An affine map from scores to natural log-likelihood ratios.

    The map can also depend on conditions, because scores do: the score against a speaker's model grows with the number
    of recordings in the model, the highest score of a recording grows with the number of enrolled speakers, and scores
    are lower for short recordings. Mandasari et al. (2013) use similar terms.

    Attributes
    ----------
    slope, offset, growth, enrolled_shortness, probe_shortness : float
        ``llr = slope * score + offset + growth * log(counts) + enrolled_shortness / sqrt(enrolled_seconds) +
        probe_shortness / sqrt(seconds)``, with the names of `Conditions`. The error of a vector is about proportional
        to the inverse square root of the length.
    """

    slope: float
    offset: float
    growth: float = 0.0
    enrolled_shortness: float = 0.0
    probe_shortness: float = 0.0

    @classmethod
    def fit(
        cls,
        labels: ArrayLike,
        scores: ArrayLike,
        conditions: Conditions = ANY,
        *,
        groups: ArrayLike | None = None,
        n_distinct: int | None = None,
    ) -> "Calibration":
        """Learn the map by logistic regression (Brümmer and du Preez, 2006).

        Among the trials of a group, targets and nontargets have the same total weight. Groups that have only targets or
        only nontargets are not used.

        Parameters
        ----------
        labels : array-like (n,)
            1 for targets, 0 for nontargets.
        scores : array-like (n,)
            Scores of trials whose speakers are not in the test set.
        conditions : Conditions
            Conditions of the trials. The map does not depend on a condition that is the same for all.
        groups : array-like (n,), optional
            Group of each trial; by default the trials with the same count are a group.
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
        terms = [np.broadcast_to(each, values.shape) for each in conditions.terms()]
        group_of = terms[0] if groups is None else np.broadcast_to(np.asarray(groups), values.shape)
        # The columns are standardised so that the L2 penalty does not depend on the unit of the scores. The penalty
        # keeps the log-likelihood ratios small if there are few trials and no errors. It is negligible if there are
        # many trials and some errors.
        columns = np.stack([values, *terms], axis=1)
        means, deviations = columns.mean(axis=0), columns.std(axis=0)
        deviations = np.where(deviations > 1e-9, deviations, np.inf)  # a constant column becomes 0
        from sklearn.linear_model import LogisticRegression  # here, because it takes a second to import

        model = LogisticRegression(C=min(1.0, (n_distinct or len(values)) / len(values)))
        model.fit((columns - means) / deviations, is_target, sample_weight=_balanced_weights(is_target, group_of))
        slope, *others = (model.coef_[0] / deviations).tolist()
        if slope <= 0:  # a higher score must not lower the probability of a target, so these scores are not used
            return cls(0.0, 0.0)
        return cls(slope, float(model.intercept_[0] - means @ [slope, *others]), *others)

    def llrs(self, scores: ArrayLike, conditions: Conditions = ANY) -> NDArray[np.float64]:
        """Return natural log-likelihood ratios."""
        count, enrolled, probe = conditions.terms()
        terms = self.growth * count + self.enrolled_shortness * enrolled + self.probe_shortness * probe
        return self.slope * np.asarray(scores, dtype=np.float64) + self.offset + terms

    def pair_llrs(self, scores: ArrayLike, first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
        """Return the log-likelihood ratios of pairs of recordings of these lengths (seconds), in either order."""
        orders = ((first, second), (second, first))
        ratios = [self.llrs(scores, Conditions(1, enrolled, probe)) for enrolled, probe in orders]
        mean: NDArray[np.float64] = np.mean(ratios, axis=0)
        return mean

    def shifted(self, shift: float) -> "Calibration":
        """Return the calibration of scores that are higher by `shift` than the scores that this one was learned on."""
        return replace(self, offset=self.offset - self.slope * shift)

    def probabilities(
        self, scores: ArrayLike, p_target: float = 0.5, conditions: Conditions = ANY
    ) -> NDArray[np.float64]:
        """Return the probabilities that the speaker is the same, given a prior probability."""
        posterior: NDArray[np.float64] = expit(self.llrs(scores, conditions) + logit(p_target))
        return posterior

    def threshold(self, p_target: float = 0.5, conditions: Conditions = ANY) -> float:
        """Return the score above which the speaker is more probably the same than not, given a prior probability."""
        needed = -float(logit(p_target)) - float(self.llrs(0.0, conditions))
        if self.slope == 0:  # all scores are accepted, or none
            return float("-inf") if needed < 0 else float("inf")
        return needed / self.slope


def _shortness(seconds: ArrayLike) -> NDArray[np.float64]:
    """Return the inverse square roots of lengths; lengths that are not known count as `TYPICAL_SECONDS`."""
    lengths = np.asarray(seconds, dtype=np.float64)
    shortness: NDArray[np.float64] = np.where(lengths > 0, np.maximum(lengths, MIN_SECONDS), TYPICAL_SECONDS) ** -0.5
    return shortness


def _balanced_weights(is_target: NDArray[np.bool_], groups: NDArray[Any]) -> NDArray[np.float64]:
    """Return weights (n,) with mean 1 that give targets and nontargets of each group the same total weight."""
    numbers = np.unique(groups, return_inverse=True)[1]
    cells = 2 * numbers + is_target
    sizes = np.bincount(cells, minlength=2 * (numbers.max() + 1)).reshape(-1, 2)
    shares = np.where(sizes.all(axis=1, keepdims=True), sizes.sum(axis=1, keepdims=True) / np.maximum(2 * sizes, 1), 0)
    weights: NDArray[np.float64] = shares.reshape(-1)[cells]
    return weights
