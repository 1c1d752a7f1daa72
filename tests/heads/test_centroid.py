"""Cosines to the means of classes, and their scale."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from heads import create_head
from metrics import log_loss

Blobs = Callable[..., tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.int64]]]]


def test_centroid_logits_are_cosines_with_the_best_scale(blobs: Blobs) -> None:
    X, y = blobs(6, n_each=30, dim=20, spread=0.6)
    head: Any = create_head("centroid").fit(X[:120], y[:120])
    best = log_loss(y[120:], head.decision_function(X[120:]))
    for factor in (0.5, 2.0):
        assert log_loss(y[120:], factor * head.decision_function(X[120:])) > best
    normal = torch.nn.functional.normalize
    means = torch.stack([normal(X[:120])[y[:120] == speaker].mean(0) for speaker in range(6)])
    expected = head.scale_ * normal(X) @ normal(means).T
    np.testing.assert_allclose(head.decision_function(X), expected.numpy(), rtol=1e-4, atol=1e-4)
    single = create_head("centroid").fit(torch.eye(4), [3, 1, 2, 0])
    assert single.predict(torch.eye(4)).tolist() == [3, 1, 2, 0]


def test_scale_is_fitted_with_each_row_left_out(blobs: Blobs) -> None:
    X, y = blobs(4, n_each=4, dim=60, spread=0.4)  # few rows, so each row pulls its class's mean towards itself
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
