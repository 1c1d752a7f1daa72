"""`AffineHead`: logits that are an affine function of the embedding, fitted without minibatches."""

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from heads.base import Head, as_rows


class AffineHead(Head):
    """Base class of heads whose logits are ``X @ weight.T + bias``.

    Attributes
    ----------
    weight_ : Tensor (n_classes, D)
        float32, weights of the embedding's dimensions.
    bias_ : Tensor (n_classes,)
        float32, logits of an embedding of zeros.
    """

    weight_: Tensor
    bias_: Tensor

    def decision_function(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = torch.addmm(self.bias_, as_rows(X).cpu(), self.weight_.T).numpy()
        return logits

    def state_dict(self) -> dict[str, Tensor]:
        return {"weight": self.weight_, "bias": self.bias_}

    def load_state_dict(self, state: Mapping[str, Tensor], classes: ArrayLike) -> Self:
        self.classes_ = np.asarray(classes)
        self.weight_, self.bias_ = state["weight"], state["bias"]
        self.n_parameters_ = self.weight_.numel() + self.bias_.numel()
        return self
