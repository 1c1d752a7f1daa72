"""Choose the shrinkage of a backend's covariance on speakers that are left out of its training."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from heads import ClassStatistics
from metrics import min_cllr

# Candidates, as shares of the mean variance within speakers. Ties are broken by the smallest.
SHRINKAGES = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
FOLDS = 4
# With fewer training speakers, the error rates of the candidates differ by chance, and there is no shrinkage.
MIN_SPEAKERS = 12
# Maximum number of left-out recordings of a fold that are compared with each other.
MAX_ROWS = 1_500


def choose_shrinkage(
    rows: Tensor, targets: Tensor, project: Callable[[ClassStatistics, float], tuple[Tensor, Tensor]]
) -> float:
    """Return the candidate whose cosine separates left-out speakers best: with the lowest minimum Cllr.

    The minimum Cllr depends on all scores, so it varies less than an equal error rate. Speakers are left out in turn,
    in `FOLDS` groups. No random numbers are used.

    Parameters
    ----------
    rows : Tensor (N, D)
    targets : Tensor (N,)
        Speakers, numbered from 0.
    project : callable
        Function that returns the mean (D,) and the projection (D, K) of a backend, for the statistics of some speakers
        and a shrinkage.

    Returns
    -------
    float
        0 if there are fewer than `MIN_SPEAKERS` speakers with two recordings.
    """
    counts = torch.bincount(targets)
    if int((counts >= 2).sum()) < MIN_SPEAKERS:
        return 0.0
    # Speakers in the order of their number of recordings take turns, so that the groups are of similar size.
    group = torch.empty_like(counts)
    group[counts.argsort(stable=True)] = torch.arange(len(counts)) % FOLDS
    costs = np.zeros(len(SHRINKAGES))
    for fold in range(FOLDS):
        is_left_out = group[targets] == fold
        kept = torch.unique(targets[~is_left_out], return_inverse=True)[1]
        statistics = ClassStatistics.of(rows[~is_left_out], kept)
        test = _evenly(targets, is_left_out)
        first, second = torch.triu_indices(len(test), len(test), 1)
        is_target = (targets[test][first] == targets[test][second]).numpy()
        for number, shrinkage in enumerate(SHRINKAGES):
            mean, projection = project(statistics, shrinkage)
            mapped = normalize((rows[test].float() - mean) @ projection, dim=1)
            costs[number] += min_cllr(is_target, (mapped @ mapped.T)[first, second].numpy())
    return SHRINKAGES[int(costs.argmin())]


def _evenly(targets: Tensor, is_left_out: Tensor) -> Tensor:
    """Return at most `MAX_ROWS` left-out rows: the first of each speaker, then the second, and so on.

    Only speakers with two rows are used, at most half as many as rows.
    """
    speakers, counts = torch.unique(targets[is_left_out], return_counts=True)
    speakers = speakers[counts >= 2][: MAX_ROWS // 2]
    numbers = (is_left_out & torch.isin(targets, speakers)).nonzero().flatten()
    order = numbers[targets[numbers].argsort(stable=True)]
    _, sizes = torch.unique_consecutive(targets[order], return_counts=True)
    rank = torch.cat([torch.arange(size) for size in sizes.tolist()])
    return order[rank.argsort(stable=True)[:MAX_ROWS]]
