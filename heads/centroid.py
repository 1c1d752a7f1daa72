"""`CentroidHead`: the cosine to the mean of each class."""

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from heads.base import Head, Validation, as_rows

# The scale is fitted to at most twice this number of rows, evenly spaced: more hardly change a single number.
N_SCALE_ROWS = 5_000


class CentroidHead(Head):
    """Cosine to the mean of each class's rows, which are normalised to unit length first.

    It has no hyper-parameters and needs only one row per class. The logits are the cosines times a scale, since a
    softmax of plain cosines gives all classes nearly the same probability. The scale minimises the cross-entropy of the
    training rows, each of which is left out of its own class's mean.

    Attributes
    ----------
    centroids_ : Tensor (n_classes, D)
        float32, means of the classes, of unit length.
    scale_ : Tensor ()
        float32, factor of the cosines.
    """

    def learn(self, rows: Tensor, targets: Tensor, validation: Validation | None) -> None:
        units = normalize(rows, dim=1)
        sums = torch.zeros(len(self.classes_), rows.shape[1]).index_add_(0, targets, units)
        state = {"centroids": normalize(sums, dim=1), "scale": _fit_scale(units, targets, sums)}
        self.load_state_dict(state, self.classes_)

    def decision_function(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = (self.scale_ * normalize(as_rows(X).cpu(), dim=1) @ self.centroids_.T).numpy()
        return logits

    def state_dict(self) -> dict[str, Tensor]:
        return {"centroids": self.centroids_, "scale": self.scale_}

    def load_state_dict(self, state: Mapping[str, Tensor], classes: ArrayLike) -> Self:
        self.classes_ = np.asarray(classes)
        self.centroids_, self.scale_ = state["centroids"], state["scale"]
        self.n_parameters_ = self.centroids_.numel() + 1
        return self


def _fit_scale(units: Tensor, targets: Tensor, sums: Tensor) -> Tensor:
    """Return the scale that minimises the cross-entropy of the rows, each left out of its own class's mean."""
    has_others = torch.bincount(targets)[targets] > 1
    used = has_others.nonzero().flatten()
    used = used[:: max(1, len(used) // N_SCALE_ROWS)]
    if not len(used):
        return torch.tensor(10.0)  # every class has one row: there is nothing to fit the scale to
    own, targets = units[used], targets[used]
    cosines = own @ normalize(sums, dim=1).T
    without = normalize(sums[targets] - own, dim=1)
    cosines.scatter_(1, targets[:, None], (own * without).sum(1, keepdim=True))

    def loss(log_scale: float) -> float:
        return float(cross_entropy(cosines * float(np.exp(log_scale)), targets))

    return torch.tensor(float(np.exp(minimize_scalar(loss, bounds=(0.0, 7.0), method="bounded").x)))
