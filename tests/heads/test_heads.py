"""What every head does, and what the trained ones do."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from heads import HEADS, Head, HeadError, create_head
from heads.minibatch import MinibatchHead
from heads.registry import head_options, search_space
from metrics import log_loss

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
    for head, options, said in (
        ("cosine", {"margin_type": "arc"}, "'margin_type'.* is 'arc'; expected am or aam"),
        ("cosine", {"scale": "large"}, "'scale'.* is 'large'; expected a number"),
        ("mlp", {"epochs": 1.5}, "'epochs'.* is 1.5; expected a whole number"),
        ("lda", {"shrinkage": True}, "'shrinkage'.* is True; expected a number or none"),
        ("linear", {"class_weight": "even"}, "'class_weight'.* is 'even'; expected balanced or none"),
    ):
        with pytest.raises(HeadError, match=said):
            create_head(head, **options)
    assert create_head("lda", shrinkage=None) is not None
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


@pytest.mark.parametrize("name", HEADS)
def test_more_dimensions_than_rows_are_taken(name: str, rows: Callable[..., Any]) -> None:
    X, y = rows(name, 3, n_each=6, dim=40)
    head = quick(name).fit(X[:15], y[:15], X[15:], y[15:])
    assert np.isfinite(head.decision_function(X)).all()
    assert (head.predict(X[:15]) == y[:15]).mean() > 0.9


@pytest.mark.parametrize("name", HEADS)
def test_constant_features_are_refused_or_told_apart_by_nothing(name: str, rows: Callable[..., Any]) -> None:
    X, y = rows(name, 3)
    constant = torch.ones_like(X)
    if name in ("lda", "plda"):
        with pytest.raises(HeadError, match="No direction varies within speakers"):
            quick(name).fit(constant, y)
        return
    probabilities = quick(name).fit(constant, y).predict_proba(constant)
    assert np.isfinite(probabilities).all()
    assert np.ptp(probabilities, axis=0).max() < 1e-5


@pytest.mark.parametrize("name", HEADS)
def test_batches_with_fewer_rows_than_classes_train(name: str, rows: Callable[..., Any]) -> None:
    X, y = rows(name, 12, spread=6.0)
    batches = {"batch_size": 4} if name in NETWORKS else {}
    assert (quick(name, **batches).fit(X, y).predict(X) == y).mean() > 0.9


@pytest.mark.parametrize("margin_type", ["am", "aam"])
@pytest.mark.parametrize("margin", [0.0, 0.35])
def test_the_margin_is_taken_from_the_own_speakers_logit_alone(margin_type: Any, margin: float) -> None:
    head: Any = create_head("cosine", margin=margin, scale=20.0, margin_type=margin_type)
    cosines = torch.linspace(-0.85, 0.95, 12).reshape(4, 3)  # no angle plus margin beyond a straight one
    targets = torch.tensor([0, 2, 1, 1])
    own = cosines.gather(1, targets[:, None])
    smaller = own - margin if margin_type == "am" else torch.cos(torch.arccos(own) + margin)
    expected = torch.nn.functional.cross_entropy(
        20 * cosines.scatter(1, targets[:, None], smaller), targets, reduction="none"
    )
    torch.testing.assert_close(head.losses(20 * cosines, targets), expected, rtol=1e-4, atol=1e-5)


def test_beyond_a_straight_angle_the_angular_margin_still_falls() -> None:
    head: Any = create_head("cosine", margin=0.5, scale=10.0, margin_type="aam")
    cosines = torch.linspace(-1, 1, 201)
    logits = torch.stack([10 * cosines, torch.zeros(201)], dim=1)
    losses = head.losses(logits, torch.zeros(201, dtype=torch.int64))
    assert (losses.diff() < 0).all()  # a nearer speaker never costs more


def test_cosines_ignore_length_and_lie_within_the_scale(blobs: Blobs) -> None:
    X, y = blobs(4)
    head = quick("cosine", scale=12.0).fit(X, y)
    scores = head.decision_function(X)
    assert np.abs(scores).max() <= 12.001
    np.testing.assert_allclose(head.decision_function(7 * X), scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{"margin": -0.1}, {"margin": 2.0}, {"scale": 0.0}])
def test_margins_that_make_no_sense_are_refused(options: dict[str, Any], blobs: Blobs) -> None:
    with pytest.raises(HeadError, match=r"margin must be from 0 to 1\.57"):
        create_head("cosine", device="cpu", **options).fit(*blobs(3))


@pytest.mark.parametrize("n_classes", [2, 5])
def test_logistic_is_scikit_learns(n_classes: int, blobs: Blobs) -> None:
    X, y = blobs(n_classes, spread=1.0)
    expected = LogisticRegression(C=0.3, class_weight="balanced", max_iter=1000).fit(X.numpy(), y)
    head = create_head("logistic", C=0.3, class_weight="balanced").fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), expected.predict_proba(X.numpy()), rtol=1e-3, atol=1e-4)


def test_logistic_that_did_not_converge_is_told(blobs: Blobs, caplog: pytest.LogCaptureFixture) -> None:
    X, y = blobs(5, spread=1.0)
    create_head("logistic", C=1e4, max_iter=2).fit(X, y)
    assert "logistic had not converged after 2 iterations" in caplog.text
    with pytest.raises(HeadError, match="C must be above 0"):
        create_head("logistic", C=-1.0).fit(X, y)


def two_covariance_rows(
    n_speakers: int, counts: NDArray[np.int64], between: NDArray[np.float64], seed: int = 0
) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Draw rows from the model that PLDA assumes, mixed by a matrix."""
    random = np.random.default_rng(seed)
    dim = len(between)
    y = np.repeat(np.arange(n_speakers), counts)
    speakers = random.normal(0, np.sqrt(between), (n_speakers, dim))
    rows = (speakers[y] + random.standard_normal((len(y), dim))) @ random.normal(0, 1, (dim, dim)) + 3
    return torch.from_numpy(rows), y


@pytest.mark.parametrize("uneven", [False, True])
def test_plda_finds_the_variances_that_made_the_rows(uneven: bool) -> None:
    random = np.random.default_rng(0)
    counts = random.integers(2, 30, 800) if uneven else np.full(800, 8)
    X, y = two_covariance_rows(800, counts, np.array([4.0, 1.0, 0.25]))
    head: Any = create_head("plda").fit(X, y)
    np.testing.assert_allclose(head.between_, [4.0, 1.0, 0.25], rtol=0.2)
    spread = (X.float() - head.mean_) @ head.transform_
    means = torch.stack([spread[y == speaker].mean(0) for speaker in range(800)])
    within = (spread - means[y]).T @ (spread - means[y]) / (len(y) - 800)
    torch.testing.assert_close(within, torch.eye(3), rtol=0.02, atol=0.02)


def test_plda_scores_are_the_likelihood_ratios_of_the_model() -> None:
    X, y = two_covariance_rows(6, np.array([1, 2, 3, 9, 5, 4]), np.array([3.0, 1.0, 0.5, 0.2]))
    head: Any = create_head("plda").fit(X, y)
    between = np.diag(head.between_.double().numpy())
    probe = ((X.float() - head.mean_) @ head.transform_).double().numpy()
    eye = np.eye(len(between))
    for speaker in range(6):
        own, n = probe[y == speaker], int((y == speaker).sum())
        # All rows of a speaker and the probe are one Gaussian, with the speaker's variance common to them.
        joint = np.kron(np.ones((n + 1, n + 1)), between) + np.kron(np.eye(n + 1), eye)
        known = np.kron(np.ones((n, n)), between) + np.kron(np.eye(n), eye)
        for row in range(0, len(probe), 5):
            together = multivariate_normal.logpdf(np.append(own.ravel(), probe[row]), cov=joint)
            apart = multivariate_normal.logpdf(own.ravel(), cov=known) + multivariate_normal.logpdf(
                probe[row], cov=between + eye
            )
            assert head.decision_function(X[row : row + 1])[0, speaker] == pytest.approx(together - apart, abs=2e-3)


def test_plda_keeps_as_many_directions_as_it_is_told() -> None:
    X, y = two_covariance_rows(60, np.full(60, 8), np.array([4.0, 1.0, 0.25]))
    full: Any = create_head("plda").fit(X, y)
    two: Any = create_head("plda", n_components=2).fit(X, y)
    assert torch.equal(two.between_, full.between_[:2])
    with pytest.raises(HeadError, match="n_components is 0"):
        create_head("plda", n_components=0).fit(X, y)
    with pytest.raises(HeadError, match=r"shrinkage is 1\.5"):
        create_head("plda", shrinkage=1.5).fit(X, y)


def test_plda_with_nothing_to_tell_is_refused() -> None:
    X = torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
    order = np.argsort(X[:, 0].numpy())
    y = np.empty(40, np.int64)
    y[order] = np.tile([0, 1, 1, 0], 10)  # alike in mean
    with pytest.raises(HeadError, match="differ no more than"):
        create_head("plda").fit(X, y)


def test_centroids_need_one_row_and_are_likeliest_as_scaled(blobs: Blobs) -> None:
    X, y = blobs(6, n_each=30, dim=20, spread=0.6)
    head: Any = create_head("centroid").fit(X[:120], y[:120])
    best = log_loss(y[120:], head.decision_function(X[120:]))
    for factor in (0.5, 2.0):
        assert log_loss(y[120:], factor * head.decision_function(X[120:])) > best
    normal = torch.nn.functional.normalize
    means = torch.stack([normal(X[:120])[y[:120] == speaker].mean(0) for speaker in range(6)])
    expected = head.scale_ * normal(X) @ normal(means).T
    np.testing.assert_allclose(head.decision_function(X), expected.numpy(), rtol=1e-4, atol=1e-4)
    alone = create_head("centroid").fit(torch.eye(4), [3, 1, 2, 0])
    assert alone.predict(torch.eye(4)).tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize("name", HEADS)
def test_a_search_space_names_hyper_parameters_and_values_that_fit(name: str, rows: Callable[..., Any]) -> None:
    space = search_space(name)
    assert set(space) <= set(head_options(name))
    X, y = rows(name, 3)
    for share in (0.3, 0.6):
        options = {
            key: choices[int(share * len(choices))] if isinstance(choices, list) else float(choices.ppf(share))
            for key, choices in space.items()
        }
        short = {"epochs": 2, "device": "cpu"} if name in NETWORKS else {}
        assert np.isfinite(create_head(name, **options, **short).fit(X, y).decision_function(X)).all()


def test_the_scale_of_centroids_leaves_each_row_out_of_its_own_mean(blobs: Blobs) -> None:
    X, y = blobs(4, n_each=4, dim=60, spread=0.4)  # so few rows that each one's own part makes its mean look near
    head: Any = create_head("centroid").fit(X, y)
    rows = torch.nn.functional.normalize(X, dim=1)
    cosines = np.empty((16, 4))
    for row in range(16):
        for speaker in range(4):
            others = rows[(torch.from_numpy(y) == speaker) & (torch.arange(16) != row)]
            mean = others.sum(0)
            cosines[row, speaker] = float(rows[row] @ mean / mean.norm())
    best = log_loss(y, float(head.scale_) * cosines)
    for factor in (0.8, 1.25):
        assert log_loss(y, factor * float(head.scale_) * cosines) > best
