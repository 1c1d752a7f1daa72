"""Adaptive symmetric normalisation (AS-norm): scores that are comparable between recordings."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from verification.backends import BLOCK, Backend, BackendError

# Number of recordings that are scored against the cohort at a time, which limits memory use.
ROWS = 4_096


def as_norm(
    backend: Backend,
    mapped: Tensor,
    cohort: Tensor,
    *,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    scores: NDArray[np.float32],
    top_k: int = 300,
) -> NDArray[np.float32]:
    """Normalise each score by the scores of its two recordings against a cohort (Matejka et al., 2017).

    Each recording is compared only with the recordings of the cohort that it is most similar to.

    Parameters
    ----------
    backend : Backend
    mapped : Tensor (n, K)
        Scored recordings, mapped by the backend.
    cohort : Tensor (m, K)
        Recordings of other speakers, mapped by the backend.
    first, second : ndarray (n_trials,)
        int64, rows of `mapped`.
    scores : ndarray (n_trials,)
        Scores of the trials.
    top_k : int
        Number of recordings of the cohort that each recording is compared with; all if the cohort is smaller.

    Returns
    -------
    ndarray (n_trials,)
        float32, normalised scores: the number of standard deviations of a score above the mean of the cohort scores,
        averaged over the two recordings of the trial.

    Raises
    ------
    BackendError
        The cohort has fewer than two recordings.
    """
    if len(cohort) < 2:
        raise BackendError(f"The cohort has {len(cohort)} recordings; normalisation needs at least 2.")
    kept = min(top_k, len(cohort))
    means, deviations = np.empty(len(mapped), np.float32), np.empty(len(mapped), np.float32)
    for start in range(0, len(mapped), ROWS):
        nearest = backend.score_all(mapped[start : start + ROWS], cohort).topk(kept, dim=1).values
        deviation, mean = torch.std_mean(nearest, dim=1)
        means[start : start + ROWS], deviations[start : start + ROWS] = mean.numpy(), deviation.numpy()
    deviations = np.maximum(deviations, 1e-6)
    normed = np.empty(len(scores), np.float32)
    for start in range(0, len(scores), BLOCK):
        part = slice(start, start + BLOCK)
        sides = [(scores[part] - means[rows[part]]) / deviations[rows[part]] for rows in (first, second)]
        normed[part] = (sides[0] + sides[1]) / 2
    return normed
