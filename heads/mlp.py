"""`MLPHead`: a small multilayer perceptron."""

from collections.abc import Sequence

from torch import nn

from heads.feed_forward import Dropout
from heads.minibatch import MinibatchHead


class MLPHead(MinibatchHead):
    """Three linear layers, D-256-128-N, with ReLU and dropout 0.3 between them."""

    def build(self, shape: Sequence[int], n_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(shape[-1], 256), nn.ReLU(), Dropout(0.3),
            nn.Linear(256, 128), nn.ReLU(), Dropout(0.3),
            nn.Linear(128, n_classes),
        )  # fmt: skip
