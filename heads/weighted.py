"""`WeightedHead`: a learned average of an encoder's layers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from heads.minibatch import MinibatchHead


class WeightedHead(MinibatchHead):
    """Average of the layers with learned softmax weights, followed by one linear layer. It takes rows (n, L, D).

    This is the affine speaker model of SUPERB (Yang et al., 2021), where the average over time comes last. The order
    does not matter, as all these steps are affine, so the head takes vectors that are already averaged over time.
    """

    takes_layers = True

    def build(self, shape: Sequence[int], n_classes: int) -> nn.Module:
        return _WeightedLayers(shape[-2], shape[-1], n_classes)

    def restore(self, state: Mapping[str, Tensor], n_classes: int) -> nn.Module:
        return _WeightedLayers(len(state["logits"]), state["linear.weight"].shape[1], n_classes)

    @property
    def layer_weights_(self) -> Tensor:
        """Weights of the layers (L,), which sum to 1."""
        logits: Tensor = self.network_.get_parameter("logits")
        return logits.detach().softmax(0)


class _WeightedLayers(nn.Module):
    def __init__(self, n_layers: int, dim: int, n_classes: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_layers))
        self.linear = nn.Linear(dim, n_classes)

    def forward(self, rows: Tensor) -> Tensor:
        mixed = torch.einsum("l,nld->nd", self.logits.softmax(0), rows)
        logits: Tensor = self.linear(mixed)
        return logits
