"""`Evidence`: how likely the speakers are that any of the windows of a recording may be of."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heads import UNKNOWN
from verification.open_set_predictions import Candidates

# Maximum number of speakers who are compared for a window. In larger stores, these are the most similar ones, and the
# log-likelihood ratios of all others are assumed to be lower than theirs by `GAP`.
MAX_CANDIDATES, GAP = 50, 10.0
# Thresholds are limited to this number: where scores carry no information, they are infinite.
MAX_THRESHOLD = 1e6


@dataclass(frozen=True, eq=False)
class Evidence:
    """Evidence for the candidates of each of n windows, with which memory use does not depend on the store.

    Attributes
    ----------
    names : list of str
        The k speakers that any of the windows may be of; the last one is `UNKNOWN`.
    numbers : ndarray (n, c)
        int64, candidates of each window, as indices into `names`; the most similar is first, and `UNKNOWN` is last.
    ratios : ndarray (n, c)
        float64, log-likelihood ratios of the candidates above the threshold; 0 for `UNKNOWN`. So the decision about a
        single window is that of `SpeakerStore.identify`.
    probabilities : ndarray (n, c)
        float64, posterior probabilities of the candidates.
    threshold : float
        Threshold, at most `MAX_THRESHOLD`.
    """

    names: list[str]
    numbers: NDArray[np.int64]
    ratios: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    threshold: float

    @classmethod
    def of(cls, found: Candidates) -> "Evidence":
        """Return the evidence for the speakers that were found for windows."""
        nearest = found.nearest
        names = [*sorted({name for row in nearest.names for name in row}), UNKNOWN]
        numbers = {name: number for number, name in enumerate(names)}
        threshold = float(np.clip(found.threshold, -MAX_THRESHOLD, MAX_THRESHOLD))
        ratios = nearest.llrs.double().numpy() - threshold
        return cls(
            names,
            np.array([[*(numbers[name] for name in row), len(names) - 1] for row in nearest.names]),
            np.column_stack([ratios, np.zeros(len(ratios))]),
            probabilities=np.column_stack([found.probabilities, 1 - found.p_known]),
            threshold=threshold,
        )

    def best(self) -> NDArray[np.int64]:
        """Return the most probable speaker of each window (n,)."""
        return np.take_along_axis(self.numbers, self.ratios.argmax(axis=1, keepdims=True), axis=1)[:, 0]

    def rows(self, lenience: float = 0.0) -> Iterator[NDArray[np.float64]]:
        """Yield the evidence for all speakers (k,), window by window; `lenience` is added for enrolled speakers.

        A speaker who is not among the candidates of a window gets a ratio that is lower than theirs by `GAP`.
        """
        for numbers, ratios in zip(self.numbers, self.ratios, strict=True):
            row = np.full(len(self.names), ratios[:-1].min() - GAP)
            row[numbers] = ratios
            row[:-1] += lenience
            yield row

    def probabilities_of(self, choices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probability of the speaker that is chosen for each window (n,); 0 for all but the candidates."""
        return np.asarray(np.where(self.numbers == choices[:, None], self.probabilities, 0.0).sum(axis=1))
