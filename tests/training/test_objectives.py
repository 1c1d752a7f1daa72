"""Objectives against references that are written out: cross entropy with class weights, and the triplet loss."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from training import TrainingError, TrainingSettings
from training.objectives import Classification, Triplet, create_objective

MARGIN = 0.1
# Two anchors of each of four speakers, the same speakers, and others.
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 1, 2, 3, 0, 2, 3, 0, 1])


@pytest.fixture
def embeddings() -> Tensor:
    # Speakers differ a little, so that there are triplets of all kinds.
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 6, generator=generator)
    return (centres[LABELS] + torch.randn(len(LABELS), 6, generator=generator)).requires_grad_()


def cosines(embeddings: Tensor) -> np.ndarray:
    vectors = normalize(embeddings.detach().double(), dim=1)
    return (vectors @ vectors.T).numpy()


def test_random_triplets_have_the_mean_of_the_hinge_over_those_that_were_drawn(embeddings: Tensor) -> None:
    similar, n = cosines(embeddings), len(LABELS) // 3
    expected = np.mean(
        [max(0.0, similar[a, 2 * n + a] - similar[a, n + a] + MARGIN) for a in range(n)]
    )  # also of those whose hinge is zero
    loss, logits = Triplet(MARGIN)(embeddings, LABELS)
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-6)
    assert logits is None


@pytest.mark.parametrize("miner", ["semihard", "hard"])
def test_miners_use_all_triplets_of_the_step_of_their_kind(miner: str, embeddings: Tensor) -> None:
    similar, labels = cosines(embeddings), LABELS.tolist()
    hinges = []
    for anchor, same, other in product(range(len(labels)), repeat=3):
        if anchor == same or labels[anchor] != labels[same] or labels[anchor] == labels[other]:
            continue
        lead = similar[anchor, same] - similar[anchor, other]
        if lead <= 0 if miner == "hard" else 0 < lead <= MARGIN:
            hinges.append(MARGIN - lead)
    assert len(hinges) > 10
    loss = Triplet(MARGIN, miner)(embeddings, LABELS)[0]
    assert float(loss.detach()) == pytest.approx(np.mean(hinges), abs=1e-6)
    loss.backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() > 0


@pytest.mark.parametrize("miner", ["random", "semihard", "hard"])
def test_a_step_without_violations_changes_nothing(miner: str) -> None:
    separate = torch.eye(4)[LABELS].requires_grad_()
    loss = Triplet(MARGIN, miner)(separate, LABELS)[0]
    loss.backward()
    assert float(loss.detach()) == 0
    assert separate.grad is not None
    assert not separate.grad.any()


def test_class_weights_give_every_speaker_the_same_total_weight() -> None:
    counts = torch.tensor([1, 2, 5])
    labels = torch.repeat_interleave(torch.arange(3), counts)
    settings = TrainingSettings(networks=("conv1d",), class_weight=True)
    objective = create_objective(settings, 6, labels)
    assert isinstance(objective, Classification)
    assert objective.class_weights is not None
    assert (objective.class_weights * counts).tolist() == pytest.approx([8 / 3] * 3)
    embeddings = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    loss, logits = objective(embeddings, labels)
    # The mean over speakers of the mean over their utterances.
    each = cross_entropy(logits, labels, reduction="none")
    expected = torch.stack([each[labels == speaker].mean() for speaker in range(3)]).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)


@pytest.mark.parametrize("objective", ["classification", "triplet"])
def test_one_speaker_is_refused(objective: str) -> None:
    settings = TrainingSettings(networks=("conv1d",), objective=objective)
    with pytest.raises(TrainingError, match="There is one training speaker; a network needs at least two"):
        create_objective(settings, 6, torch.zeros(5, dtype=torch.int64))
