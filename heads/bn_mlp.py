"""`BNMLPHead`: a perceptron with one hidden layer and batch normalisation."""

from collections.abc import Sequence

from torch import nn

from heads.feed_forward import Dropout
from heads.minibatch import MinibatchHead


class BNMLPHead(MinibatchHead):
    """Two linear layers, D-512-N, with batch normalisation, ReLU and dropout 0.3 between them.

    The AISHELL-4 system has this head on the mean and the standard deviation of its features.
    """

    min_batch_size = 2  # batch normalisation needs the variance of a batch

    def build(self, shape: Sequence[int], n_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(shape[-1], 512), nn.BatchNorm1d(512), nn.ReLU(), Dropout(0.3), nn.Linear(512, n_classes),
        )  # fmt: skip
