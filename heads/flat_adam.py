"""Adam on all parameters of a network as one vector."""

import torch
from torch import nn


class FlatAdam:
    """Adam (Kingma and Ba, 2015) with decoupled weight decay, for networks of many small steps.

    The parameters become views of one vector, so that a step is one fused operation whatever the layers are. It is the
    operation of `torch.optim.AdamW`, called without that class, which takes longer over a linear head's step (80
    microseconds) than its gradient does (60).

    Parameters
    ----------
    network : nn.Module
        Its parameters are moved into `values`.
    lr : float
        Learning rate.
    weight_decay : float
        Share of the learning rate by which all parameters shrink at each step.

    Attributes
    ----------
    values, gradient : Tensor (n_parameters,)
        In the order of ``network.parameters()``; `step` reads the gradient.
    """

    def __init__(self, network: nn.Module, lr: float, weight_decay: float = 0.0) -> None:
        parameters = list(network.parameters())
        self.lr, self.weight_decay = lr, weight_decay
        self.values = torch.cat([parameter.detach().flatten() for parameter in parameters])
        self.gradient = torch.zeros_like(self.values)
        self._mean, self._square = torch.zeros_like(self.values), torch.zeros_like(self.values)
        self._count = torch.zeros((), device=self.values.device)
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, part in zip(parameters, torch.split(self.values, sizes), strict=True):
            parameter.data = part.view_as(parameter)

    def step(self) -> None:
        """Move the parameters by `gradient`. Autograd is to be off."""
        self._count += 1
        torch._fused_adamw_(
            [self.values], [self.gradient], [self._mean], [self._square], [], [self._count], amsgrad=False,
            maximize=False, lr=self.lr, beta1=0.9, beta2=0.999, weight_decay=self.weight_decay, eps=1e-8,
        )  # fmt: skip
