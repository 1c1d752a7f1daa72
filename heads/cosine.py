"""Softmax regression of angles, with a margin."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from numpy.typing import ArrayLike
from scipy.stats import loguniform
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize

from heads.base import HeadError
from heads.minibatch import MinibatchHead


class CosineHead(MinibatchHead):
    """Cosines between the embedding and a learned direction of each speaker, times a scale.

    In training the own speaker's logit is made smaller by a margin, so that the others must stay that far behind:
    AM-softmax (Wang et al., 2018) takes the margin from the cosine, AAM-softmax (Deng et al., 2019) adds it to the
    angle.

    Parameters
    ----------
    margin : float
        0 is none; of the cosine, or in radians.
    scale : float
        Factor of the cosines.
    margin_type : {"am", "aam"}
        From what the margin is taken.
    **settings
        As `MinibatchHead` takes them.
    """

    search_space: ClassVar[Mapping[str, Any]] = {
        **MinibatchHead.search_space,
        "margin": [0.0, 0.1, 0.2, 0.3, 0.5],
        "scale": loguniform(5, 80),
    }

    def __init__(
        self, margin: float = 0.2, scale: float = 30.0, margin_type: Literal["am", "aam"] = "am", **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.margin = margin
        self.scale = scale
        self.margin_type = margin_type

    def fit(
        self,
        X: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        X_val: ArrayLike | Tensor | None = None,
        y_val: ArrayLike | Tensor | None = None,
    ) -> "CosineHead":
        if self.margin_type not in ("am", "aam") or not 0 <= self.margin < math.pi / 2 or not 0 < self.scale < math.inf:
            raise HeadError(
                "The margin must be from 0 to 1.57, the scale above 0 and the margin_type am or aam; got "
                f"{self.margin:g}, {self.scale:g} and {self.margin_type!r}."
            )
        super().fit(X, y, X_val, y_val)
        return self

    def build(self, shape: Sequence[int], n_classes: int) -> nn.Module:
        return _Cosines(shape[-1], n_classes, self.scale)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        columns = targets[:, None]
        cosines = logits.gather(1, columns) / self.scale
        if self.margin_type == "am":
            smaller = cosines - self.margin
        else:
            sines = (1 - cosines.square()).clamp_min(1e-7).sqrt()
            added = cosines * math.cos(self.margin) - sines * math.sin(self.margin)
            # Beyond a straight angle a larger one has a larger cosine again; there the cosine goes on falling instead.
            fallen = cosines - math.sin(self.margin) * self.margin
            smaller = torch.where(cosines > -math.cos(self.margin), added, fallen)
        return cross_entropy(logits.scatter(1, columns, self.scale * smaller), targets, reduction="none")


class _Cosines(nn.Module):
    def __init__(self, dim: int, n_classes: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_classes, dim)))
        self.scale = scale

    def forward(self, rows: Tensor) -> Tensor:
        return self.scale * linear(normalize(rows, dim=1), normalize(self.weight, dim=1))
