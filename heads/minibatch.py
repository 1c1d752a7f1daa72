"""Heads that are small networks, trained by minibatches of the cached features."""

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.adam import adam

from encoders import resolve_device, single_thread
from heads.base import Head, HeadError, as_classes, as_rows

# Products in a step's forward under which one thread is as fast as two (measured: 5 % apart), and safe from contention.
SMALL_STEP = 20_000_000


class MinibatchHead(Head):
    """A network trained by Adam on cross-entropy.

    With validation rows, training stops after `patience` epochs without a better validation accuracy, and the best
    epoch's network is kept (of equals, the one with the lower validation loss). Without, it goes on for all `epochs`.

    Parameters
    ----------
    epochs : int
        Most passes over the training rows.
    lr : float
        Adam's learning rate.
    batch_size : int
        Rows in a step.
    patience : int
        Epochs without a better one before training stops.
    seed : int
        Of the initial weights, the order of the rows and the dropout.
    device : str
        ``auto`` is CUDA where there is one.

    Attributes
    ----------
    network_ : nn.Module
        The trained network, on the CPU.
    best_epoch_ : int
        Number of epochs after which the network was kept.
    history_ : list of dict
        ``train_loss``, and ``val_loss`` and ``val_accuracy`` where there are validation rows, of each epoch.
    """

    def __init__(
        self,
        epochs: int = 100,
        lr: float = 1e-3,
        batch_size: int = 32,
        patience: int = 20,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.patience = patience
        self.seed = seed
        self.device = device

    # Fewest rows that a step can be taken on.
    smallest_batch: ClassVar[int] = 1

    @abstractmethod
    def build(self, dim: int, n_classes: int) -> nn.Module:
        """Make the network from (n, dim) to logits (n, n_classes)."""

    def build_for(self, shape: torch.Size, n_classes: int) -> nn.Module:
        """Make the network for rows of a shape (dim,)."""
        return self.build(shape[-1], n_classes)

    def restore(self, state: Mapping[str, Tensor], n_classes: int) -> nn.Module:
        """Make the network that a saved state fits, which begins with a linear layer."""
        return self.build(next(iter(state.values())).shape[1], n_classes)

    def fit(
        self,
        X: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        X_val: ArrayLike | Tensor | None = None,
        y_val: ArrayLike | Tensor | None = None,
    ) -> "MinibatchHead":
        if min(self.epochs, self.batch_size, self.patience) < 1 or not 0 < self.lr < math.inf:
            raise HeadError(
                f"epochs, batch_size and patience must be at least 1 and lr above 0; got {self.epochs}, "
                f"{self.batch_size}, {self.patience}, {self.lr:g}."
            )
        if self.batch_size < self.smallest_batch:
            raise HeadError(f"batch_size is {self.batch_size}; this head normalises over a batch, so give 2 or more.")
        device = resolve_device(self.device)
        rows = as_rows(X, self.takes_layers).to(device)
        self.classes_, numbers = as_classes(y, len(rows))
        targets = torch.from_numpy(numbers).to(device)
        validation = self._validation_rows(X_val, y_val, device)
        # Dropout and initial weights draw from torch's global generator; the fork gives the caller's state back.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
            torch.manual_seed(self.seed)
            network = self.build_for(rows.shape[1:], len(self.classes_)).to(device)
            work = self.batch_size * sum(parameter.numel() for parameter in network.parameters())
            with single_thread() if work < SMALL_STEP else nullcontext():
                self._train(network, rows, targets, validation)
        if not math.isfinite(self.history_[-1]["train_loss"]):
            raise HeadError(f"The training diverged with a learning rate of {self.lr:g}; give a lower one.")
        self._keep(network)
        return self

    def _validation_rows(
        self, X_val: ArrayLike | Tensor | None, y_val: ArrayLike | Tensor | None, device: torch.device
    ) -> tuple[Tensor, Tensor] | None:
        """Return the validation rows and their targets; -100, which counts as wrong, for a class not trained on."""
        if X_val is None or y_val is None or not len(np.asarray(y_val)):
            return None
        labels = np.asarray(y_val)
        numbers = np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1)
        numbers = np.where(self.classes_[numbers] == labels, numbers, -100)
        return as_rows(X_val, self.takes_layers).to(device), torch.from_numpy(numbers.astype(np.int64)).to(device)

    def _train(
        self, network: nn.Module, rows: Tensor, targets: Tensor, validation: tuple[Tensor, Tensor] | None
    ) -> None:
        step = _adam(network, self.lr)
        self.history_: list[dict[str, float]] = []
        self.best_epoch_, best, last_gain = 0, (-1.0, 0.0), 0
        best_state = network.state_dict()
        for epoch in range(1, self.epochs + 1):
            self.history_.append({"train_loss": self._train_epoch(network, step, rows, targets)})
            if validation is None:
                self.best_epoch_ = epoch
                continue
            loss, accuracy = _evaluate(network, *validation)
            self.history_[-1] |= {"val_loss": loss, "val_accuracy": accuracy}
            if (accuracy, -loss) > best:
                # Patience counts from the last gain in accuracy: the loss can go on falling without end.
                last_gain = epoch if accuracy > best[0] else last_gain
                best, best_state, self.best_epoch_ = (accuracy, -loss), copy.deepcopy(network.state_dict()), epoch
            if epoch - last_gain >= self.patience:
                break
        if validation is not None:
            network.load_state_dict(best_state)

    def _train_epoch(self, network: nn.Module, step: Callable[[Tensor], None], rows: Tensor, targets: Tensor) -> float:
        network.train()
        order = torch.randperm(len(rows)).to(rows.device)
        # One gather an epoch: the batches are then views, and nothing is loaded or collated.
        sizes = self._batch_sizes(len(rows))
        batches = zip(*(torch.split(table[order], sizes) for table in (rows, targets)), strict=True)
        total = torch.zeros((), device=rows.device)
        for batch, batch_targets in batches:
            loss = cross_entropy(network(batch), batch_targets)
            step(loss)
            total += loss.detach() * len(batch)
        return float(total) / len(rows)

    def _batch_sizes(self, n_rows: int) -> list[int]:
        """Cut an epoch into batches; a remainder that is too small goes to the batch before it."""
        sizes = [self.batch_size] * (n_rows // self.batch_size)
        rest = n_rows - sum(sizes)
        if sizes and 0 < rest < self.smallest_batch:
            sizes[-1] += rest
        elif rest:
            sizes.append(rest)
        return sizes

    def _keep(self, network: nn.Module) -> None:
        self.network_ = network.cpu().eval().requires_grad_(False)
        self.n_parameters_ = sum(parameter.numel() for parameter in network.parameters())

    @torch.inference_mode()
    def decision_function(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self.network_(as_rows(X, self.takes_layers).cpu()).numpy()
        return logits

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.network_.state_dict())

    def load_state_dict(self, state: Mapping[str, Tensor], classes: ArrayLike) -> "MinibatchHead":
        self.classes_ = np.asarray(classes)
        network = self.restore(state, len(self.classes_))
        network.load_state_dict(dict(state))
        self._keep(network)
        return self


def _adam(network: nn.Module, lr: float) -> Callable[[Tensor], None]:
    """Return a function that takes one step of Adam on a loss.

    torch's functional Adam, fused: of a step of the linear head the optimizer class alone is a third (80 of 280
    microseconds measured).
    """
    weights: list[Tensor] = list(network.parameters())
    means, squares = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
    steps = [torch.zeros((), device=w.device) for w in weights]

    def step(loss: Tensor) -> None:
        gradients = list(torch.autograd.grad(loss, weights))
        with torch.no_grad():
            adam(
                weights, gradients, means, squares, [], steps, fused=True, amsgrad=False, maximize=False,
                lr=lr, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8,
            )  # fmt: skip

    return step


@torch.inference_mode()
def _evaluate(network: nn.Module, rows: Tensor, targets: Tensor) -> tuple[float, float]:
    """Return the cross-entropy over the known classes, and the accuracy over all rows."""
    network.eval()
    logits = network(rows)
    known = targets >= 0
    loss = float(cross_entropy(logits[known], targets[known])) if bool(known.any()) else float("inf")
    return loss, float((logits.argmax(1) == targets).float().mean())
