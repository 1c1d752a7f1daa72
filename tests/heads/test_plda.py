"""PLDA against rows that are drawn from its model, and against the likelihoods of the model."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from heads import HeadError, create_head


def two_covariance_rows(
    n_speakers: int, counts: NDArray[np.int64], between: NDArray[np.float64], seed: int = 0
) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Draw rows from the model that PLDA assumes, transformed by a random matrix."""
    random = np.random.default_rng(seed)
    dim = len(between)
    y = np.repeat(np.arange(n_speakers), counts)
    speakers = random.normal(0, np.sqrt(between), (n_speakers, dim))
    rows = (speakers[y] + random.standard_normal((len(y), dim))) @ random.normal(0, 1, (dim, dim)) + 3
    return torch.from_numpy(rows), y


@pytest.mark.parametrize("uneven", [False, True])
def test_plda_estimates_the_variances_of_the_model(uneven: bool) -> None:
    random = np.random.default_rng(0)
    counts = random.integers(2, 30, 800) if uneven else np.full(800, 8)
    X, y = two_covariance_rows(800, counts, np.array([4.0, 1.0, 0.25]))
    head: Any = create_head("plda").fit(X, y)
    np.testing.assert_allclose(head.between_, [4.0, 1.0, 0.25], rtol=0.2)
    spread = (X.float() - head.mean_) @ head.transform_
    means = torch.stack([spread[y == speaker].mean(0) for speaker in range(800)])
    within = (spread - means[y]).T @ (spread - means[y]) / (len(y) - 800)
    torch.testing.assert_close(within, torch.eye(3), rtol=0.02, atol=0.02)


def test_plda_scores_equal_the_models_likelihood_ratios() -> None:
    X, y = two_covariance_rows(6, np.array([1, 2, 3, 9, 5, 4]), np.array([3.0, 1.0, 0.5, 0.2]))
    head: Any = create_head("plda").fit(X, y)
    between = np.diag(head.between_.double().numpy())
    probe = ((X.float() - head.mean_) @ head.transform_).double().numpy()
    eye = np.eye(len(between))
    for speaker in range(6):
        own, n = probe[y == speaker], int((y == speaker).sum())
        # The rows of a speaker and the probe are jointly Gaussian; they share the variance between speakers.
        joint = np.kron(np.ones((n + 1, n + 1)), between) + np.kron(np.eye(n + 1), eye)
        known = np.kron(np.ones((n, n)), between) + np.kron(np.eye(n), eye)
        for row in range(0, len(probe), 5):
            together = multivariate_normal.logpdf(np.append(own.ravel(), probe[row]), cov=joint)
            apart = multivariate_normal.logpdf(own.ravel(), cov=known) + multivariate_normal.logpdf(
                probe[row], cov=between + eye
            )
            assert head.decision_function(X[row : row + 1])[0, speaker] == pytest.approx(together - apart, abs=2e-3)


def test_n_components_limits_the_directions() -> None:
    X, y = two_covariance_rows(60, np.full(60, 8), np.array([4.0, 1.0, 0.25]))
    full: Any = create_head("plda").fit(X, y)
    two: Any = create_head("plda", n_components=2).fit(X, y)
    assert torch.equal(two.between_, full.between_[:2])
    with pytest.raises(HeadError, match="n_components is 0"):
        create_head("plda", n_components=0).fit(X, y)
    with pytest.raises(HeadError, match=r"shrinkage is 1\.5"):
        create_head("plda", shrinkage=1.5).fit(X, y)


def test_plda_refuses_speakers_that_do_not_differ() -> None:
    X = torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
    order = np.argsort(X[:, 0].numpy())
    y = np.empty(40, np.int64)
    y[order] = np.tile([0, 1, 1, 0], 10)  # nearly equal means
    with pytest.raises(HeadError, match="differ no more than"):
        create_head("plda").fit(X, y)
