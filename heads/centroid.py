"""The nearest mean."""

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from heads.base import Head, Validation, as_rows

# Rows by which the scale is fitted at most: of one number more would tell no more.
SCALE_ROWS = 5_000


class CentroidHead(Head):
    """Cosine to the mean of each class's rows, which are brought to unit length first.

    It has nothing to tune and needs one row a speaker. The cosines are multiplied by a scale under which they are
    likeliest as logits of the training rows, each judged by a mean without itself; without that, a softmax of cosines
    says nearly the same of all speakers.

    Attributes
    ----------
    centroids_ : Tensor (n_classes, D)
        float32, of unit length.
    scale_ : Tensor ()
        float32.
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


def _fit_scale(rows: Tensor, numbers: Tensor, sums: Tensor) -> Tensor:
    """Return the factor that makes the training rows likeliest, each left out of its own class's mean."""
    repeated = torch.bincount(numbers)[numbers] > 1
    chosen = repeated.nonzero().flatten()
    chosen = chosen[:: max(1, len(chosen) // SCALE_ROWS)]  # evenly, whatever the order
    if not len(chosen):
        return torch.tensor(10.0)  # nothing to learn it from: every speaker has one row
    own, targets = rows[chosen], numbers[chosen]
    cosines = own @ normalize(sums, dim=1).T
    without = normalize(sums[targets] - own, dim=1)
    cosines.scatter_(1, targets[:, None], (own * without).sum(1, keepdim=True))

    def loss(log_scale: float) -> float:
        return float(cross_entropy(cosines * float(np.exp(log_scale)), targets))

    return torch.tensor(float(np.exp(minimize_scalar(loss, bounds=(0.0, 7.0), method="bounded").x)))
