"""Softmax regression."""

from collections.abc import Sequence

from torch import nn

from heads.minibatch import MinibatchHead


class LinearHead(MinibatchHead):
    """One linear layer: softmax regression, the usual probe of a frozen encoder."""

    def build(self, shape: Sequence[int], n_classes: int) -> nn.Module:
        return nn.Linear(shape[-1], n_classes)
