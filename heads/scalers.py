"""Scalers: fitted on the training rows alone, kept as tensors."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from audio import InputError
from encoders import single_thread

# Numbers in the training table under which one thread decomposes about as fast as two, and safe from contention.
SMALL_FIT = 2_000_000


class Scaler(ABC):
    """An affine map fitted on training rows: ``(X - mean) * scale``, or ``(X - mean) @ scale`` with a matrix.

    Attributes
    ----------
    mean_ : Tensor (D,) or (L, D)
        float32, subtracted first.
    scale_ : Tensor, as `mean_`, or (D, K)
        float32, multiplied after.
    """

    name: str
    diagonal: bool  # whether each dimension is scaled by itself
    mean_: Tensor
    scale_: Tensor

    @abstractmethod
    def fit(self, X: Tensor) -> "Scaler":
        """Learn from training rows (n, D); returns itself."""

    def transform(self, X: Tensor) -> Tensor:
        """Map rows (n, D) to (n, D) or (n, K), in float32 and on their device."""
        mean, scale = self.mean_.to(X.device), self.scale_.to(X.device)
        if X.shape[1:] != mean.shape:
            there, here = (" x ".join(map(str, shape)) for shape in (mean.shape, X.shape[1:]))
            raise InputError(f"The scaler was fitted on {there} dimensions, these features have {here}.")
        centred = X.float() - mean
        return centred * scale if self.diagonal else centred @ scale

    def state_dict(self) -> dict[str, str | Tensor]:
        """Return ``name``, ``mean`` and ``scale``: all that `transform` needs, here or elsewhere."""
        return {"name": self.name, "mean": self.mean_, "scale": self.scale_}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> "Scaler":
        """Take a fitted state; returns itself."""
        self.mean_, self.scale_ = state["mean"], state["scale"]
        return self


class StandardScaler(Scaler):
    """Each dimension to zero mean and unit variance; a constant one stays at zero (as in scikit-learn).

    It takes all layers of an encoder too, (n, L, D).
    """

    name = "standard"
    diagonal = True

    def fit(self, X: Tensor) -> "StandardScaler":
        rows = X.double()
        mean = rows.mean(0)
        deviation = (rows - mean).square().mean(0).sqrt()
        # Rounding leaves a constant dimension with a deviation of about one part in 1e16 of its value, not zero.
        constant = deviation <= 10 * torch.finfo(torch.float64).eps * mean.abs().clamp_min(1e-300)
        self.mean_ = mean.float()
        self.scale_ = torch.where(constant, 0.0, 1 / deviation.clamp_min(1e-300)).float()
        return self


class WhitenScaler(Scaler):
    """PCA whitening: uncorrelated dimensions of unit variance.

    Directions without variance (there are always some when rows are fewer than dimensions) are dropped.
    """

    name = "whiten"
    diagonal = False
    # Smallest share of the largest variance that is not taken for the rounding of float32 features.
    tolerance = 1e-10

    def fit(self, X: Tensor) -> "WhitenScaler":
        if X.ndim != 2:
            raise InputError("The scaler 'whiten' takes one layer at a time; for the head 'weighted' use 'standard'.")
        rows = X.double()
        mean = rows.mean(0)
        with single_thread() if rows.numel() < SMALL_FIT else nullcontext():
            _, singular, directions = torch.linalg.svd(rows - mean, full_matrices=False)
        variances = singular.square() / len(rows)
        kept = variances > max(self.tolerance * float(variances[0]), 1e-300)
        self.mean_ = mean.float()
        self.scale_ = (directions[kept].T / variances[kept].sqrt()).float()
        return self


SCALERS: dict[str, type[Scaler]] = {scaler.name: scaler for scaler in (StandardScaler, WhitenScaler)}


def create_scaler(name: str) -> Scaler:
    """Make an unfitted scaler.

    Raises
    ------
    InputError
        There is no scaler of this name; the answer lists them.
    """
    if name not in SCALERS:
        raise InputError(f"There is no scaler {name!r}; choose one of: {', '.join(SCALERS)}.")
    return SCALERS[name]()
