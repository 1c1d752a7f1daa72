"""Softmax regression."""

from torch import nn

from heads.minibatch import MinibatchHead


class LinearHead(MinibatchHead):
    """One linear layer: softmax regression, the usual probe of a frozen encoder."""

    def build(self, dim: int, n_classes: int) -> nn.Module:
        return nn.Linear(dim, n_classes)
