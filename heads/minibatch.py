"""Heads that are small networks, trained by minibatches of the cached features."""

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import loguniform
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from encoders import resolve_device, single_thread
from heads.base import Head, HeadError, Validation, as_rows
from heads.feed_forward import FeedForwardGradient
from heads.flat_adam import FlatAdam

# From a batch (n, D), its targets (n,), and their shares in the loss, to the losses (n,); writes the gradient.
Gradient = Callable[[Tensor, Tensor, Tensor | float], Tensor]

# Products in a step's forward under which one thread is as fast as two (measured: 5 % apart), and safe from contention.
SMALL_STEP = 20_000_000


class MinibatchHead(Head):
    """A network trained by Adam on cross-entropy. A new one needs `build` alone.

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
    weight_decay : float
        Decoupled weight decay (as in AdamW).
    class_weight : {None, "balanced"}
        ``balanced`` lets each speaker count the same in the loss, however many rows it has.
    balanced_sampling : bool
        Draw the rows of an epoch with replacement, each speaker as often as the others. It does by sampling what
        `class_weight` does by weights: give one of them.

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
        weight_decay: float = 0.0,
        class_weight: Literal["balanced"] | None = None,
        balanced_sampling: bool = False,
    ) -> None:
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.patience = patience
        self.seed = seed
        self.device = device
        self.weight_decay = weight_decay
        self.class_weight = class_weight
        self.balanced_sampling = balanced_sampling

    # Half a dozen decades: between a head's best rate and a thousandth of it lie more points than between heads.
    search_space: ClassVar[Mapping[str, Any]] = {"lr": loguniform(1e-5, 1e0), "weight_decay": loguniform(1e-4, 1e0)}
    # Fewest rows that a step can be taken on.
    smallest_batch: ClassVar[int] = 1

    @abstractmethod
    def build(self, shape: Sequence[int], n_classes: int) -> nn.Module:
        """Make the network from rows (n, D) to logits (n, n_classes); `shape` is (D,), or (L, D) of all layers."""

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the losses (n,) of training: cross-entropy."""
        return cross_entropy(logits, targets, reduction="none")

    def gradient(self, network: nn.Module, out: Tensor) -> Gradient:
        """Return what computes the gradient of a batch: written out where it can be, else by autograd.

        Parameters
        ----------
        network : nn.Module
            What `build` made.
        out : Tensor (n_parameters,)
            Where the gradient is to be written, in the order of ``network.parameters()``.
        """
        if type(self).losses is MinibatchHead.losses and FeedForwardGradient.fits(network):
            return FeedForwardGradient(network, out)
        parameters = list(network.parameters())

        def by_autograd(batch: Tensor, targets: Tensor, shares: Tensor | float) -> Tensor:
            with torch.enable_grad():
                losses = self.losses(network(batch), targets)
                parts = torch.autograd.grad((losses * shares).sum(), parameters)
            torch.cat([part.flatten() for part in parts], out=out)
            return losses.detach()

        return by_autograd

    def restore(self, state: Mapping[str, Tensor], n_classes: int) -> nn.Module:
        """Make the network that a saved state fits, which begins with a linear layer."""
        return self.build(next(iter(state.values())).shape[1:], n_classes)

    def learn(self, rows: Tensor, targets: Tensor, validation: Validation | None) -> None:
        if min(self.epochs, self.batch_size, self.patience) < 1 or not 0 < self.lr < math.inf:
            raise HeadError(
                f"epochs, batch_size and patience must be at least 1 and lr above 0; got {self.epochs}, "
                f"{self.batch_size}, {self.patience}, {self.lr:g}."
            )
        if self.batch_size < self.smallest_batch:
            raise HeadError(f"batch_size is {self.batch_size}; this head normalises over a batch, so give 2 or more.")
        if self.weight_decay < 0 or not math.isfinite(self.weight_decay):
            raise HeadError(f"weight_decay is {self.weight_decay:g}; expected 0 or more.")
        if self.class_weight not in (None, "balanced"):
            raise HeadError(f"class_weight is {self.class_weight!r}; expected 'balanced', or none.")
        if self.class_weight and self.balanced_sampling:
            raise HeadError("class_weight and balanced_sampling both make rare speakers count more; give one of them.")
        device = resolve_device(self.device)
        rows, targets = rows.to(device), targets.to(device)
        if validation is not None:
            validation = validation[0].to(device), validation[1].to(device)
        # Dropout and initial weights draw from torch's global generator; the fork gives the caller's state back.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
            torch.manual_seed(self.seed)
            network = self.build(rows.shape[1:], len(self.classes_)).to(device)
            work = self.batch_size * sum(parameter.numel() for parameter in network.parameters())
            with single_thread() if work < SMALL_STEP else nullcontext():
                self._train(network, rows, targets, validation)
        if not math.isfinite(self.history_[-1]["train_loss"]):
            raise HeadError(f"The training diverged with a learning rate of {self.lr:g}; give a lower one.")
        self._keep(network)

    def _train(self, network: nn.Module, rows: Tensor, targets: Tensor, validation: Validation | None) -> None:
        optimizer = FlatAdam(network, self.lr, self.weight_decay)
        gradient = self.gradient(network, optimizer.gradient)
        self.history_: list[dict[str, float]] = []
        self.best_epoch_, best, last_gain = 0, (-1.0, 0.0), 0
        best_state = network.state_dict()
        for epoch in range(1, self.epochs + 1):
            network.train()
            self.history_.append({"train_loss": self._train_epoch(gradient, optimizer, rows, targets)})
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

    def _train_epoch(self, gradient: Gradient, optimizer: FlatAdam, rows: Tensor, targets: Tensor) -> float:
        order = self._order(targets).to(rows.device)
        sizes = self._batch_sizes(len(rows))
        # One gather an epoch: the batches are then views, and nothing is loaded or collated.
        ordered = targets[order]
        batches = torch.split(rows.index_select(0, order), sizes), torch.split(ordered, sizes)
        losses = []
        for batch, batch_targets, shares in zip(*batches, self._shares(ordered, sizes), strict=True):
            losses.append(gradient(batch, batch_targets, shares))
            optimizer.step()
        return float(torch.cat(losses).mean())

    def _order(self, targets: Tensor) -> Tensor:
        """Return the rows of an epoch: each once, or each class as often as the others."""
        if not self.balanced_sampling:
            return torch.randperm(len(targets))
        by_class = targets.cpu().argsort(stable=True)
        counts = torch.bincount(targets.cpu())
        drawn = torch.randint(len(counts), (len(targets),))
        within = (torch.rand(len(targets), dtype=torch.float64) * counts[drawn]).long()
        order: Tensor = by_class[counts.cumsum(0)[drawn] - counts[drawn] + within]
        return order

    def _shares(self, targets: Tensor, sizes: list[int]) -> Sequence[Tensor | float]:
        """Return for each batch the shares of its rows in its loss, which sum to 1, with class weights on average."""
        if self.class_weight is None:
            return [1 / size for size in sizes]
        counts = torch.bincount(targets).to(torch.float32)
        weights = (len(targets) / (len(counts) * counts))[targets]
        return [part / len(part) for part in torch.split(weights, sizes)]

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
        for parameter in network.parameters():
            parameter.data = parameter.data.clone()  # no longer a view of the optimizer's vector
        self.n_parameters_ = sum(parameter.numel() for parameter in network.parameters())

    @torch.inference_mode()
    def decision_function(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self.network_(as_rows(X, self.takes_layers).cpu()).numpy()
        return logits

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.network_.state_dict())

    def load_state_dict(self, state: Mapping[str, Tensor], classes: ArrayLike) -> Self:
        self.classes_ = np.asarray(classes)
        network = self.restore(state, len(self.classes_))
        network.load_state_dict(dict(state))
        self._keep(network)
        return self


@torch.inference_mode()
def _evaluate(network: nn.Module, rows: Tensor, targets: Tensor) -> tuple[float, float]:
    """Return the cross-entropy over the known classes, and the accuracy over all rows."""
    network.eval()
    logits = network(rows)
    known = targets >= 0
    loss = float(cross_entropy(logits[known], targets[known])) if bool(known.any()) else float("inf")
    return loss, float((logits.argmax(1) == targets).float().mean())
