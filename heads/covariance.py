"""`ClassStatistics`: means of classes and covariance within classes, for `within`, `lda` and `plda`."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from encoders import single_thread
from files import count_of, fields_repr
from heads.base import HeadError

# Number of elements of a matrix below which it is decomposed on one thread: more are hardly faster, and slow down when
# other processes use the CPU.
SMALL_FIT = 2_000_000
# Minimum variance, as a share of the largest one, that is not interpreted as the rounding error of float32 features.
# scikit-learn's LDA has the same limit: 1e-4 of a standard deviation.
TOLERANCE = 1e-8


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Means, counts and within-class covariance of rows, in float64.

    Attributes
    ----------
    means : Tensor (C, D)
        Mean of each class.
    counts : Tensor (C,)
        Number of rows of each class.
    within : Tensor (D, D)
        Covariance within classes: the scatter about the classes' means, divided by the N - C degrees of freedom.
    """

    means: Tensor
    counts: Tensor
    within: Tensor

    __repr__ = fields_repr

    @classmethod
    def of(cls, rows: Tensor, targets: Tensor) -> "ClassStatistics":
        """Compute the statistics of rows (N, D) with targets (N,), indices of classes from 0.

        Raises
        ------
        HeadError
            No class has two rows.
        """
        counts = torch.bincount(targets)
        if len(rows) <= len(counts):
            raise HeadError(
                "The variation within speakers can only be estimated from more training rows than speakers; there are "
                f"{count_of(len(rows), 'row')} of {count_of(len(counts), 'speaker')}. Add recordings, or use another "
                "head or scaler."
            )
        exact = rows.double()
        means = torch.zeros(len(counts), rows.shape[1], dtype=torch.float64).index_add_(0, targets, exact)
        means /= counts[:, None]
        centred = exact - means[targets]
        return cls(means, counts, centred.T @ centred / (len(rows) - len(counts)))

    def mean(self) -> Tensor:
        """Return the mean of all rows (D,)."""
        return (self.counts[:, None] * self.means).sum(0) / self.counts.sum()

    def whitening(self, shrinkage: float | None = None) -> Tensor:
        """Return the linear map (D, K) after which the covariance within classes is the identity.

        Directions without variance within classes are dropped; there are always some if rows are few.

        Parameters
        ----------
        shrinkage : float, optional
            Shrinkage, from 0 to 1, of the covariance towards a multiple of the identity, before the whitening.

        Raises
        ------
        HeadError
            No direction has variance, or `shrinkage` is out of range.
        """
        if shrinkage is not None and not 0 <= shrinkage <= 1:
            raise HeadError(f"shrinkage is {shrinkage:g}; expected a number from 0 to 1, or none.")
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
                "No direction varies within speakers: all recordings of a speaker have the same vector. Check that "
                "they are not copies."
            )
        # Largest variance first. The sign of an eigenvector is arbitrary: make its largest component positive.
        basis = directions[:, kept].flip(1)
        basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        whitening: Tensor = units[:, None] * basis / variances[kept].flip(0).sqrt()
        return whitening
