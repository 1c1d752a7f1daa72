"""Gradients of small feed-forward networks, written out.

For a linear layer on 32 rows, autograd and its optimizer spend three times as long on bookkeeping as the arithmetic
takes; these networks are all Linear, ReLU and Dropout in a row, whose gradients are a line each.
"""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zero a share of the inputs in training, and scale the others up.

    Decided by 16 random bits each, drawn 64 at a time: on a CPU a fifth of what `nn.Dropout` takes for 32 x 256 inputs.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.level = round(share * 2**16)

    def draw(self, like: Tensor) -> Tensor:
        """Draw the factors, 0 or ``1 / (1 - share)``, of inputs."""
        bits = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device).random_(-(2**63), None)
        kept = bits.view(torch.int16)[: like.numel()].view(like.shape) >= self.level - 2**15
        return kept.to(like.dtype).mul_(2**16 / (2**16 - self.level))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.draw(inputs) if self.training else inputs


class FeedForwardGradient:
    """Cross-entropy's gradient by the parameters of a linear layer, or of ``Sequential(Linear, ReLU, Dropout, ...)``.

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
        slopes = iter([part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)])
        # Of a linear layer its weight and bias, and where their slopes go; a dropout; or nothing, which is a ReLU.
        self.layers: list[tuple[Tensor, ...] | Dropout | None] = []
        for layer in _layers(network):
            if isinstance(layer, nn.Linear):
                self.layers.append((layer.weight.detach(), layer.bias.detach(), next(slopes), next(slopes)))
            else:
                self.layers.append(layer if isinstance(layer, Dropout) else None)

    @staticmethod
    def fits(network: nn.Module) -> bool:
        """Tell whether a network is made of the layers whose gradients are written out here."""
        layers = _layers(network)
        known = all(type(layer) in (nn.Linear, nn.ReLU, Dropout) for layer in layers)
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        has_ends = bool(linear) and linear[0] is layers[0] and linear[-1] is layers[-1]
        return known and has_ends and all(layer.bias is not None for layer in linear)

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
        inputs: list[Tensor] = []  # of each layer; of a dropout its factors
        values = rows
        for layer in self.layers:
            inputs.append(values)
            if isinstance(layer, tuple):
                values = torch.addmm(layer[1], values, layer[0].t())
            elif isinstance(layer, Dropout):
                inputs[-1] = layer.draw(values)
                values = values * inputs[-1]
            else:
                values = values.relu_()
        columns = targets[:, None]
        logs = values.log_softmax(dim=1)
        losses = logs.gather(1, columns).neg_()
        slope = logs.exp_().scatter_(1, columns, -1.0, reduce="add")  # probabilities less the targets' one
        slope.mul_(shares[:, None] if isinstance(shares, Tensor) else shares)
        for number in range(len(self.layers) - 1, -1, -1):
            layer, given = self.layers[number], inputs[number]
            if not isinstance(layer, tuple):
                slope = slope.mul_(given if isinstance(layer, Dropout) else given > 0)
                continue
            weight, _, weight_slope, bias_slope = layer
            torch.mm(slope.t(), given, out=weight_slope)
            torch.sum(slope, 0, out=bias_slope)
            if number:
                slope = slope @ weight
        return losses.squeeze(1)


def _layers(network: nn.Module) -> list[nn.Module]:
    return list(network) if isinstance(network, nn.Sequential) and len(network) else [network]
