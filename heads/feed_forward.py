"""Gradients of small feed-forward networks, written out.

For a linear layer on 32 rows, autograd and its optimizer spend three times as long on bookkeeping as the arithmetic
takes; these networks are a few kinds of layers in a row, whose gradients are a line or two each.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zero a share of the inputs in training, and scale the others up.

    On a CPU decided by 16 random bits each, drawn 64 at a time: a fifth of what `nn.Dropout` takes for 32 x 256 inputs.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.level = round(share * 2**16)

    def draw(self, like: Tensor) -> Tensor:
        """Draw the factors, 0 or ``1 / (1 - share)``, of inputs."""
        share = self.level / 2**16
        if like.device.type != "cpu":
            return (torch.rand_like(like) >= share).to(like.dtype).div_(1 - share)
        bits = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device).random_(-(2**63), None)
        kept = bits.view(torch.int16)[: like.numel()].view(like.shape) >= self.level - 2**15
        return kept.to(like.dtype).div_(1 - share)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.draw(inputs) if self.training else inputs


class FeedForwardGradient:
    """Cross-entropy's gradient by the parameters of a linear layer, or of a row of layers that ends with one.

    Parameters
    ----------
    network : nn.Module
        One that `fits`.
    gradient : Tensor (n_parameters,)
        Where the gradient is written, in the order of ``network.parameters()``.
    """

    def __init__(self, network: nn.Module, gradient: Tensor) -> None:
        parameters = list(network.parameters())
        parts = torch.split(gradient, [parameter.numel() for parameter in parameters])
        slopes = {id(one): part.view_as(one) for one, part in zip(parameters, parts, strict=True)}
        self.steps = [_STEPS[type(layer)](layer, slopes) for layer in _layers(network)]

    @staticmethod
    def fits(network: nn.Module) -> bool:
        """Tell whether a network is made of the layers whose gradients are written out here."""
        layers = _layers(network)
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        has_ends = bool(linear) and linear[0] is layers[0] and linear[-1] is layers[-1]
        usual = all(layer.bias is not None for layer in linear) and all(
            layer.affine and layer.track_running_stats and layer.momentum
            for layer in layers
            if isinstance(layer, nn.BatchNorm1d)
        )
        return has_ends and usual and all(type(layer) in _STEPS for layer in layers)

    def __call__(self, rows: Tensor, targets: Tensor, shares: Tensor | float) -> Tensor:
        """Write the gradient of a batch, and return its losses (n,).

        Parameters
        ----------
        rows : Tensor (n, D)
        targets : Tensor (n,)
            int64.
        shares : Tensor (n,) or float
            Of each row in the loss; they sum to 1.
        """
        values = rows
        for step in self.steps:
            values = step.forward(values)
        losses, slope = cross_entropy_slope(values, targets, shares)
        for step in reversed(self.steps):
            slope = step.backward(slope)
        return losses


def cross_entropy_slope(logits: Tensor, targets: Tensor, shares: Tensor | float) -> tuple[Tensor, Tensor]:
    """Return the losses (n,) of logits (n, n_classes), and the slope (n, n_classes) of their weighted sum by these."""
    columns = targets[:, None]
    logs = logits.log_softmax(dim=1)
    losses = logs.gather(1, columns).neg_().squeeze(1)
    slope = logs.exp_().scatter_(1, columns, -1.0, reduce="add")  # probabilities less the targets' one
    return losses, slope.mul_(shares[:, None] if isinstance(shares, Tensor) else shares)


class _Step(ABC):
    """A layer's values of one batch, and its slopes."""

    def __init__(self, layer: nn.Module, slopes: dict[int, Tensor]) -> None:
        self.layer = layer
        self.given = torch.empty(0)  # the batch's inputs, or what else the slope needs of them

    @abstractmethod
    def forward(self, values: Tensor) -> Tensor:
        """Return the layer's outputs; they may be computed in place."""

    @abstractmethod
    def backward(self, slope: Tensor) -> Tensor:
        """Write the slopes by the layer's parameters, and return those by its inputs."""


class _LinearStep(_Step):
    def __init__(self, layer: nn.Linear, slopes: dict[int, Tensor]) -> None:
        super().__init__(layer, slopes)
        self.weight, self.bias = layer.weight.detach(), layer.bias.detach()
        self.weight_slope, self.bias_slope = slopes[id(layer.weight)], slopes[id(layer.bias)]
        self.is_first = next(iter(slopes)) == id(layer.weight)  # nobody asks for the slope by the features

    def forward(self, values: Tensor) -> Tensor:
        self.given = values
        return torch.addmm(self.bias, values, self.weight.t())

    def backward(self, slope: Tensor) -> Tensor:
        torch.mm(slope.t(), self.given, out=self.weight_slope)
        torch.sum(slope, 0, out=self.bias_slope)
        return slope if self.is_first else slope @ self.weight


class _ReLUStep(_Step):
    def forward(self, values: Tensor) -> Tensor:
        self.given = values.relu_()
        return self.given

    def backward(self, slope: Tensor) -> Tensor:
        return slope.mul_(self.given > 0)


class _DropoutStep(_Step):
    def __init__(self, layer: Dropout, slopes: dict[int, Tensor]) -> None:
        super().__init__(layer, slopes)
        self.draw = layer.draw

    def forward(self, values: Tensor) -> Tensor:
        self.given = self.draw(values)
        return values * self.given

    def backward(self, slope: Tensor) -> Tensor:
        return slope.mul_(self.given)


class _BatchNormStep(_Step):
    """The operations that `nn.BatchNorm1d` comes to, with its running statistics."""

    def __init__(self, layer: nn.BatchNorm1d, slopes: dict[int, Tensor]) -> None:
        super().__init__(layer, slopes)
        self.weight, self.bias = layer.weight.detach(), layer.bias.detach()
        self.weight_slope, self.bias_slope = slopes[id(layer.weight)], slopes[id(layer.bias)]
        self.running = layer.running_mean, layer.running_var
        self.momentum, self.eps = float(layer.momentum or 0), layer.eps

    def forward(self, values: Tensor) -> Tensor:
        self.given = values
        outputs, self.mean, self.scale = torch.native_batch_norm(
            values, self.weight, self.bias, *self.running, True, self.momentum, self.eps
        )
        return outputs

    def backward(self, slope: Tensor) -> Tensor:
        by_inputs, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            slope, self.given, self.weight, *self.running, self.mean, self.scale, True, self.eps, [True, True, True]
        )
        self.weight_slope.copy_(by_weight)
        self.bias_slope.copy_(by_bias)
        inputs: Tensor = by_inputs
        return inputs


_STEPS: dict[type[nn.Module], Any] = {
    nn.Linear: _LinearStep,
    nn.ReLU: _ReLUStep,
    Dropout: _DropoutStep,
    nn.BatchNorm1d: _BatchNormStep,
}


def _layers(network: nn.Module) -> list[nn.Module]:
    return list(network) if isinstance(network, nn.Sequential) and len(network) else [network]
