"""Linear discriminant analysis."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from scipy.stats import uniform
from torch import Tensor

from heads.affine import AffineHead
from heads.base import Validation
from heads.covariance import ClassStatistics


class LDAHead(AffineHead):
    """Gaussians of one covariance for all classes: linear logits, those of scikit-learn's LDA.

    There the covariance is divided by the rows, here by those that are free (rows less classes), so that the logits are
    smaller by that factor and the probabilities less sure of themselves where rows are few.

    Whitening by the within-class covariance brings out directions of small variance, where embeddings that were not
    trained for speakers keep much of them.

    Parameters
    ----------
    shrinkage : float or None
        None is unshrunk; a share from 0 to 1 pulls the covariance towards a multiple of the identity, which helps where
        rows are few.
    class_weight : {None, "balanced"}
        None expects speakers as often as in training, ``balanced`` all alike.
    """

    search_space: ClassVar[Mapping[str, Any]] = {"shrinkage": uniform(0, 1)}

    def __init__(self, shrinkage: float | None = None, class_weight: Literal["balanced"] | None = None) -> None:
        self.shrinkage = shrinkage
        self.class_weight = class_weight

    def learn(self, rows: Tensor, targets: Tensor, validation: Validation | None) -> None:
        statistics = ClassStatistics.of(rows, targets)
        whitening = statistics.whitening(self.shrinkage)
        # About the mean of all, so that no large number is taken from another.
        centre = rows.double().mean(0)
        means = (statistics.means - centre) @ whitening
        weight = means @ whitening.T
        priors = statistics.counts.double() / len(rows)
        if self.class_weight == "balanced":
            priors = torch.full_like(priors, 1 / len(priors))
        bias = priors.log() - means.square().sum(1) / 2 - weight @ centre
        self.load_state_dict({"weight": weight.float(), "bias": bias.float()}, self.classes_)
