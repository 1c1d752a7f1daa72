"""Self-calibration: a store moves its verifier's calibration towards the scores of its own different speakers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verification.calibration import ANY, Calibration, Conditions

# The highest scores of different speakers decide how many of them are accepted. A higher quantile would depend on few
# scores, and on persons who are enrolled under two names.
QUANTILE = 0.9


@dataclass(frozen=True)
class SelfCalibration:
    """How far scores of different speakers move a calibration.

    Different speakers of some conditions (one microphone, one language, children) are more similar to each other than
    those of the calibration corpora. If the scores of targets stay the same, the best threshold moves by about half of
    the difference.

    Attributes
    ----------
    expected : Calibration
        The score that one of ten trials of different speakers exceeds in the calibration corpora, under given
        conditions (its slope is 0).
    share : float
        Share of the difference to the expected scores that the calibration is shifted by.
    prior_speakers : float
        Number of speakers at which half of that share is used; with fewer speakers, it is less.
    """

    expected: Calibration
    share: float
    prior_speakers: float

    @classmethod
    def fit(
        cls,
        scores: ArrayLike,
        conditions: Conditions,
        *,
        weights: ArrayLike | None = None,
        share: float,
        prior_speakers: float,
    ) -> "SelfCalibration":
        """Learn the expected scores from scores (n,) of different speakers."""
        values = np.asarray(scores, dtype=np.float64)
        columns = np.stack([np.broadcast_to(each, values.shape) for each in conditions.terms()], axis=1)
        of_each = np.ones(len(values)) if weights is None else np.asarray(weights)
        from sklearn.linear_model import LinearRegression  # here, because it takes a second to import

        model = LinearRegression().fit(columns, values, of_each)
        above = np.quantile(values - model.predict(columns), QUANTILE, weights=of_each, method="inverted_cdf")
        expected = Calibration(0.0, float(model.intercept_ + above), *model.coef_.tolist())
        return cls(expected, share, prior_speakers)

    def shift(self, scores: NDArray[np.float64], conditions: Conditions = ANY, *, n_speakers: int) -> float:
        """Return the shift of a calibration (`Calibration.shifted`) for scores (n,) of different speakers."""
        if not len(scores):
            return 0.0
        difference = float(np.quantile(scores - self.expected.llrs(0.0, conditions), QUANTILE))
        return self.share * n_speakers / (n_speakers + self.prior_speakers) * difference
