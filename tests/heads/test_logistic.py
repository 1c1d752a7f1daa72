"""Logistic regression against scikit-learn's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from heads import HeadError, create_head

Blobs = Callable[..., tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.int64]]]]


@pytest.mark.parametrize("n_classes", [2, 5])
def test_logistic_equals_scikit_learn(n_classes: int, blobs: Blobs) -> None:
    X, y = blobs(n_classes, spread=1.0)
    expected = LogisticRegression(C=0.3, class_weight="balanced", max_iter=1000).fit(X.numpy(), y)
    head = create_head("logistic", C=0.3, class_weight="balanced").fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), expected.predict_proba(X.numpy()), rtol=1e-3, atol=1e-4)


def test_logistic_warns_if_it_did_not_converge(blobs: Blobs, caplog: pytest.LogCaptureFixture) -> None:
    X, y = blobs(5, spread=1.0)
    create_head("logistic", C=1e4, max_iter=2).fit(X, y)
    assert "The head 'logistic' did not converge in 2 iterations" in caplog.text
    with pytest.raises(HeadError, match="Expected C above 0"):
        create_head("logistic", C=-1.0).fit(X, y)
