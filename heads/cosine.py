"""Softmax regression of angles, with a margin."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from scipy.stats import loguniform
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize

from heads.base import HeadError, Validation
from heads.feed_forward import cross_entropy_slope
from heads.minibatch import Gradient, MinibatchHead


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
    lr : float
        Adam's learning rate.
    **settings
        As `MinibatchHead` takes them.
    """

    search_space: ClassVar[Mapping[str, Any]] = {
        **MinibatchHead.search_space,
        "margin": [0.0, 0.1, 0.2, 0.3, 0.5],
        "scale": loguniform(5, 80),
    }

    def __init__(
        self,
        margin: float = 0.2,
        scale: float = 30.0,
        margin_type: Literal["am", "aam"] = "am",
        lr: float = 3e-3,
        **settings: Any,
    ) -> None:
        super().__init__(lr=lr, **settings)
        self.margin = margin
        self.scale = scale
        self.margin_type = margin_type

    def learn(self, rows: Tensor, targets: Tensor, validation: Validation | None) -> None:
        if self.margin_type not in ("am", "aam") or not 0 <= self.margin < math.pi / 2 or not 0 < self.scale < math.inf:
            raise HeadError(
                "The margin must be from 0 to 1.57, the scale above 0 and the margin_type am or aam; got "
                f"{self.margin:g}, {self.scale:g} and {self.margin_type!r}."
            )
        super().learn(normalize(rows, dim=1), targets, validation)

    def build(self, shape: Sequence[int], n_classes: int) -> nn.Module:
        return _Cosines(shape[-1], n_classes, self.scale)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        columns = targets[:, None]
        own, _ = self._with_margin(logits.gather(1, columns) / self.scale)
        return cross_entropy(logits.scatter(1, columns, self.scale * own), targets, reduction="none")

    def _with_margin(self, cosines: Tensor) -> tuple[Tensor, Tensor | float]:
        """Return the cosines less the margin, and the slope of that by the cosines."""
        if self.margin_type == "am":
            return cosines - self.margin, 1.0
        cos, sin = math.cos(self.margin), math.sin(self.margin)
        sines = (1 - cosines.square()).clamp_min(1e-7).sqrt()
        # Beyond a straight angle a larger one has a larger cosine again; there the cosine goes on falling instead.
        straight = cosines > -cos
        smaller = torch.where(straight, cosines * cos - sines * sin, cosines - sin * self.margin)
        return smaller, torch.where(straight, cos + sin * cosines / sines, 1.0)

    def gradient(self, network: nn.Module, out: Tensor) -> Gradient:
        """Return what computes the gradient, written out, of rows that have unit length."""
        weight = network.get_parameter("weight").detach()
        slope_of_weight = out.view_as(weight)

        def written_out(batch: Tensor, targets: Tensor, shares: Tensor | float) -> Tensor:
            columns = targets[:, None]
            factors = self.scale / torch.linalg.vector_norm(weight, dim=1, keepdim=True)
            directions = weight * factors  # as long as the scale
            logits = batch @ directions.t()
            own_slope: Tensor | float = 1.0
            if self.margin_type == "am":
                logits.scatter_(1, columns, -self.scale * self.margin, reduce="add")
            else:
                own, own_slope = self._with_margin(logits.gather(1, columns) / self.scale)
                logits.scatter_(1, columns, self.scale * own)
            losses, slope = cross_entropy_slope(logits, targets, shares)
            if isinstance(own_slope, Tensor):
                slope.scatter_(1, columns, slope.gather(1, columns) * own_slope)
            along = slope.t() @ batch
            # What moves a weight along itself does not turn it.
            itself = (along * directions).sum(1, keepdim=True)
            torch.addcmul(along, directions, itself, value=-1 / self.scale**2, out=slope_of_weight)
            slope_of_weight.mul_(factors)
            return losses

        return written_out


class _Cosines(nn.Module):
    def __init__(self, dim: int, n_classes: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_classes, dim)))
        self.scale = scale

    def forward(self, rows: Tensor) -> Tensor:
        return self.scale * linear(normalize(rows, dim=1), normalize(self.weight, dim=1))
