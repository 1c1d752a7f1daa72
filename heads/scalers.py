"""Scalers of embeddings, fitted to the training rows only."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from typing import ClassVar

import torch
from torch import Tensor

from encoders import single_thread
from files import InputError, load_choice
from heads.covariance import SMALL_FIT, ClassStatistics


class Scaler(ABC):
    """Base class of affine maps fitted to training rows: ``(X - mean) * scale``, or ``(X - mean) @ scale``.

    Parameters
    ----------
    name : str
        Name in `SCALERS`. If it ends in ``length``, each row is then normalised to the length sqrt(K), where K is its
        number of dimensions (length normalisation; Garcia-Romero and Espy-Wilson, 2011). This length keeps the values
        about as large as the other scalers do.

    Attributes
    ----------
    mean_ : Tensor (D,) or (L, D)
        float32, mean that is subtracted.
    scale_ : Tensor (D,) or (L, D), or (D, K)
        float32, factors of the dimensions, or the matrix that the centred rows are multiplied with.
    """

    diagonal: ClassVar[bool]  # whether `scale_` holds a factor per dimension, not a matrix
    mean_: Tensor
    scale_: Tensor

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def length(self) -> bool:
        """Whether all rows have the same length after scaling."""
        return self.name.endswith("length")

    def fit(self, X: Tensor, y: Tensor | None = None) -> "Scaler":
        """Fit the scaler to training rows; return the scaler.

        Parameters
        ----------
        X : Tensor (n, D) or (n, L, D)
            Training rows.
        y : Tensor (n,), optional
            int, class of each row; needed by ``within``.

        Raises
        ------
        InputError
            The rows have several layers and the scaler takes one, or the scaler cannot be fitted to these rows.
        """
        if X.ndim != 2 and not self.diagonal:
            raise InputError(
                f"The scaler {self.name!r} takes one layer, got several; for the head 'weighted' use 'standard'."
            )
        mean, scale = self._learn(X.double(), y)
        self.mean_, self.scale_ = mean.float(), scale.float()
        return self

    @abstractmethod
    def _learn(self, rows: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the mean and the scale of float64 rows."""

    def transform(self, X: Tensor) -> Tensor:
        """Scale rows (n, D) or (n, L, D); return them in float32, on the same device, in the same shape or (n, K).

        Raises
        ------
        InputError
            The rows have another number of dimensions than the training rows.
        """
        mean, scale = self.mean_.to(X.device), self.scale_.to(X.device)
        if X.shape[1:] != mean.shape:
            expected, found = (" x ".join(map(str, shape)) for shape in (mean.shape, X.shape[1:]))
            raise InputError(f"The scaler was fitted to {expected} dimensions, these features have {found}.")
        centred = X.float() - mean
        scaled = centred * scale if self.diagonal else centred @ scale
        return torch.nn.functional.normalize(scaled, dim=-1) * scaled.shape[-1] ** 0.5 if self.length else scaled

    def state_dict(self) -> dict[str, str | Tensor]:
        """Return ``name``, ``mean`` and ``scale``, which are all that `transform` needs."""
        return {"name": self.name, "mean": self.mean_, "scale": self.scale_}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> "Scaler":
        """Restore a fitted scaler from its state; return the scaler."""
        self.mean_, self.scale_ = state["mean"], state["scale"]
        return self


class NoScaler(Scaler):
    """Scaler that leaves rows unchanged."""

    diagonal = True

    def _learn(self, rows: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        return torch.zeros(rows.shape[1:]), torch.ones(rows.shape[1:])


class StandardScaler(Scaler):
    """Scaler of each dimension to zero mean and unit variance; constant dimensions become zero.

    It takes rows (n, D), or all layers of an encoder (n, L, D).
    """

    diagonal = True

    def _learn(self, rows: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        mean = rows.mean(0)
        deviation = (rows - mean).square().mean(0).sqrt()
        # Rounding leaves a constant dimension with a deviation of about one part in 1e16 of its value, not zero.
        constant = deviation <= 10 * torch.finfo(torch.float64).eps * mean.abs().clamp_min(1e-300)
        return mean, torch.where(constant, 0.0, 1 / deviation.clamp_min(1e-300))


class WhitenScaler(Scaler):
    """PCA whitening: uncorrelated dimensions of unit variance.

    Directions without variance are dropped; there are always some if there are fewer rows than dimensions.
    """

    diagonal = False
    # Minimum variance, as a share of the largest one, that is not interpreted as rounding error of float32 features.
    tolerance = 1e-10

    def _learn(self, rows: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        mean = rows.mean(0)
        with single_thread() if rows.numel() < SMALL_FIT else nullcontext():
            _, singular, directions = torch.linalg.svd(rows - mean, full_matrices=False)
        variances = singular.square() / len(rows)
        kept = variances > max(self.tolerance * float(variances[0]), 1e-300)
        if not bool(kept.any()):
            raise InputError("All training rows are equal, so there is nothing to whiten; use another scaler.")
        return mean, directions[kept].T / variances[kept].sqrt()


class WithinScaler(Scaler):
    """Within-class covariance normalisation (WCCN; Hatch et al., 2006): whitening by the covariance within speakers.

    After it, recordings of a speaker vary equally in all directions. Directions in which no speaker varies are dropped.
    """

    diagonal = False

    def _learn(self, rows: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        if y is None:
            raise InputError("The scaler 'within' needs the speakers of the training rows: fit(X, y).")
        targets = torch.unique(y, return_inverse=True)[1]
        return rows.mean(0), ClassStatistics.of(rows.cpu(), targets.cpu()).whitening().to(rows.device)


# Name -> "module:Class". With "length", all rows have the same length after scaling.
SCALERS: dict[str, str] = {
    "none": "heads.scalers:NoScaler",
    "standard": "heads.scalers:StandardScaler",
    "whiten": "heads.scalers:WhitenScaler",
    "within": "heads.scalers:WithinScaler",
    "length": "heads.scalers:NoScaler",
    "standard+length": "heads.scalers:StandardScaler",
    "whiten+length": "heads.scalers:WhitenScaler",
    "within+length": "heads.scalers:WithinScaler",
}


def create_scaler(name: str) -> Scaler:
    """Create an unfitted scaler.

    Parameters
    ----------
    name : str
        A name of `SCALERS`.

    Raises
    ------
    InputError
        There is no scaler of this name; the message lists the valid ones.

    Examples
    --------
    >>> rows = torch.tensor([[1.0, 5.0], [3.0, 9.0]])
    >>> create_scaler("standard").fit(rows).transform(rows).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """
    kind: type[Scaler] = load_choice("scaler", name, SCALERS, error_class=InputError)
    return kind(name)
