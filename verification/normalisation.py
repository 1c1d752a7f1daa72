"""Scores that mean the same for every recording: adaptive symmetric normalisation (AS-norm)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from verification.backends import BLOCK, Backend, BackendError

# Rows of a table of scores against the cohort that are held at a time.
ROWS = 4_096


def as_norm(
    backend: Backend,
    mapped: Tensor,
    cohort: Tensor,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    scores: NDArray[np.float32],
    top_k: int = 300,
) -> NDArray[np.float32]:
    """Normalise scores by those of either side against its nearest recordings of a cohort (Matejka et al., 2017).

    Parameters
    ----------
    backend : Backend
    mapped : Tensor (n, K)
        What the backend makes of the scored recordings.
    cohort : Tensor (m, K)
        What it makes of recordings of other speakers.
    first, second : ndarray (n_trials,)
        int64, rows of `mapped`.
    scores : ndarray (n_trials,)
    top_k : int
        Nearest recordings of the cohort that count; all if it has fewer.

    Returns
    -------
    ndarray (n_trials,)
        float32, mean over both sides of the score in deviations above the cohort's mean.

    Raises
    ------
    BackendError
        The cohort has fewer than two recordings.
    """
    if len(cohort) < 2:
        raise BackendError(f"The cohort has {len(cohort)} recordings; normalisation takes two at least.")
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
