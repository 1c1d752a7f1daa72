"""A network in training: with its front end, its objective and its optimizer."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from networks import LogMel, SpeakerNetwork, create_network, embed_frames
from training.objectives import Classification, create_objective
from training.settings import TrainingSettings

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
    front_end : LogMel
    labels : Tensor (n,)
        int64, class of each training utterance.
    fabric : Fabric
        Device, precision and processes.
    """

    def __init__(
        self, name: str, settings: TrainingSettings, front_end: LogMel, *, labels: Tensor, fabric: "Fabric"
    ) -> None:
        self.name, self._settings, self._fabric = name, settings, fabric
        network = create_network(name, front_end.n_features, **settings.options_of(name))
        self.model = SpeakerModel(network, create_objective(settings, network.dim, labels))
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
        optimizer = kind(self.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
        self._wrapped, self.optimizer = fabric.setup(self.model, optimizer)

    @property
    def classifier(self) -> nn.Linear | None:
        """The layer that classifies the training speakers, if there is one."""
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
        loss, logits = self._wrapped(frames, n_frames, labels)
        if bool(torch.isfinite(loss)):
            self._fabric.backward(loss * share)
            if self._settings.max_norm is not None:
                self._fabric.clip_gradients(self._wrapped, self.optimizer, max_norm=self._settings.max_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss.detach(), None if logits is None else logits.detach()

    def embed(self, frames: Tensor, n_frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the embeddings of utterances as the saved encoder computes them and, of a classifier, the logits."""
        embeddings = embed_frames(self.model.network, frames, n_frames, window=self._settings.windows)
        return embeddings.cpu(), None if self.classifier is None else self.classifier(embeddings).cpu()

    def share_buffers(self) -> None:
        """Copy the statistics of batch normalisation from the first process, as each training step does before it."""
        if self._fabric.world_size > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def state(self) -> dict[str, Any]:
        """Return the weights and the optimizer's state, as tensors and plain values."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def set_training(members: Iterable[Member], mode: bool) -> None:
    """Switch networks between training and evaluation."""
    for member in members:
        member.model.train(mode)
