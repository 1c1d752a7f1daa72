"""Predictions whose candidates are the enrolled speakers and `UNKNOWN`."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from embedding import Row
from heads import UNKNOWN, Prediction
from verification.nearest import Nearest


def open_set_predictions(
    rows: Sequence[Row], nearest: Nearest, p_known: NDArray[np.float64], *, threshold: float, top_k: int
) -> list[Prediction]:
    """Return the most probable speakers of each recording, including `UNKNOWN`.

    Parameters
    ----------
    rows : sequence of Row
        The recordings.
    nearest : Nearest
        The most similar enrolled speakers of the n recordings that have a vector.
    p_known : ndarray (n,)
        float64, posterior probability that the speaker is enrolled.
    threshold : float
        Log-likelihood ratio of the most similar speaker at which `p_known` is one half.
    top_k : int
        Maximum number of speakers per recording.

    Returns
    -------
    list of Prediction
        One prediction for each row. `UNKNOWN` is first if its probability is above one half. Otherwise it is ranked by
        its probability, but after the most probable speaker.
    """
    shares = (nearest.llrs - nearest.total[:, None]).exp() * torch.from_numpy(p_known)[:, None]
    best = nearest.llrs[:, 0].tolist()
    results = iter(zip(nearest.names, shares.tolist(), p_known.tolist(), best, strict=True))
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
                threshold=threshold,
                channel=row.utterance.channel,
            )
        )
    return predictions
