"""What every head does."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from audio import InputError

Validation = tuple[Tensor, Tensor]


class HeadError(InputError):
    """A head cannot be made, or cannot be fitted to what it was given."""


class Head(ABC):
    """A classifier of embeddings with scikit-learn's interface; tensors or arrays in, arrays out.

    Constructors only store hyper-parameters; ``fit`` learns the attributes that end in ``_``.

    Attributes
    ----------
    classes_ : ndarray (n_classes,)
        The classes seen in training, sorted; the order of the columns of scores.
    n_parameters_ : int
        Numbers that were learned.
    """

    classes_: NDArray[Any]
    n_parameters_: int
    # Whether rows are (L, D), all layers of an encoder, and not (D,).
    takes_layers: ClassVar[bool] = False
    # What tuning tries: for each of the few hyper-parameters that matter a distribution of scipy, or a list of values.
    search_space: ClassVar[Mapping[str, Any]] = {}

    def fit(
        self,
        X: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        X_val: ArrayLike | Tensor | None = None,
        y_val: ArrayLike | Tensor | None = None,
    ) -> Self:
        """Learn from rows (n, D) and their classes (n,), perhaps with validation rows to stop by; returns itself.

        Raises
        ------
        HeadError
            The rows are no table of finite numbers, there are fewer than two classes, or nothing can be learned.
        """
        rows = as_rows(X, self.takes_layers)
        self.classes_, targets = as_classes(y, len(rows))
        validation = None
        if X_val is not None and y_val is not None and len(np.asarray(y_val)):
            validation = as_rows(X_val, self.takes_layers), _numbers(np.asarray(y_val), self.classes_)
        self.learn(rows, targets, validation)
        return self

    @abstractmethod
    def learn(self, rows: Tensor, targets: Tensor, validation: Validation | None) -> None:
        """Learn the attributes that end in ``_``; `classes_` is known.

        Parameters
        ----------
        rows : Tensor (n, D), or (n, L, D) if the head takes layers
            float32, finite.
        targets : Tensor (n,)
            int64, into `classes_`.
        validation : (Tensor, Tensor) or None
            Rows and targets to stop by; -100, which counts as wrong, for a class that is not trained on.

        Raises
        ------
        HeadError
            Nothing can be learned from these.
        """

    @abstractmethod
    def decision_function(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        """Return the logits (n, n_classes), also of two classes."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Return the learned tensors."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor], classes: ArrayLike) -> Self:
        """Take learned tensors and their classes; returns itself."""

    def hyper_parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments, in plain values."""
        return {name: value for name, value in vars(self).items() if not name.endswith("_")}

    def predict_proba(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        """Return the probabilities (n, n_classes), by softmax of the logits."""
        logits = torch.from_numpy(self.decision_function(X))
        probabilities: NDArray[np.float32] = logits.softmax(dim=1).numpy()
        return probabilities

    def predict(self, X: ArrayLike | Tensor) -> NDArray[Any]:
        """Return the likeliest class of each row."""
        predictions: NDArray[Any] = self.classes_[self.decision_function(X).argmax(axis=1)]
        return predictions


def as_rows(X: ArrayLike | Tensor, layers: bool = False) -> Tensor:
    """Check a table of embeddings and return it as a float32 tensor (n, D), or (n, L, D) if layers are wanted."""
    rows = torch.as_tensor(X if isinstance(X, Tensor) else np.asarray(X)).float()
    if rows.ndim == 3 and not layers:
        raise HeadError(
            f"The features hold {rows.shape[1]} layers each, and this head takes one vector (D,) for each row; take "
            "one of them with FeatureSet.layer(k)."
        )
    if rows.ndim == 2 and layers:
        raise HeadError("This head weighs the layers of an encoder, and these features have one; extract --layers all.")
    if rows.ndim != 2 + layers or not bool(torch.isfinite(rows).all()):
        raise HeadError(f"Expected a table (n, D) of finite numbers, got shape {tuple(rows.shape)} or NaN in it.")
    return rows


def _numbers(labels: NDArray[Any], classes: NDArray[Any]) -> Tensor:
    """Return each label's number among the sorted classes; -100 for one that is not among them."""
    numbers = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    return torch.from_numpy(np.where(classes[numbers] == labels, numbers, -100).astype(np.int64))


def as_classes(y: ArrayLike | Tensor, n_rows: int) -> tuple[NDArray[Any], Tensor]:
    """Check the training classes and return the sorted classes and each row's number among them."""
    labels = np.asarray(y)
    if labels.shape != (n_rows,):
        raise HeadError(f"Expected one class for each of the {n_rows} rows, got an array of shape {labels.shape}.")
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise HeadError(
            f"There are {len(classes)} speakers to tell apart; two are the least. Add another speaker's recordings."
        )
    return classes, torch.from_numpy(numbers.reshape(-1).astype(np.int64))
