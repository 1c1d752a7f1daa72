"""Variation within speakers, which `within`, `lda` and `plda` are made of."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from encoders import single_thread
from heads.base import HeadError

# Numbers in the training table under which one thread decomposes about as fast as two, and safe from contention.
SMALL_FIT = 2_000_000
# Smallest share of the largest variance, of dimensions scaled alike, that is not taken for rounding of float32
# features (scikit-learn's LDA has the same, as 1e-4 of a standard deviation).
TOLERANCE = 1e-8


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Rows summed up by class, in float64.

    Attributes
    ----------
    means : Tensor (C, D)
        Mean of each class.
    counts : Tensor (C,)
        Rows of each class.
    within : Tensor (D, D)
        Covariance within classes: the scatter about the classes' means, divided by the N - C rows that are free.
    """

    means: Tensor
    counts: Tensor
    within: Tensor

    @classmethod
    def of(cls, rows: Tensor, numbers: Tensor) -> "ClassStatistics":
        """Sum up rows (N, D) of classes (N,), numbered from 0.

        Raises
        ------
        HeadError
            No class has two rows.
        """
        counts = torch.bincount(numbers)
        if len(rows) <= len(counts):
            raise HeadError(
                "What varies within a speaker can only be learned from more training rows than speakers; there are "
                f"{len(rows)} of {len(counts)}. Add recordings, or choose another head or scaler."
            )
        exact = rows.double()
        means = torch.zeros(len(counts), rows.shape[1], dtype=torch.float64).index_add_(0, numbers, exact)
        means /= counts[:, None]
        centred = exact - means[numbers]
        return cls(means, counts, centred.T @ centred / (len(rows) - len(counts)))

    def whitening(self, shrinkage: float | None = None) -> Tensor:
        """Return the map (D, K) under which the variation within classes is the same in all K directions.

        Directions in which no class varies (there are always some when rows are few) are dropped.

        Parameters
        ----------
        shrinkage : float, optional
            Share from 0 to 1 by which the covariance is first pulled towards a multiple of the identity.

        Raises
        ------
        HeadError
            There is no direction that varies, or `shrinkage` is no share.
        """
        if shrinkage is not None and not 0 <= shrinkage <= 1:
            raise HeadError(f"shrinkage is {shrinkage:g}; expected a share from 0 to 1, or none.")
        covariance = self.within
        if shrinkage:
            identity = torch.eye(len(covariance), dtype=torch.float64)
            covariance = (1 - shrinkage) * covariance + shrinkage * covariance.diagonal().mean() * identity
        deviations = covariance.diagonal().sqrt()
        # Rounding leaves a constant dimension with a deviation of about one part in 1e16 of its value, not zero.
        constant = deviations <= 1e-14 * self.means.abs().amax(0).clamp_min(1e-300)
        units = torch.where(constant, 0.0, 1 / deviations.clamp_min(1e-300))
        with single_thread() if covariance.numel() < SMALL_FIT else nullcontext():
            variances, directions = torch.linalg.eigh(covariance * units * units[:, None])
        kept = variances > max(TOLERANCE * float(variances[-1]), 1e-300)
        if not bool(kept.any()):
            raise HeadError(
                "No direction varies within speakers: the recordings of each have the same vector. Are they copies?"
            )
        # The strongest first, and each with its largest component positive: eigenvectors have no sign of their own.
        basis = directions[:, kept].flip(1)
        basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        whitening: Tensor = units[:, None] * basis / variances[kept].flip(0).sqrt()
        return whitening
