"""`Head`: the interface of all heads, and the checks of their inputs."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from files import InputError

Validation = tuple[Tensor, Tensor]


class HeadError(InputError):
    """A head cannot be created with the given options, or cannot be fitted to the given rows."""


class Head(ABC):
    """Base class of classifiers of embeddings, with scikit-learn's interface.

    Methods take tensors or arrays and return arrays. Constructors only store hyper-parameters; ``fit`` learns the
    attributes that end in ``_``.

    Attributes
    ----------
    classes_ : ndarray (n_classes,)
        Classes of the training rows, sorted; the columns of logits and probabilities have this order.
    n_parameters_ : int
        Number of learned parameters; NaN if it is unknown.
    """

    classes_: NDArray[Any]
    n_parameters_: float = math.nan
    # Whether a row holds all layers of an encoder (L, D), and not one vector (D,).
    takes_layers: ClassVar[bool] = False
    # Hyper-parameters to tune, each with a distribution of scipy or a list of values.
    search_space: ClassVar[Mapping[str, Any]] = {}

    def fit(
        self,
        X: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        X_val: ArrayLike | Tensor | None = None,
        y_val: ArrayLike | Tensor | None = None,
    ) -> Self:
        """Fit the head to training rows; return the head.

        Parameters
        ----------
        X : array-like (n, D), or (n, L, D) if the head takes layers
            Training rows.
        y : array-like (n,)
            Class of each row.
        X_val, y_val : array-like, optional
            Validation rows and their classes, for heads that stop training early.

        Raises
        ------
        HeadError
            The rows are not a table of finite numbers, there are fewer than two classes, or the head cannot be fitted.
        """
        rows = as_rows(X, self.takes_layers)
        self.classes_, targets = as_classes(y, len(rows))
        validation = None
        if X_val is not None and y_val is not None and len(np.asarray(y_val)):
            validation = as_rows(X_val, self.takes_layers), _indices(np.asarray(y_val), self.classes_)
        self.learn(rows, targets, validation)
        return self

    @abstractmethod
    def learn(self, rows: Tensor, targets: Tensor, validation: Validation | None) -> None:
        """Learn the attributes that end in ``_``, given that `classes_` is set.

        Parameters
        ----------
        rows : Tensor (n, D), or (n, L, D) if the head takes layers
            float32, finite training rows.
        targets : Tensor (n,)
            int64, index of each row's class in `classes_`.
        validation : (Tensor, Tensor) or None
            Rows and targets for early stopping. The target of a class that is not in `classes_` is -100; its rows
            always count as errors.

        Raises
        ------
        HeadError
            The head cannot be fitted to these rows.
        """

    @abstractmethod
    def decision_function(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        """Return the logits (n, n_classes); two classes have two columns."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Return the learned tensors."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor], classes: ArrayLike) -> Self:
        """Restore the head from learned tensors and their classes; return the head."""

    def hyper_parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return {name: value for name, value in vars(self).items() if not name.endswith("_")}

    def predict_proba(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        """Return the probabilities (n, n_classes): the softmax of the logits."""
        logits = torch.from_numpy(self.decision_function(X))
        probabilities: NDArray[np.float32] = logits.softmax(dim=1).numpy()
        return probabilities

    def predict(self, X: ArrayLike | Tensor) -> NDArray[Any]:
        """Return the most probable class of each row (n,)."""
        predictions: NDArray[Any] = self.classes_[self.decision_function(X).argmax(axis=1)]
        return predictions


def as_rows(X: ArrayLike | Tensor, layers: bool = False) -> Tensor:
    """Check a table of embeddings and return it as a float32 tensor (n, D), or (n, L, D) with `layers`."""
    rows = torch.as_tensor(X if isinstance(X, Tensor) else np.asarray(X)).float()
    if rows.ndim == 3 and not layers:
        raise HeadError(
            f"The features hold {rows.shape[1]} layers per row, but this head takes one vector (D,) per row; select a "
            "layer with FeatureSet.layer(k)."
        )
    if rows.ndim == 2 and layers:
        raise HeadError("This head takes all layers of an encoder, but the features hold one; extract --layers all.")
    n_dims, shape = (3, "(n, L, D)") if layers else (2, "(n, D)")
    if rows.ndim != n_dims:
        raise HeadError(f"Expected a table of shape {shape}, got {tuple(rows.shape)}.")
    if not bool(torch.isfinite(rows).all()):
        raise HeadError("Expected finite numbers, but the table holds NaN or infinite values.")
    return rows


def _indices(labels: NDArray[Any], classes: NDArray[Any]) -> Tensor:
    """Return the index of each label in the sorted classes; -100 if it is not among them."""
    indices = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    return torch.from_numpy(np.where(classes[indices] == labels, indices, -100).astype(np.int64))


def as_classes(y: ArrayLike | Tensor, n_rows: int) -> tuple[NDArray[Any], Tensor]:
    """Check the classes of training rows; return the sorted classes, and the index of each row's class in them."""
    labels = np.asarray(y)
    if labels.shape != (n_rows,):
        raise HeadError(f"Expected one class for each of the {n_rows} rows, got an array of shape {labels.shape}.")
    classes, indices = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise HeadError(
            f"Expected training rows of at least two speakers, got {len(classes)}. Add recordings of other speakers."
        )
    return classes, torch.from_numpy(indices.reshape(-1).astype(np.int64))
