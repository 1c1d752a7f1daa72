"""Scalers: fitted on the training rows alone, kept as tensors."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from audio import InputError
from encoders import single_thread
from heads.covariance import SMALL_FIT, ClassStatistics


class Scaler(ABC):
    """An affine map fitted on training rows: ``(X - mean) * scale``, or ``(X - mean) @ scale`` with a matrix.

    Parameters
    ----------
    length : bool
        Whether every row is then brought to the length sqrt(K), K being its dimensions, which keeps the numbers as
        large as the other scalers do (Garcia-Romero and Espy-Wilson, 2011).

    Attributes
    ----------
    mean_ : Tensor (D,) or (L, D)
        float32, subtracted first.
    scale_ : Tensor, as `mean_`, or (D, K)
        float32, multiplied after.
    """

    kind: ClassVar[str]
    diagonal: ClassVar[bool]  # whether each dimension is scaled by itself
    mean_: Tensor
    scale_: Tensor

    def __init__(self, length: bool = False) -> None:
        self.length = length

    @property
    def name(self) -> str:
        """Its name in `SCALERS`."""
        return _name(self.kind, self.length)

    def fit(self, X: Tensor, y: Tensor | None = None) -> "Scaler":
        """Learn from training rows (n, D) and, where it needs them, their classes (n,), numbers; returns itself."""
        if X.ndim != 2 and not self.diagonal:
            raise InputError(
                f"The scaler {self.name!r} takes one layer at a time; for the head 'weighted' use 'standard'."
            )
        mean, scale = self._learn(X.double(), y)
        self.mean_, self.scale_ = mean.float(), scale.float()
        return self

    @abstractmethod
    def _learn(self, rows: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and scale, of rows in float64."""

    def transform(self, X: Tensor) -> Tensor:
        """Map rows (n, D) to (n, D) or (n, K), in float32 and on their device."""
        mean, scale = self.mean_.to(X.device), self.scale_.to(X.device)
        if X.shape[1:] != mean.shape:
            there, here = (" x ".join(map(str, shape)) for shape in (mean.shape, X.shape[1:]))
            raise InputError(f"The scaler was fitted on {there} dimensions, these features have {here}.")
        centred = X.float() - mean
        scaled = centred * scale if self.diagonal else centred @ scale
        return torch.nn.functional.normalize(scaled, dim=-1) * scaled.shape[-1] ** 0.5 if self.length else scaled

    def state_dict(self) -> dict[str, str | Tensor]:
        """Return ``name``, ``mean`` and ``scale``: all that `transform` needs, here or elsewhere."""
        return {"name": self.name, "mean": self.mean_, "scale": self.scale_}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> "Scaler":
        """Take a fitted state; returns itself."""
        self.mean_, self.scale_ = state["mean"], state["scale"]
        return self


class NoScaler(Scaler):
    """Rows as they are."""

    kind = "none"
    diagonal = True

    def _learn(self, rows: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        return torch.zeros(rows.shape[1:]), torch.ones(rows.shape[1:])


class StandardScaler(Scaler):
    """Each dimension to zero mean and unit variance; a constant one stays at zero (as in scikit-learn).

    It takes all layers of an encoder too, (n, L, D).
    """

    kind = "standard"
    diagonal = True

    def _learn(self, rows: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        mean = rows.mean(0)
        deviation = (rows - mean).square().mean(0).sqrt()
        # Rounding leaves a constant dimension with a deviation of about one part in 1e16 of its value, not zero.
        constant = deviation <= 10 * torch.finfo(torch.float64).eps * mean.abs().clamp_min(1e-300)
        return mean, torch.where(constant, 0.0, 1 / deviation.clamp_min(1e-300))


class WhitenScaler(Scaler):
    """PCA whitening: uncorrelated dimensions of unit variance.

    Directions without variance (there are always some when rows are fewer than dimensions) are dropped.
    """

    kind = "whiten"
    diagonal = False
    # Smallest share of the largest variance that is not taken for the rounding of float32 features.
    tolerance = 1e-10

    def _learn(self, rows: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        mean = rows.mean(0)
        with single_thread() if rows.numel() < SMALL_FIT else nullcontext():
            _, singular, directions = torch.linalg.svd(rows - mean, full_matrices=False)
        variances = singular.square() / len(rows)
        kept = variances > max(self.tolerance * float(variances[0]), 1e-300)
        if not bool(kept.any()):
            raise InputError("No direction varies: all rows are the same, and there is nothing to whiten.")
        return mean, directions[kept].T / variances[kept].sqrt()


class WithinScaler(Scaler):
    """Whitening by the covariance within classes: what a speaker's recordings differ in weighs the same everywhere.

    Within-class covariance normalisation (Hatch et al., 2006). Directions in which no speaker varies are dropped.
    """

    kind = "within"
    diagonal = False

    def _learn(self, rows: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        if y is None:
            raise InputError("The scaler 'within' needs the speakers of its rows: fit(X, y).")
        numbers = torch.unique(y, return_inverse=True)[1]
        return rows.mean(0), ClassStatistics.of(rows.cpu(), numbers.cpu()).whitening().to(rows.device)


def _name(kind: str, length: bool) -> str:
    if not length:
        return kind
    return "length" if kind == NoScaler.kind else f"{kind}+length"


SCALERS: dict[str, Callable[[], Scaler]] = {
    _name(scaler.kind, length): partial(scaler, length)
    for length in (False, True)
    for scaler in (NoScaler, StandardScaler, WhitenScaler, WithinScaler)
}


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
