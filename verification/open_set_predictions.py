"""Predictions whose candidates are the enrolled speakers and `UNKNOWN`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from embedding import Row
from heads import UNKNOWN, Prediction
from verification.nearest import Nearest


@dataclass(frozen=True, eq=False)
class Candidates:
    """The enrolled speakers who n recordings may be of, with the decision whether the speaker is enrolled.

    Attributes
    ----------
    nearest : Nearest
        The k most similar enrolled speakers of each recording.
    p_known : ndarray (n,)
        float64, posterior probability that the speaker is enrolled.
    threshold : float
        Log-likelihood ratio of the most similar speaker at which `p_known` is one half.
    """

    nearest: Nearest
    p_known: NDArray[np.float64]
    threshold: float

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Posterior probabilities (n, k) of the most similar speakers."""
        shares = (self.nearest.llrs - self.nearest.total[:, None]).exp()
        return np.asarray((shares * torch.from_numpy(self.p_known)[:, None]).numpy())


def open_set_predictions(rows: Sequence[Row], found: Candidates, top_k: int) -> list[Prediction]:
    """Return the most probable speakers of each recording, including `UNKNOWN`.

    Parameters
    ----------
    rows : sequence of Row
        The recordings.
    found : Candidates
        Candidates for the recordings that have a vector.
    top_k : int
        Maximum number of speakers per recording.

    Returns
    -------
    list of Prediction
        One prediction for each row. `UNKNOWN` is first if its probability is above one half. Otherwise it is ranked by
        its probability, but after the most probable speaker.
    """
    best = found.nearest.llrs[:, 0].tolist()
    results = iter(zip(found.nearest.names, found.probabilities.tolist(), found.p_known.tolist(), best, strict=True))
    predictions = []
    for row in rows:
        if row.vector is None:
            predictions.append(Prediction(row.utterance.path, error=row.error, channel=row.utterance.channel))
            continue
        names, probabilities, p_enrolled, llr = next(results)
        ahead = 0 if p_enrolled < 0.5 else max(1, sum(share > 1 - p_enrolled for share in probabilities))
        names = [*names[:ahead], UNKNOWN, *names[ahead:]][:top_k]
        probabilities = [*probabilities[:ahead], 1 - p_enrolled, *probabilities[ahead:]][:top_k]
        predictions.append(
            Prediction(
                row.utterance.path,
                tuple(names),
                tuple(probabilities),
                score=llr,
                threshold=found.threshold,
                channel=row.utterance.channel,
            )
        )
    return predictions
