"""Behaviour that all heads share."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from heads import HEADS, Head, HeadError, create_head, head_options

Rows = Callable[..., tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.int64]]]]
MakeHead = Callable[..., Head]
EVERY_HEAD = pytest.mark.parametrize("name", HEADS)


@EVERY_HEAD
def test_separable_classes_are_learned(name: str, rows: Rows, make_head: MakeHead) -> None:
    X, y = rows(name, n_each=40)
    head = make_head(name).fit(X[:150], y[:150], X[150:175], y[150:175])
    assert (head.predict(X[175:]) == y[175:]).mean() > 0.95


@pytest.mark.parametrize("n_classes", [2, 5])
@EVERY_HEAD
def test_logits_probabilities_and_predictions_agree(name: str, n_classes: int, rows: Rows, make_head: MakeHead) -> None:
    X, y = rows(name, n_classes)
    head = make_head(name).fit(X, y)
    scores, probabilities = head.decision_function(X), head.predict_proba(X)
    assert scores.shape == probabilities.shape == (len(X), n_classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (head.predict(X) == head.classes_[scores.argmax(axis=1)]).all()
    assert (scores.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    learned = {
        key: tensor for key, tensor in head.state_dict().items() if "running" not in key and "tracked" not in key
    }
    assert head.n_parameters_ == sum(tensor.numel() for tensor in learned.values())


@EVERY_HEAD
def test_classes_may_be_strings_or_any_integers(name: str, rows: Rows, make_head: MakeHead) -> None:
    X, y = rows(name, 3)
    names = np.array(["zoe", "ann", "bob"])[y]
    numbers = np.array([900, -4, 17])[y]
    by_name, by_number = make_head(name).fit(X, names), make_head(name).fit(X, numbers)
    assert by_name.classes_.tolist() == ["ann", "bob", "zoe"]
    assert by_number.classes_.tolist() == [-4, 17, 900]
    assert (by_name.predict(X) == names).mean() > 0.95
    assert (by_number.predict(X) == numbers).mean() > 0.95


@EVERY_HEAD
def test_tensors_arrays_and_half_precision_are_accepted(name: str, rows: Rows, make_head: MakeHead) -> None:
    X, y = rows(name, 3)
    from_tensor, from_array = make_head(name).fit(X, torch.from_numpy(y)), make_head(name).fit(X.numpy(), y)
    np.testing.assert_array_equal(from_tensor.decision_function(X), from_array.decision_function(X.numpy()))
    assert np.isfinite(make_head(name).fit(X.half(), y).decision_function(X.half())).all()


@EVERY_HEAD
def test_state_restores_the_head(name: str, rows: Rows, make_head: MakeHead) -> None:
    X, y = rows(name, 4)
    fitted = make_head(name).fit(X, y)
    restored = create_head(name, **fitted.hyper_parameters()).load_state_dict(fitted.state_dict(), fitted.classes_)
    np.testing.assert_array_equal(restored.decision_function(X), fitted.decision_function(X))
    assert restored.n_parameters_ == fitted.n_parameters_


@EVERY_HEAD
def test_unusable_training_rows_are_refused(name: str, rows: Rows, make_head: MakeHead) -> None:
    X, y = rows(name, 3)
    with pytest.raises(HeadError, match="at least two speakers, got 1"):
        make_head(name).fit(X, np.zeros_like(y))
    with pytest.raises(HeadError, match="NaN"):
        make_head(name).fit(torch.full_like(X, torch.nan), y)
    with pytest.raises(HeadError, match="one class for each of the 60 rows"):
        make_head(name).fit(X, y[:-1])
    with pytest.raises(HeadError, match="layers"):
        make_head(name).fit(X[:, 0] if X.ndim == 3 else X[:, None, :].expand(-1, 2, -1), y)


@EVERY_HEAD
def test_more_dimensions_than_rows_are_accepted(name: str, rows: Rows, make_head: MakeHead) -> None:
    X, y = rows(name, 3, n_each=6, dim=40)
    head = make_head(name).fit(X[:15], y[:15], X[15:], y[15:])
    assert np.isfinite(head.decision_function(X)).all()
    assert (head.predict(X[:15]) == y[:15]).mean() > 0.9


@EVERY_HEAD
def test_constant_features_are_refused_or_not_distinguished(name: str, rows: Rows, make_head: MakeHead) -> None:
    X, y = rows(name, 3)
    constant = torch.ones_like(X)
    if name in ("lda", "plda"):
        with pytest.raises(HeadError, match="No direction varies within speakers"):
            make_head(name).fit(constant, y)
        return
    probabilities = make_head(name).fit(constant, y).predict_proba(constant)
    assert np.isfinite(probabilities).all()
    assert np.ptp(probabilities, axis=0).max() < 1e-5


@EVERY_HEAD
def test_batch_may_have_fewer_rows_than_classes(name: str, rows: Rows, make_head: MakeHead) -> None:
    X, y = rows(name, 12, spread=6.0)
    batches = {"batch_size": 4} if "batch_size" in head_options(name) else {}
    assert (make_head(name, **batches).fit(X, y).predict(X) == y).mean() > 0.9
