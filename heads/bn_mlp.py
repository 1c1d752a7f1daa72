"""A hidden layer with batch normalisation."""

from torch import nn

from heads.minibatch import MinibatchHead
from heads.mlp import Dropout


class BNMLPHead(MinibatchHead):
    """D-512-N with batch normalisation, ReLU and dropout 0.3 between; the AISHELL-4 system's, on mean and deviation."""

    smallest_batch = 2  # the statistics of one row are none

    def build(self, dim: int, n_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(dim, 512), nn.BatchNorm1d(512), nn.ReLU(), Dropout(0.3), nn.Linear(512, n_classes),
        )  # fmt: skip
