"""Training that gives rare speakers the same weight as frequent ones."""

from typing import Any

import numpy as np
import pytest
import torch

from heads import create_head
from heads.linear import LinearHead


def imbalanced(seed: int = 0) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    """Draw 400 and 20 utterances of two overlapping speakers."""
    random = np.random.default_rng(seed)
    y = np.repeat([0, 1], [400, 20])
    return torch.from_numpy(random.normal(2.0 * y[:, None] * np.array([1, 0]), 1.0)).float(), y


@pytest.mark.parametrize(
    ("head", "balance"),
    [
        ("linear", {"class_weight": "balanced"}),
        ("linear", {"balanced_sampling": True}),
        ("bn_mlp", {"class_weight": "balanced"}),
        ("logistic", {"class_weight": "balanced"}),
        ("lda", {"class_weight": "balanced"}),
    ],
)
def test_balancing_raises_the_recall_of_the_rare_speaker(head: str, balance: dict[str, Any]) -> None:
    X, y = imbalanced()
    train = {"epochs": 30, "lr": 0.02, "device": "cpu"} if head in ("linear", "bn_mlp") else {}
    recall = [
        float((create_head(head, **train, **options).fit(X, y).predict(X[y == 1]) == 1).mean())
        for options in ({}, balance)
    ]
    assert recall[1] > recall[0] + 0.1
    assert recall[1] > 0.75


@pytest.mark.parametrize("batch_size", [1, 4, 420])
def test_class_weights_work_for_any_batch_size(batch_size: int) -> None:
    X, y = imbalanced()
    steps: dict[str, Any] = {"epochs": 100, "lr": 0.1} if batch_size == len(X) else {"epochs": 6, "lr": 0.01}
    head = create_head("linear", class_weight="balanced", device="cpu", batch_size=batch_size, **steps)
    assert (head.fit(X, y).predict(X[y == 1]) == 1).mean() > 0.75


def test_balanced_sampling_draws_speakers_equally_often() -> None:
    head = LinearHead(balanced_sampling=True)
    torch.manual_seed(0)
    targets = torch.from_numpy(imbalanced()[1])
    order = head._order(targets)
    assert float((targets[order] == 1).float().mean()) == pytest.approx(0.5, abs=0.08)
    assert len(order) == len(targets)
    assert len(np.unique(order[targets[order] == 1])) == 20  # all utterances of the rare speaker
