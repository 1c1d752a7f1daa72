"""Linear discriminant analysis."""

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from threadpoolctl import threadpool_limits
from torch import Tensor

from heads.base import Head, HeadError, as_classes, as_rows
from heads.scalers import SMALL_FIT


class LDAHead(Head):
    """scikit-learn's linear discriminant analysis, kept as two tensors.

    Whitening by the within-class covariance brings out directions of small variance, where embeddings that were not
    trained for speakers keep much of them.

    Parameters
    ----------
    shrinkage : float or None
        None is unshrunk (solver ``svd``); a share from 0 to 1 pulls the covariance towards a multiple of the identity
        (solver ``lsqr``), which helps where rows are few.

    Attributes
    ----------
    weight_ : Tensor (n_classes, D)
        float32.
    bias_ : Tensor (n_classes,)
        float32.
    """

    def __init__(self, shrinkage: float | None = None) -> None:
        self.shrinkage = shrinkage

    def fit(
        self,
        X: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        X_val: ArrayLike | Tensor | None = None,
        y_val: ArrayLike | Tensor | None = None,
    ) -> "LDAHead":
        rows = as_rows(X)
        classes, numbers = as_classes(y, len(rows))
        if len(rows) <= len(classes):
            raise HeadError(
                f"LDA needs more training rows than speakers, it has {len(rows)} of {len(classes)}; add recordings, or "
                "choose another head."
            )
        solver = "svd" if self.shrinkage is None else "lsqr"
        model = LinearDiscriminantAnalysis(solver=solver, shrinkage=self.shrinkage)
        # A small decomposition gains nothing from BLAS's threads, and waits for them where the machine is busy.
        few_threads = threadpool_limits(1 if rows.numel() < SMALL_FIT else None)
        with few_threads, warnings.catch_warnings():  # collinear features are usual, and the svd solver drops them
            warnings.filterwarnings("ignore", "Variables are collinear")
            try:
                model.fit(rows.double().cpu().numpy(), numbers)
            except (ValueError, IndexError, np.linalg.LinAlgError) as error:
                raise HeadError(f"LDA finds no direction that varies within speakers ({error}).") from error
        weight, bias = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
        if len(classes) == 2:  # scikit-learn keeps the second class against the first alone
            weight, bias = np.vstack([np.zeros_like(weight), weight]), np.append(0.0, bias)
        state = {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}
        return self.load_state_dict(state, classes)

    def decision_function(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = torch.addmm(self.bias_, as_rows(X).cpu(), self.weight_.T).numpy()
        return logits

    def state_dict(self) -> dict[str, Tensor]:
        return {"weight": self.weight_, "bias": self.bias_}

    def load_state_dict(self, state: Mapping[str, Tensor], classes: ArrayLike) -> "LDAHead":
        self.classes_ = np.asarray(classes)
        self.weight_, self.bias_ = state["weight"], state["bias"]
        self.n_parameters_ = self.weight_.numel() + self.bias_.numel()
        return self
