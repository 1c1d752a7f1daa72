"""Objectives of training: a loss on the embeddings of a step."""

import torch
from torch import Tensor, nn

from heads import MinibatchHead, create_head
from training.settings import TrainingSettings, UnusableCorpusError


class Classification(nn.Module):
    """Layers that tell the training speakers apart, with cross entropy.

    Parameters
    ----------
    dim : int
        Length of an embedding.
    n_speakers : int
        Number of training speakers.
    class_weights : Tensor (n_speakers,), optional
        Weights of the speakers in the loss.
    head : {"linear", "bn_mlp"}
        The layers: one linear layer, or those of the head ``bn_mlp``.

    Attributes
    ----------
    linear : nn.Module
        The layers.
    """

    class_weights: Tensor | None

    def __init__(self, dim: int, n_speakers: int, class_weights: Tensor | None = None, *, head: str = "linear") -> None:
        super().__init__()
        layers = create_head(head)
        assert isinstance(layers, MinibatchHead)
        self.linear = layers.build((dim,), n_speakers)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, and the logits (batch, n_speakers) of embeddings (batch, dim) and labels (batch,)."""
        logits = self.linear(embeddings)
        return nn.functional.cross_entropy(logits.float(), labels, self.class_weights), logits


class Triplet(nn.Module):
    """The triplet loss on cosines: the same speaker shall be more similar than another one, by a margin.

    Parameters
    ----------
    margin : float
    miner : {"random", "semihard", "hard"}
        ``random`` uses the triplets that were drawn. The others use all triplets of the batch in which the other
        speaker is less similar than the same speaker, but by less than the margin, or more similar.
    """

    def __init__(self, margin: float = 0.1, miner: str = "random") -> None:
        super().__init__()
        from pytorch_metric_learning.distances import CosineSimilarity
        from pytorch_metric_learning.losses import TripletMarginLoss
        from pytorch_metric_learning.miners import TripletMarginMiner
        from pytorch_metric_learning.reducers import MeanReducer

        self.loss = TripletMarginLoss(margin, distance=CosineSimilarity(), reducer=MeanReducer())
        self.miner = None
        if miner != "random":
            self.miner = TripletMarginMiner(margin, type_of_triplets=miner, distance=CosineSimilarity())

    def forward(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, None]:
        """Return the loss of embeddings (3 n, dim): all anchors, then the same speakers, then the others."""
        embeddings = embeddings.float()
        if self.miner is None:
            places = torch.arange(len(embeddings), device=embeddings.device).view(3, -1)
            triplets = tuple(places)
        else:
            triplets = self.miner(embeddings, labels)
        return self.loss(embeddings, labels, triplets), None


def create_objective(settings: TrainingSettings, dim: int, labels: Tensor) -> nn.Module:
    """Build the objective of a training run.

    Parameters
    ----------
    settings : TrainingSettings
    dim : int
        Length of an embedding.
    labels : Tensor (n,)
        int64, speaker of each training utterance, from 0.

    Raises
    ------
    UnusableCorpusError
        There is only one speaker.
    """
    counts = labels.bincount()
    if len(counts) < 2:
        raise UnusableCorpusError(
            "There is one training speaker; a network needs at least two to tell apart. Add recordings of other "
            "speakers."
        )
    if settings.objective == "triplet":
        return Triplet(settings.margin, settings.miner)
    weights = class_weights(labels) if settings.class_weight else None
    return Classification(dim, len(counts), weights, head=settings.head)


def class_weights(labels: Tensor) -> Tensor:
    """Return the weights with which every speaker has the same total weight in the loss (n_speakers,).

    Parameters
    ----------
    labels : Tensor (n,)
        int64, speaker of each training utterance, from 0.
    """
    counts = labels.bincount()
    return len(labels) / (len(counts) * counts.float())
