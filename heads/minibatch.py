"""`MinibatchHead`: heads that are small networks, trained by minibatches."""

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from encoders import resolve_device, single_thread
from heads.base import Head, HeadError, Validation, as_rows
from heads.feed_forward import FeedForwardGradient
from heads.flat_adam import FlatAdam
from heads.search_space import LogUniform

# Takes a batch (n, D), its targets (n,) and the weights of its rows; writes the gradient, and returns the losses (n,).
Gradient = Callable[[Tensor, Tensor, Tensor | float], Tensor]

# Number of multiplications in the forward pass of a step below which training runs on one thread: two differ by 5 %
# (measured), and slow down when other processes use the CPU.
SMALL_STEP = 20_000_000


class MinibatchHead(Head):
    """Base class of networks that are trained with Adam and cross-entropy. A subclass must only define `build`.

    With validation rows, training stops after `patience` epochs without a higher validation accuracy, and the network
    of the best epoch is kept (ties are broken by the lower validation loss). Without them, it runs for all `epochs`.

    Parameters
    ----------
    epochs : int
        Maximum number of passes over the training rows.
    lr : float
        Learning rate of Adam.
    batch_size : int
        Number of rows in a batch.
    patience : int
        Number of epochs without a higher validation accuracy after which training stops.
    seed : int
        Random seed of the initial weights, the order of the rows and the dropout.
    device : str
        Device of the training; ``auto`` is CUDA if available.
    weight_decay : float
        Decoupled weight decay (as in AdamW).
    class_weight : {None, "balanced"}
        ``balanced`` gives each speaker the same total weight in the loss; None gives each row the same weight.
    balanced_sampling : bool
        Whether to draw the rows of an epoch with replacement, from all speakers equally often. It has the same purpose
        as `class_weight`, so only one of them can be given.

    Attributes
    ----------
    network_ : nn.Module
        The trained network, on the CPU.
    best_epoch_ : int
        Epoch whose network was kept, counted from 1.
    history_ : list of dict
        For each epoch ``train_loss`` and, with validation rows, ``val_loss`` and ``val_accuracy``.
    """

    def __init__(
        self,
        epochs: int = 100,
        lr: float = 1e-3,
        batch_size: int = 32,
        *,
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

    # Wide ranges: the learning rate can change the accuracy more than the head does.
    search_space: ClassVar[Mapping[str, Any]] = {"lr": LogUniform(1e-5, 1e0), "weight_decay": LogUniform(1e-4, 1e0)}
    # Minimum number of rows in a batch.
    min_batch_size: ClassVar[int] = 1

    @abstractmethod
    def build(self, shape: Sequence[int], n_classes: int) -> nn.Module:
        """Create the network that maps rows to logits (n, n_classes).

        Parameters
        ----------
        shape : sequence of int
            Shape of a row: (D,), or (L, D) if the head takes layers.
        n_classes : int
            Number of classes.
        """

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the training losses (n,): the cross-entropy of each row."""
        return cross_entropy(logits, targets, reduction="none")

    def gradient(self, network: nn.Module, out: Tensor) -> Gradient:
        """Return a function that computes the gradient of a batch: in closed form if possible, else by autograd.

        Parameters
        ----------
        network : nn.Module
            Network that `build` created.
        out : Tensor (n_parameters,)
            Tensor that the gradient is written to, in the order of ``network.parameters()``.
        """
        if type(self).losses is MinibatchHead.losses and FeedForwardGradient.supports(network):
            return FeedForwardGradient(network, out)
        parameters = list(network.parameters())

        def by_autograd(batch: Tensor, targets: Tensor, row_weights: Tensor | float) -> Tensor:
            with torch.enable_grad():
                losses = self.losses(network(batch), targets)
                parts = torch.autograd.grad((losses * row_weights).sum(), parameters)
            torch.cat([part.flatten() for part in parts], out=out)
            return losses.detach()

        return by_autograd

    def restore(self, state: Mapping[str, Tensor], n_classes: int) -> nn.Module:
        """Create the network of a saved state, whose first tensor is the weight of a linear layer."""
        return self.build(next(iter(state.values())).shape[1:], n_classes)

    def learn(self, rows: Tensor, targets: Tensor, validation: Validation | None) -> None:
        if min(self.epochs, self.batch_size, self.patience) < 1 or not 0 < self.lr < math.inf:
            raise HeadError(
                f"Expected epochs, batch_size and patience of at least 1 and lr above 0; got {self.epochs}, "
                f"{self.batch_size}, {self.patience} and {self.lr:g}."
            )
        if self.batch_size < self.min_batch_size:
            raise HeadError(
                f"batch_size is {self.batch_size}; this head has batch normalisation, so give "
                f"{self.min_batch_size} or more."
            )
        if self.weight_decay < 0 or not math.isfinite(self.weight_decay):
            raise HeadError(f"weight_decay is {self.weight_decay:g}; expected 0 or more.")
        if self.class_weight not in (None, "balanced"):
            raise HeadError(f"class_weight is {self.class_weight!r}; expected 'balanced', or none.")
        if self.class_weight and self.balanced_sampling:
            raise HeadError("class_weight and balanced_sampling both give rare speakers more weight; give one of them.")
        device = resolve_device(self.device)
        rows, targets = rows.to(device), targets.to(device)
        if validation is not None:
            validation = validation[0].to(device), validation[1].to(device)
        # Dropout and initial weights use torch's global generator; the fork restores the caller's state.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
            torch.manual_seed(self.seed)
            network = self.build(rows.shape[1:], len(self.classes_)).to(device)
            work = self.batch_size * sum(parameter.numel() for parameter in network.parameters())
            with single_thread() if work < SMALL_STEP else nullcontext():
                self._train(network, rows, targets, validation=validation)
        if not math.isfinite(self.history_[-1]["train_loss"]):
            raise HeadError(f"The training diverged with the learning rate {self.lr:g}; give a lower one.")
        self._keep(network)

    def _train(self, network: nn.Module, rows: Tensor, targets: Tensor, *, validation: Validation | None) -> None:
        optimizer = FlatAdam(network, self.lr, self.weight_decay)
        gradient = self.gradient(network, optimizer.gradient)
        self.history_: list[dict[str, float]] = []
        self.best_epoch_, best, last_gain = 0, (-1.0, 0.0), 0
        best_state = network.state_dict()
        for epoch in range(1, self.epochs + 1):
            network.train()
            self.history_.append({"train_loss": self._train_epoch(gradient, optimizer, rows, targets=targets)})
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

    def _train_epoch(self, gradient: Gradient, optimizer: FlatAdam, rows: Tensor, *, targets: Tensor) -> float:
        order = self._order(targets).to(rows.device)
        sizes = self._batch_sizes(len(rows))
        # One gather per epoch: the batches are views of it.
        ordered = targets[order]
        batches = torch.split(rows.index_select(0, order), sizes), torch.split(ordered, sizes)
        losses = []
        for batch, batch_targets, row_weights in zip(*batches, self._row_weights(ordered, sizes), strict=True):
            losses.append(gradient(batch, batch_targets, row_weights))
            optimizer.step()
        return float(torch.cat(losses).mean())

    def _order(self, targets: Tensor) -> Tensor:
        """Return the indices of an epoch's rows: each row once, or rows of all classes equally often."""
        if not self.balanced_sampling:
            return torch.randperm(len(targets))
        by_class = targets.cpu().argsort(stable=True)
        counts = torch.bincount(targets.cpu())
        drawn = torch.randint(len(counts), (len(targets),))  # class of each row
        within = (torch.rand(len(targets), dtype=torch.float64) * counts[drawn]).long()
        order: Tensor = by_class[counts.cumsum(0)[drawn] - counts[drawn] + within]
        return order

    def _row_weights(self, targets: Tensor, sizes: list[int]) -> Sequence[Tensor | float]:
        """Return, for each batch, the weights of its rows in the loss.

        They sum to 1 or, with class weights, to 1 on average over the batches.
        """
        if self.class_weight is None:
            return [1 / size for size in sizes]
        counts = torch.bincount(targets).to(torch.float32)
        weights = (len(targets) / (len(counts) * counts))[targets]
        return [part / len(part) for part in torch.split(weights, sizes)]

    def _batch_sizes(self, n_rows: int) -> list[int]:
        """Return the sizes of an epoch's batches; a remainder that is too small is added to the last batch."""
        sizes = [self.batch_size] * (n_rows // self.batch_size)
        rest = n_rows - sum(sizes)
        if sizes and 0 < rest < self.min_batch_size:
            sizes[-1] += rest
        elif rest:
            sizes.append(rest)
        return sizes

    def _keep(self, network: nn.Module) -> None:
        self.network_ = network.cpu().eval().requires_grad_(False)
        for parameter in network.parameters():
            parameter.data = parameter.data.clone()  # a view would keep the optimizer's whole vector
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
    """Return the cross-entropy of rows of known classes, and the accuracy over all rows."""
    network.eval()
    logits = network(rows)
    known = targets >= 0
    loss = float(cross_entropy(logits[known], targets[known])) if bool(known.any()) else float("inf")
    return loss, float((logits.argmax(1) == targets).float().mean())
