"""`CosineHead`: softmax regression of cosines, trained with a margin."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize

from heads.base import HeadError, Validation
from heads.feed_forward import cross_entropy_grad
from heads.minibatch import Gradient, MinibatchHead
from heads.search_space import LogUniform


class CosineHead(MinibatchHead):
    """Logits that are cosines between the embedding and a learned direction of each speaker, times a scale.

    In training, a margin lowers the logit of the true speaker, so that other speakers must stay at least that far
    below. AM-softmax (Wang et al., 2018) subtracts the margin from the cosine; AAM-softmax (Deng et al., 2019) adds it
    to the angle.

    Parameters
    ----------
    margin : float
        Margin of the cosine for ``am``, of the angle (radians) for ``aam``; 0 is no margin.
    scale : float
        Factor of the cosines.
    margin_type : {"am", "aam"}
        AM-softmax or AAM-softmax.
    lr : float
        Learning rate of Adam.
    **settings
        Other parameters of `MinibatchHead`.
    """

    search_space: ClassVar[Mapping[str, Any]] = {
        **MinibatchHead.search_space,
        "margin": [0.0, 0.1, 0.2, 0.3, 0.5],
        "scale": LogUniform(5, 80),
    }

    def __init__(
        self,
        margin: float = 0.2,
        scale: float = 30.0,
        margin_type: Literal["am", "aam"] = "am",
        *,
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
                "Expected a margin from 0 to 1.57, a scale above 0 and margin_type 'am' or 'aam'; got "
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
        """Return the cosines lowered by the margin, and the derivative of that with respect to the cosines."""
        if self.margin_type == "am":
            return cosines - self.margin, 1.0
        cos, sin = math.cos(self.margin), math.sin(self.margin)
        sines = (1 - cosines.square()).clamp_min(1e-7).sqrt()
        # Beyond 180 degrees the cosine of angle plus margin rises again; there a linear continuation keeps it falling.
        in_range = cosines > -cos
        lowered = torch.where(in_range, cosines * cos - sines * sin, cosines - sin * self.margin)
        return lowered, torch.where(in_range, cos + sin * cosines / sines, 1.0)

    def gradient(self, network: nn.Module, out: Tensor) -> Gradient:
        """Return a function that computes the gradient in closed form, for rows of unit length."""
        weight = network.get_parameter("weight").detach()
        weight_grad = out.view_as(weight)

        def closed_form(batch: Tensor, targets: Tensor, row_weights: Tensor | float) -> Tensor:
            columns = targets[:, None]
            factors = self.scale / torch.linalg.vector_norm(weight, dim=1, keepdim=True)
            directions = weight * factors  # their length is the scale
            logits = batch @ directions.t()
            own_derivative: Tensor | float = 1.0
            if self.margin_type == "am":
                logits.scatter_(1, columns, -self.scale * self.margin, reduce="add")
            else:
                own, own_derivative = self._with_margin(logits.gather(1, columns) / self.scale)
                logits.scatter_(1, columns, self.scale * own)
            losses, logits_grad = cross_entropy_grad(logits, targets, row_weights)
            if isinstance(own_derivative, Tensor):
                logits_grad.scatter_(1, columns, logits_grad.gather(1, columns) * own_derivative)
            directions_grad = logits_grad.t() @ batch
            # The logits do not depend on the length of a weight: remove the gradient's part along the weight.
            along = (directions_grad * directions).sum(1, keepdim=True)
            torch.addcmul(directions_grad, directions, along, value=-1 / self.scale**2, out=weight_grad)
            weight_grad.mul_(factors)
            return losses

        return closed_form


class _Cosines(nn.Module):
    def __init__(self, dim: int, n_classes: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_classes, dim)))
        self.scale = scale

    def forward(self, rows: Tensor) -> Tensor:
        return self.scale * linear(normalize(rows, dim=1), normalize(self.weight, dim=1))
