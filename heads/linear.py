"""`LinearHead`: softmax regression."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from heads.minibatch import MinibatchHead


class LinearHead(MinibatchHead):
    """One linear layer: softmax regression, the usual probe of a frozen encoder.

    The parameters are those of `MinibatchHead`, with a default learning rate three times as high.
    """

    def __init__(self, lr: float = 3e-3, **settings: Any) -> None:
        super().__init__(lr=lr, **settings)

    def build(self, shape: Sequence[int], n_classes: int) -> nn.Module:
        return nn.Linear(shape[-1], n_classes)
