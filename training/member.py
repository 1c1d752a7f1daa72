"""A network in training: with its front end, its objective and its optimizer."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from encoders import Pretrained
from networks import FrontEnd, PretrainedNetwork, SpeakerNetwork, create_network, embed_frames
from training.objectives import Classification, class_weights, create_objective
from training.settings import TrainingError, TrainingSettings

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class SpeakerModel(nn.Module):
    """A network and its objective."""

    def __init__(self, network: SpeakerNetwork, objective: nn.Module) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, frames: Tensor, n_frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the loss and, of a classifier, the logits."""
        outputs: tuple[Tensor, Tensor | None] = self.objective(self.network(frames, n_frames), labels)
        return outputs


class Member:
    """A network in training. An ensemble has several, which see the same batches.

    Parameters
    ----------
    name : str
        Name in `NETWORKS`.
    settings : TrainingSettings
    front_end : FrontEnd
    labels : Tensor (n,)
        int64, class of each training utterance.
    fabric : Fabric
        Device, precision and processes.
    pretrained : Pretrained or None
        Weights that the network is fine-tuned from.
    """

    def __init__(
        self,
        name: str,
        settings: TrainingSettings,
        front_end: FrontEnd,
        *,
        labels: Tensor,
        fabric: "Fabric",
        pretrained: Pretrained | None = None,
    ) -> None:
        self.name, self._settings, self._fabric = name, settings, fabric
        network = _create_network(name, settings, front_end.n_features, pretrained=pretrained)
        self.model = SpeakerModel(network, create_objective(settings, network.dim, labels))
        self._class_weights = class_weights(labels) if settings.class_weight else None
        frozen = network.frozen_names() if isinstance(network, PretrainedNetwork) else set()
        self._frozen = {f"network.{each}" for each in frozen}
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = kind(trained, lr=settings.lr, weight_decay=settings.weight_decay)
        self._wrapped, self.optimizer = fabric.setup(self.model, optimizer)

    @property
    def classifier(self) -> nn.Module | None:
        """The layers that classify the training speakers, if there are any."""
        objective = self.model.objective
        return objective.linear if isinstance(objective, Classification) else None

    def train_step(
        self, frames: Tensor, n_frames: Tensor, labels: Tensor, *, share: float, lr: float
    ) -> tuple[Tensor, Tensor | None]:
        """Update the weights on a batch; return the loss and, of a classifier, the logits.

        Parameters
        ----------
        frames : Tensor (batch, time, features)
        n_frames, labels : Tensor (batch,)
        share : float
            Share of this process in the step, times the number of processes, which weights its gradients.
        lr : float
            Learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        n_parts = max(min(self._settings.accumulate, len(labels) // self._settings.min_batch), 1)
        weights = self._weights(labels)
        parts = zip(*(each.tensor_split(n_parts) for each in (frames, n_frames, labels, weights)), strict=True)
        total, found = torch.zeros((), device=frames.device), []
        for number, (*batch, own_weights) in enumerate(parts, start=1):
            with nullcontext() if number == n_parts else self._without_exchange():
                loss, logits = self._wrapped(*batch)
                if not bool(torch.isfinite(loss)):
                    return loss.detach(), None
                # The loss of a part is the mean over its utterances; the sum of these is the mean over all.
                part = float(own_weights.sum() / weights.sum())
                self._fabric.backward(loss * (share * part))
            total += loss.detach() * part
            found.append(logits)
        if self._settings.max_norm is not None:
            self._fabric.clip_gradients(self._wrapped, self.optimizer, max_norm=self._settings.max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total, None if found[0] is None else torch.cat(found).detach()

    def _weights(self, labels: Tensor) -> Tensor:
        """Return the weights of utterances in the loss (batch,)."""
        if self._class_weights is None:
            return torch.ones(len(labels))
        return self._class_weights[labels.cpu()]

    def _without_exchange(self) -> AbstractContextManager[None]:
        """Return a context in which processes do not exchange gradients, which are accumulated first."""
        if self._fabric.world_size == 1:
            return nullcontext()
        context: AbstractContextManager[None] = self._fabric.no_backward_sync(self._wrapped)
        return context

    def embed(self, frames: Tensor, n_frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the embeddings of utterances as the saved encoder computes them and, of a classifier, the logits."""
        embeddings = embed_frames(self.model.network, frames, n_frames, window=self._settings.windows)
        return embeddings.cpu(), None if self.classifier is None else self.classifier(embeddings).cpu()

    def share_buffers(self) -> None:
        """Copy the statistics of batch normalisation from the first process, as each training step does before it."""
        if self._fabric.world_size > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of the network and its objective, without those that are frozen."""
        return {name: tensor for name, tensor in self.model.state_dict().items() if name not in self._frozen}

    def network_weights(self) -> dict[str, Tensor]:
        """Return the weights of the network, without those that are frozen."""
        prefix = "network."
        return {name.removeprefix(prefix): each for name, each in self.weights().items() if name.startswith(prefix)}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Load what `weights` returned.

        Raises
        ------
        KeyError
            The names are those of other weights.
        """
        found = self.model.load_state_dict(weights, strict=False)
        differing = {*found.unexpected_keys, *found.missing_keys} - self._frozen
        if differing:
            raise KeyError(min(differing))

    def state(self) -> dict[str, Any]:
        """Return the weights and the optimizer's state, as tensors and plain values."""
        return {"model": self.weights(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned; a run that is complete has no state of the optimizer."""
        self.load_weights(state["model"])
        if state["optimizer"] is not None:
            self.optimizer.load_state_dict(state["optimizer"])


def _create_network(
    name: str, settings: TrainingSettings, n_features: int, *, pretrained: Pretrained | None
) -> SpeakerNetwork:
    """Build a network with random weights, or with pretrained ones of which the first part may be frozen."""
    if pretrained is None:
        return create_network(name, n_features, **settings.options_of(name))
    network = pretrained.create(**settings.options_of(name))
    try:
        network.freeze(settings.freeze_feature_extractor, settings.freeze_layers)
        if settings.gradient_checkpointing:
            network.checkpoint_gradients()
    except ValueError as error:
        raise TrainingError(f"The network {name!r} in {pretrained.source} cannot be trained so: {error}.") from error
    return network


def set_training(members: Iterable[Member], mode: bool) -> None:
    """Switch networks between training and evaluation."""
    for member in members:
        member.model.train(mode)
