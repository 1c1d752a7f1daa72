"""A hidden layer with batch normalisation."""

from collections.abc import Sequence

from torch import nn

from heads.feed_forward import Dropout
from heads.minibatch import MinibatchHead


class BNMLPHead(MinibatchHead):
    """D-512-N with batch normalisation, ReLU and dropout 0.3 between; the AISHELL-4 system's, on mean and deviation."""

    smallest_batch = 2  # the statistics of one row are none

    def build(self, shape: Sequence[int], n_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(shape[-1], 512), nn.BatchNorm1d(512), nn.ReLU(), Dropout(0.3), nn.Linear(512, n_classes),
        )  # fmt: skip
