"""Gradients that are written out, Adam on one vector, dropout by random bits: each against torch's own."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from heads import HeadError, create_head
from heads.bn_mlp import BNMLPHead
from heads.cosine import CosineHead
from heads.feed_forward import Dropout, FeedForwardGradient
from heads.flat_adam import FlatAdam
from heads.linear import LinearHead
from heads.minibatch import MinibatchHead
from heads.mlp import MLPHead

Blobs = Callable[..., tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.int64]]]]


@given(
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    n_rows=st.integers(1, 12),
    n_classes=st.integers(2, 5),
    normed=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_written_out_gradients_are_autograds(
    widths: list[int], n_rows: int, n_classes: int, normed: bool, weighted: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    normed = normed and n_rows > 1
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        norm = nn.BatchNorm1d(width_out)
        nn.init.uniform_(norm.weight, 0.5, 2)
        layers += [nn.Linear(width_in, width_out), *([norm] if normed else []), nn.ReLU(), Dropout(0.4)]
    network = nn.Sequential(*layers, nn.Linear(widths[-1], n_classes))
    rows, targets = torch.randn(n_rows, widths[0]), torch.randint(n_classes, (n_rows,))
    shares = torch.rand(n_rows) if weighted else 1 / n_rows
    parameters = list(network.parameters())
    gradient = torch.zeros(sum(parameter.numel() for parameter in parameters))
    torch.manual_seed(seed)  # the same dropout in both
    with torch.no_grad():
        losses = FeedForwardGradient(network, gradient)(rows, targets, shares)
    torch.manual_seed(seed)
    expected = nn.functional.cross_entropy(network(rows), targets, reduction="none")
    slopes = torch.autograd.grad((expected * shares).sum(), parameters)
    torch.testing.assert_close(losses, expected.detach(), rtol=1e-4, atol=1e-6)
    # A bias before a batch norm has no slope but rounding, which small deviations make large.
    loose = 1e-4 if normed else 1e-6
    torch.testing.assert_close(gradient, torch.cat([slope.flatten() for slope in slopes]), rtol=1e-3, atol=loose)


def test_only_networks_whose_gradient_is_written_out_take_that_way() -> None:
    assert FeedForwardGradient.fits(nn.Linear(3, 2))
    assert FeedForwardGradient.fits(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Dropout(0.1), nn.Linear(4, 2)))
    for network in (
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=None), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)),
        nn.Sequential(nn.ReLU(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(3, 2), nn.ReLU()),
        nn.Sequential(nn.Linear(3, 2, bias=False)),
        nn.Identity(),
    ):
        assert not FeedForwardGradient.fits(network)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_flat_adam_is_torchs_adamw(weight_decay: float) -> None:
    torch.manual_seed(0)
    network, other = (nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)) for _ in range(2))
    other.load_state_dict(network.state_dict())
    ours, theirs = (
        FlatAdam(network, 0.01, weight_decay),
        torch.optim.AdamW(other.parameters(), 0.01, weight_decay=weight_decay),
    )
    rows, targets = torch.randn(20, 5), torch.randint(3, (20,))
    for _ in range(30):
        slopes = torch.autograd.grad(nn.functional.cross_entropy(network(rows), targets), list(network.parameters()))
        ours.gradient.copy_(torch.cat([slope.flatten() for slope in slopes]))
        with torch.no_grad():
            ours.step()
        theirs.zero_grad()
        nn.functional.cross_entropy(other(rows), targets).backward()  # type: ignore[no-untyped-call]
        theirs.step()
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_keeps_the_mean(share: float) -> None:
    torch.manual_seed(0)
    factors = Dropout(share).draw(torch.empty(301, 1001))
    assert float((factors == 0).float().mean()) == pytest.approx(share, abs=0.005)
    assert float(factors.mean()) == pytest.approx(1, abs=0.01)
    assert len(np.unique(factors)) == (1 if share == 0 else 2)
    columns = (factors == 0).float().mean(0)  # no place is favoured, whichever part of a random number it comes from
    assert float((columns - share).abs().max()) < 0.15
    network = Dropout(share).eval()
    assert torch.equal(network(factors), factors)


def by_autograd(kind: type[MinibatchHead]) -> type[MinibatchHead]:
    """Return a head whose gradient is not written out."""

    class Autograd(kind):  # type: ignore[misc, valid-type]
        gradient = MinibatchHead.gradient

        def losses(self, logits: torch.Tensor, targets: torch.Tensor) -> Any:
            return super().losses(logits, targets)

    return Autograd


@pytest.mark.parametrize("options", [{}, {"class_weight": "balanced"}, {"balanced_sampling": True, "weight_decay": 1}])
@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (LinearHead, {}),
        (MLPHead, {}),
        (BNMLPHead, {}),
        (CosineHead, {}),
        (CosineHead, {"margin_type": "aam", "margin": 0.4, "scale": 10.0}),
    ],
)
def test_both_ways_train_the_same_head(
    kind: type[MinibatchHead], own: dict[str, Any], options: dict[str, Any], blobs: Blobs
) -> None:
    X, y = blobs(4, spread=1.0)
    settings = {"epochs": 3, "lr": 0.003, "device": "cpu", **own, **options}
    written_out, autograd = kind(**settings).fit(X, y), by_autograd(kind)(**settings).fit(X, y)
    np.testing.assert_allclose(written_out.decision_function(X), autograd.decision_function(X), rtol=1e-2, atol=1e-3)
    for one, two in zip(written_out.history_, autograd.history_, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-3)


def imbalanced(seed: int = 0) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    """Two overlapping speakers of 400 and 20 utterances."""
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
def test_balance_raises_the_rare_speakers_recall(head: str, balance: dict[str, Any]) -> None:
    X, y = imbalanced()
    train = {"epochs": 30, "lr": 0.02, "device": "cpu"} if head in ("linear", "bn_mlp") else {}
    recall = [
        float((create_head(head, **train, **options).fit(X, y).predict(X[y == 1]) == 1).mean())
        for options in ({}, balance)
    ]
    assert recall[1] > recall[0] + 0.1
    assert recall[1] > 0.75


@pytest.mark.parametrize("batch_size", [1, 4, 420])
def test_class_weights_count_whatever_the_batch(batch_size: int) -> None:
    X, y = imbalanced()
    steps: dict[str, Any] = {"epochs": 100, "lr": 0.1} if batch_size == len(X) else {"epochs": 6, "lr": 0.01}
    head = create_head("linear", class_weight="balanced", device="cpu", batch_size=batch_size, **steps)
    assert (head.fit(X, y).predict(X[y == 1]) == 1).mean() > 0.75


def test_balanced_sampling_draws_speakers_alike() -> None:
    head = LinearHead(balanced_sampling=True)
    torch.manual_seed(0)
    targets = torch.from_numpy(imbalanced()[1])
    order = head._order(targets)
    assert float((targets[order] == 1).float().mean()) == pytest.approx(0.5, abs=0.08)
    assert len(order) == len(targets)
    assert len(np.unique(order[targets[order] == 1])) == 20  # every utterance of the rare one


def test_settings_that_make_no_sense_are_refused(blobs: Blobs) -> None:
    X, y = blobs(3)
    for options, said in (
        ({"class_weight": "balanced", "balanced_sampling": True}, "give one of them"),
        ({"class_weight": "even"}, "expected 'balanced'"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
        ({"batch_size": 0}, "at least 1"),
    ):
        with pytest.raises(HeadError, match=said):
            LinearHead(device="cpu", **options).fit(X, y)


def test_a_kept_network_holds_no_more_than_its_own_numbers(blobs: Blobs) -> None:
    X, y = blobs(3)
    head = create_head("mlp", epochs=2, device="cpu").fit(X, y, X, y)
    assert isinstance(head, MinibatchHead)
    for tensor in head.state_dict().values():
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
