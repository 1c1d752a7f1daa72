"""Training by minibatches: the seed, the best epoch, closed-form gradients, and settings that are refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from heads import Head, HeadError, MinibatchHead, create_head
from heads.bn_mlp import BNMLPHead
from heads.cosine import CosineHead
from heads.linear import LinearHead
from heads.mlp import MLPHead

Rows = Callable[..., tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.int64]]]]
Blobs = Callable[..., tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.int64]]]]
MakeHead = Callable[..., Head]
EVERY_NETWORK = pytest.mark.parametrize("name", ["linear", "mlp", "bn_mlp", "weighted", "cosine"])


@EVERY_NETWORK
def test_seed_fixes_the_training_and_the_global_state_is_kept(name: str, rows: Rows, make_head: MakeHead) -> None:
    X, y = rows(name, 3, spread=1.0)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = make_head(name, seed=1).fit(X, y).decision_function(X)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    np.testing.assert_array_equal(make_head(name, seed=1).fit(X, y).decision_function(X), first)
    assert (make_head(name, seed=2).fit(X, y).decision_function(X) != first).any()


@EVERY_NETWORK
def test_network_of_the_best_validation_epoch_is_kept(name: str, rows: Rows, make_head: MakeHead) -> None:
    X, y = rows(name, 8, spread=0.7, n_each=30)
    head = make_head(name, epochs=40).fit(X[:150], y[:150], X[150:], y[150:])
    assert isinstance(head, MinibatchHead)
    accuracies = [epoch["val_accuracy"] for epoch in head.history_]
    best = max(accuracies)
    assert (head.predict(X[150:]) == y[150:]).mean() == pytest.approx(best)
    assert accuracies[head.best_epoch_ - 1] == best
    losses = [epoch["val_loss"] for epoch in head.history_]
    assert losses[head.best_epoch_ - 1] == min(
        loss for loss, accuracy in zip(losses, accuracies, strict=True) if accuracy == best
    )


def test_patience_stops_the_training(blobs: Blobs, make_head: MakeHead) -> None:
    X, y = blobs(3, spread=20.0)  # so easy that the best accuracy is reached early
    head = make_head("linear", epochs=500, patience=7).fit(X[:40], y[:40], X[40:], y[40:])
    assert isinstance(head, MinibatchHead)
    accuracies = [epoch["val_accuracy"] for epoch in head.history_]
    assert len(accuracies) == accuracies.index(max(accuracies)) + 1 + 7


def test_all_epochs_are_trained_without_validation(blobs: Blobs, make_head: MakeHead) -> None:
    X, y = blobs(3)
    head = make_head("linear", epochs=12, patience=1).fit(X, y)
    assert isinstance(head, MinibatchHead)
    assert head.best_epoch_ == len(head.history_) == 12


def test_unknown_validation_class_counts_as_an_error(blobs: Blobs, make_head: MakeHead) -> None:
    X, y = blobs(3, spread=20.0)
    known = y < 2
    head = make_head("linear").fit(X[known], y[known], X, y)
    assert isinstance(head, MinibatchHead)
    assert max(epoch["val_accuracy"] for epoch in head.history_) == pytest.approx(2 / 3)


def test_networks_have_the_documented_layers(blobs: Blobs, make_head: MakeHead) -> None:
    X, y = blobs(5, dim=8)
    shapes = [tuple(tensor.shape) for tensor in make_head("mlp", epochs=1).fit(X, y).state_dict().values()]
    assert shapes == [(256, 8), (256,), (128, 256), (128,), (5, 128), (5,)]
    assert make_head("linear", epochs=1).fit(X, y).n_parameters_ == 5 * 8 + 5


def test_training_equals_torch_adam(blobs: Blobs) -> None:
    X, y = blobs(3)
    head = create_head("linear", epochs=3, batch_size=60, lr=0.05, seed=3, device="cpu").fit(X, y)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = torch.nn.Linear(8, 3)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(3):  # one batch holds all rows, so their order does not matter
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(X), torch.from_numpy(y)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    torch.testing.assert_close(head.state_dict()["weight"], network.weight.detach(), rtol=1e-4, atol=1e-5)


def test_batch_normalisation_needs_two_rows(blobs: Blobs) -> None:
    X, y = blobs(3, n_each=11)  # 33 rows: batches of 32 would leave one row
    head = create_head("bn_mlp", epochs=3, batch_size=32, device="cpu").fit(X, y)
    assert np.isfinite(head.decision_function(X)).all()
    with pytest.raises(HeadError, match="give 2 or more"):
        create_head("bn_mlp", batch_size=1, device="cpu").fit(X, y)


def by_autograd(kind: type[MinibatchHead]) -> type[MinibatchHead]:
    """Return the class of a head that computes its gradient by autograd."""

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
def test_closed_form_and_autograd_train_the_same_head(
    kind: type[MinibatchHead], own: dict[str, Any], options: dict[str, Any], blobs: Blobs
) -> None:
    X, y = blobs(4, spread=1.0)
    settings = {"epochs": 3, "lr": 0.003, "device": "cpu", **own, **options}
    closed_form, autograd = kind(**settings).fit(X, y), by_autograd(kind)(**settings).fit(X, y)
    np.testing.assert_allclose(closed_form.decision_function(X), autograd.decision_function(X), rtol=1e-2, atol=1e-3)
    for one, two in zip(closed_form.history_, autograd.history_, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-3)


def test_invalid_settings_are_refused(blobs: Blobs) -> None:
    X, y = blobs(3)
    for options, message in (
        ({"class_weight": "balanced", "balanced_sampling": True}, "give one of them"),
        ({"class_weight": "even"}, "expected 'balanced'"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
        ({"batch_size": 0}, "at least 1"),
    ):
        with pytest.raises(HeadError, match=message):
            LinearHead(device="cpu", **options).fit(X, y)


def test_kept_network_holds_only_its_parameters(blobs: Blobs) -> None:
    X, y = blobs(3)
    head = create_head("mlp", epochs=2, device="cpu").fit(X, y, X, y)
    assert isinstance(head, MinibatchHead)
    for tensor in head.state_dict().values():
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
