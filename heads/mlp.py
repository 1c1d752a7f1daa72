"""A small multilayer perceptron."""

from torch import nn

from heads.minibatch import MinibatchHead


class MLPHead(MinibatchHead):
    """Three linear layers, D-256-128-N, with ReLU and dropout 0.3 between them."""

    def build(self, dim: int, n_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(dim, 256), nn.ReLU(), nn.Dropout(0.3),
            nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.3),
            nn.Linear(128, n_classes),
        )  # fmt: skip
