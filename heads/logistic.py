"""`LogisticHead`: multinomial logistic regression."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from heads.affine import AffineHead
from heads.base import HeadError, Validation
from heads.search_space import LogUniform

logger = logging.getLogger(__name__)


class LogisticHead(AffineHead):
    """Logistic regression of scikit-learn (L-BFGS).

    It finds the optimum of an L2-penalised softmax regression, while `linear` trains by minibatches and stops early.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty.
    class_weight : {None, "balanced"}
        ``balanced`` gives each speaker the same total weight; None gives each row the same weight.
    max_iter : int
        Maximum number of iterations of L-BFGS.
    """

    search_space: ClassVar[Mapping[str, Any]] = {"C": LogUniform(1e-4, 1e4)}

    def __init__(self, C: float = 1.0, class_weight: Literal["balanced"] | None = None, max_iter: int = 1000) -> None:
        self.C = C
        self.class_weight = class_weight
        self.max_iter = max_iter

    def learn(self, rows: Tensor, targets: Tensor, validation: Validation | None) -> None:
        if not 0 < self.C < float("inf") or self.max_iter < 1:
            raise HeadError(f"Expected C above 0 and max_iter of at least 1; got {self.C:g} and {self.max_iter}.")
        model = LogisticRegression(C=self.C, class_weight=self.class_weight, max_iter=self.max_iter)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(rows.numpy(), targets.numpy())
        if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
            logger.warning(
                "The head 'logistic' did not converge in %d iterations. Scale the features, or give a C below %g.",
                self.max_iter, self.C,
            )  # fmt: skip
        weight, bias = torch.from_numpy(model.coef_).float(), torch.from_numpy(model.intercept_).float()
        if len(self.classes_) == 2:  # scikit-learn returns one logit, that of the second class
            weight, bias = torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros(1), bias])
        self.load_state_dict({"weight": weight, "bias": bias}, self.classes_)
