"""`LDAHead`: linear discriminant analysis."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from heads.affine import AffineHead
from heads.base import Validation
from heads.covariance import ClassStatistics
from heads.search_space import Uniform


class LDAHead(AffineHead):
    """Linear logits from Gaussian classes with a shared covariance, as in scikit-learn's LDA.

    Unlike scikit-learn, the covariance is divided by the degrees of freedom (rows minus classes), not by the number of
    rows. The logits are smaller by that factor, and the probabilities less extreme if there are few rows.

    Whitening by the within-class covariance amplifies directions of small variance. Embeddings that were not trained on
    speakers hold much speaker information there.

    Parameters
    ----------
    shrinkage : float or None
        Shrinkage, from 0 to 1, of the covariance towards a multiple of the identity. It helps if there are few rows.
        None is no shrinkage.
    class_weight : {None, "balanced"}
        Prior probabilities of the speakers: None takes their shares of the training rows, ``balanced`` equal ones.
    """

    search_space: ClassVar[Mapping[str, Any]] = {"shrinkage": Uniform(0, 1)}

    def __init__(self, shrinkage: float | None = None, class_weight: Literal["balanced"] | None = None) -> None:
        self.shrinkage = shrinkage
        self.class_weight = class_weight

    def learn(self, rows: Tensor, targets: Tensor, validation: Validation | None) -> None:
        statistics = ClassStatistics.of(rows, targets)
        whitening = statistics.whitening(self.shrinkage)
        # Centre first: the difference of two large numbers would lose precision.
        centre = rows.double().mean(0)
        means = (statistics.means - centre) @ whitening
        weight = means @ whitening.T
        priors = statistics.counts.double() / len(rows)
        if self.class_weight == "balanced":
            priors = torch.full_like(priors, 1 / len(priors))
        bias = priors.log() - means.square().sum(1) / 2 - weight @ centre
        self.load_state_dict({"weight": weight.float(), "bias": bias.float()}, self.classes_)
