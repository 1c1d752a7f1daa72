"""LDA against scikit-learn's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from heads import HeadError, create_head

Blobs = Callable[..., tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.int64]]]]


@pytest.mark.parametrize("shrinkage", [None, 0.5])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_lda_equals_scikit_learn(n_classes: int, shrinkage: float | None, blobs: Blobs) -> None:
    X, y = blobs(n_classes, spread=1.0)
    solver = "svd" if shrinkage is None else "lsqr"
    model = LinearDiscriminantAnalysis(solver=solver, shrinkage=shrinkage).fit(X.double().numpy(), y)
    head = create_head("lda", shrinkage=shrinkage).fit(X, y)
    # scikit-learn divides the covariance by n, not by the n - n_classes degrees of freedom; the priors are equal.
    logits = head.decision_function(X) * len(X) / (len(X) - n_classes)
    np.testing.assert_allclose(
        scipy.special.softmax(logits, axis=1), model.predict_proba(X.double().numpy()), rtol=1e-3, atol=1e-4
    )


def test_lda_accepts_more_dimensions_than_rows(blobs: Blobs) -> None:
    X, y = blobs(3, n_each=4, dim=50)
    assert (create_head("lda").fit(X, y).predict(X) == y).all()


def test_lda_refuses_one_row_per_speaker() -> None:
    with pytest.raises(HeadError, match="more training rows than speakers; there are 3 rows of 3 speakers"):
        create_head("lda").fit(torch.randn(3, 8), [0, 1, 2])
