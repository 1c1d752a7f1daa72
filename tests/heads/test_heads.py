"""What every head does, and what the trained ones do."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from heads import HEADS, Head, HeadError, create_head
from heads.minibatch import MinibatchHead

Blobs = Callable[..., tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.int64]]]]
NETWORKS = ["linear", "mlp", "bn_mlp", "weighted", "cosine"]


def quick(name: str, **options: object) -> Head:
    """Make a head that trains in a moment."""
    return create_head(name, **({"epochs": 30, "lr": 0.01, "device": "cpu", **options} if name in NETWORKS else {}))


@pytest.fixture
def rows(blobs: Blobs) -> Callable[..., Any]:
    """Return `blobs`, for a head over layers as the second of three layers, the others of which are noise."""

    def make(name: str, *args: Any, **options: Any) -> Any:
        X, y = blobs(*args, **options)
        if name == "weighted":
            noise = torch.randn(2, *X.shape, generator=torch.Generator().manual_seed(0))
            X = torch.stack([noise[0], X, noise[1]], dim=1)
        return X, y

    return make


@pytest.mark.parametrize("name", HEADS)
def test_a_head_learns_what_can_be_learned(name: str, rows: Callable[..., Any]) -> None:
    X, y = rows(name, n_each=40)
    head = quick(name).fit(X[:150], y[:150], X[150:175], y[150:175])
    assert (head.predict(X[175:]) == y[175:]).mean() > 0.95


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("name", HEADS)
def test_scores_probabilities_and_predictions_agree(name: str, n_classes: int, rows: Callable[..., Any]) -> None:
    X, y = rows(name, n_classes)
    head = quick(name).fit(X, y)
    scores, probabilities = head.decision_function(X), head.predict_proba(X)
    assert scores.shape == probabilities.shape == (len(X), n_classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (head.predict(X) == head.classes_[scores.argmax(axis=1)]).all()
    assert (scores.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    learned = {
        key: tensor for key, tensor in head.state_dict().items() if "running" not in key and "tracked" not in key
    }
    assert head.n_parameters_ == sum(tensor.numel() for tensor in learned.values())


@pytest.mark.parametrize("name", HEADS)
def test_classes_may_be_strings_or_any_integers(name: str, rows: Callable[..., Any]) -> None:
    X, y = rows(name, 3)
    names = np.array(["zoe", "ann", "bob"])[y]
    numbers = np.array([900, -4, 17])[y]
    by_name, by_number = quick(name).fit(X, names), quick(name).fit(X, numbers)
    assert by_name.classes_.tolist() == ["ann", "bob", "zoe"]
    assert by_number.classes_.tolist() == [-4, 17, 900]
    assert (by_name.predict(X) == names).mean() > 0.95
    assert (by_number.predict(X) == numbers).mean() > 0.95


@pytest.mark.parametrize("name", HEADS)
def test_tensors_arrays_and_half_precision_are_taken(name: str, rows: Callable[..., Any]) -> None:
    X, y = rows(name, 3)
    from_tensor, from_array = quick(name).fit(X, torch.from_numpy(y)), quick(name).fit(X.numpy(), y)
    np.testing.assert_array_equal(from_tensor.decision_function(X), from_array.decision_function(X.numpy()))
    assert np.isfinite(quick(name).fit(X.half(), y).decision_function(X.half())).all()


@pytest.mark.parametrize("name", HEADS)
def test_a_state_restores_the_head(name: str, rows: Callable[..., Any]) -> None:
    X, y = rows(name, 4)
    fitted = quick(name).fit(X, y)
    restored = create_head(name, **fitted.hyper_parameters()).load_state_dict(fitted.state_dict(), fitted.classes_)
    np.testing.assert_array_equal(restored.decision_function(X), fitted.decision_function(X))
    assert restored.n_parameters_ == fitted.n_parameters_


@pytest.mark.parametrize("name", HEADS)
def test_what_cannot_be_learned_is_refused(name: str, rows: Callable[..., Any]) -> None:
    X, y = rows(name, 3)
    with pytest.raises(HeadError, match="two are the least"):
        quick(name).fit(X, np.zeros_like(y))
    with pytest.raises(HeadError, match="NaN"):
        quick(name).fit(torch.full_like(X, torch.nan), y)
    with pytest.raises(HeadError, match="one class for each of the 60 rows"):
        quick(name).fit(X, y[:-1])
    with pytest.raises(HeadError, match="layers"):
        quick(name).fit(X[:, 0] if X.ndim == 3 else X[:, None, :].expand(-1, 2, -1), y)


def test_unknown_heads_and_options_are_answered_with_the_valid_ones() -> None:
    with pytest.raises(HeadError, match=r"'liner'.*linear, mlp, bn_mlp, weighted"):
        create_head("liner")
    with pytest.raises(HeadError, match=r"'epoch'.*perhaps you meant epochs.*patience"):
        create_head("linear", epoch=3)
    with pytest.raises(HeadError, match="lr above 0"):
        create_head("linear", lr=0.0).fit(torch.randn(4, 2), [0, 1, 0, 1])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_seed_decides_the_training_and_leaves_no_trace(name: str, rows: Callable[..., Any]) -> None:
    X, y = rows(name, 3, spread=1.0)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = quick(name, seed=1).fit(X, y).decision_function(X)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    np.testing.assert_array_equal(quick(name, seed=1).fit(X, y).decision_function(X), first)
    assert (quick(name, seed=2).fit(X, y).decision_function(X) != first).any()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_best_epoch_by_validation_is_kept(name: str, rows: Callable[..., Any]) -> None:
    X, y = rows(name, 8, spread=0.7, n_each=30)
    head = quick(name, epochs=40).fit(X[:150], y[:150], X[150:], y[150:])
    assert isinstance(head, MinibatchHead)
    accuracies = [epoch["val_accuracy"] for epoch in head.history_]
    best = max(accuracies)
    assert (head.predict(X[150:]) == y[150:]).mean() == pytest.approx(best)
    assert accuracies[head.best_epoch_ - 1] == best
    losses = [epoch["val_loss"] for epoch in head.history_]
    assert losses[head.best_epoch_ - 1] == min(
        loss for loss, share in zip(losses, accuracies, strict=True) if share == best
    )


def test_patience_ends_the_training(blobs: Blobs) -> None:
    X, y = blobs(3, spread=20.0)  # so easy that the accuracy is at its best from some early epoch on
    head = quick("linear", epochs=500, patience=7).fit(X[:40], y[:40], X[40:], y[40:])
    assert isinstance(head, MinibatchHead)
    accuracies = [epoch["val_accuracy"] for epoch in head.history_]
    assert len(accuracies) == accuracies.index(max(accuracies)) + 1 + 7


def test_without_validation_all_epochs_are_trained(blobs: Blobs) -> None:
    X, y = blobs(3)
    head = quick("linear", epochs=12, patience=1).fit(X, y)
    assert isinstance(head, MinibatchHead)
    assert head.best_epoch_ == len(head.history_) == 12


def test_a_validation_class_that_was_not_trained_counts_as_wrong(blobs: Blobs) -> None:
    X, y = blobs(3, spread=20.0)
    known = y < 2
    head = quick("linear").fit(X[known], y[known], X, y)
    assert isinstance(head, MinibatchHead)
    assert max(epoch["val_accuracy"] for epoch in head.history_) == pytest.approx(2 / 3)


def test_the_networks_are_the_documented_ones(blobs: Blobs) -> None:
    X, y = blobs(5, dim=8)
    shapes = [tuple(tensor.shape) for tensor in quick("mlp", epochs=1).fit(X, y).state_dict().values()]
    assert shapes == [(256, 8), (256,), (128, 256), (128,), (5, 128), (5,)]
    assert quick("linear", epochs=1).fit(X, y).n_parameters_ == 5 * 8 + 5


def test_training_follows_adam(blobs: Blobs) -> None:
    X, y = blobs(3)
    head = create_head("linear", epochs=3, batch_size=60, lr=0.05, seed=3, device="cpu").fit(X, y)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = torch.nn.Linear(8, 3)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(3):  # one batch holds all rows, so their order does not count
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(X), torch.from_numpy(y)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    torch.testing.assert_close(head.state_dict()["weight"], network.weight.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shrinkage", [None, 0.5])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_lda_is_scikit_learns(n_classes: int, shrinkage: float | None, blobs: Blobs) -> None:
    X, y = blobs(n_classes, spread=1.0)
    solver = "svd" if shrinkage is None else "lsqr"
    model = LinearDiscriminantAnalysis(solver=solver, shrinkage=shrinkage).fit(X.double().numpy(), y)
    head = create_head("lda", shrinkage=shrinkage).fit(X, y)
    # Its covariance is divided by n, not by the n - n_classes rows that are free; the priors are equal.
    logits = head.decision_function(X) * len(X) / (len(X) - n_classes)
    np.testing.assert_allclose(
        scipy.special.softmax(logits, axis=1), model.predict_proba(X.double().numpy()), rtol=1e-3, atol=1e-4
    )


def test_lda_with_more_dimensions_than_rows_works(blobs: Blobs) -> None:
    X, y = blobs(3, n_each=4, dim=50)
    assert (create_head("lda").fit(X, y).predict(X) == y).all()


def test_lda_with_as_many_speakers_as_rows_is_refused() -> None:
    with pytest.raises(HeadError, match=r"more training rows than speakers; there are 3 of 3"):
        create_head("lda").fit(torch.randn(3, 8), [0, 1, 2])


def test_weights_of_layers_find_the_layer_that_counts(rows: Callable[..., Any]) -> None:
    X, y = rows("weighted", n_each=40)
    head: Any = quick("weighted", epochs=60, lr=0.05).fit(X, y)
    assert head.layer_weights_.sum() == pytest.approx(1)
    assert head.layer_weights_.argmax() == 1
    linear = torch.nn.functional.linear
    mixed = (X * head.layer_weights_[:, None]).sum(1)
    state = head.state_dict()
    expected = linear(mixed, state["linear.weight"], state["linear.bias"])
    np.testing.assert_allclose(head.decision_function(X), expected.numpy(), rtol=1e-4, atol=1e-4)


def test_batch_normalisation_never_sees_one_row(blobs: Blobs) -> None:
    X, y = blobs(3, n_each=11)  # 33 rows: batches of 32 would leave one
    head = create_head("bn_mlp", epochs=3, batch_size=32, device="cpu").fit(X, y)
    assert np.isfinite(head.decision_function(X)).all()
    with pytest.raises(HeadError, match="give 2 or more"):
        create_head("bn_mlp", batch_size=1, device="cpu").fit(X, y)
