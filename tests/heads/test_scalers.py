"""Scalers against scikit-learn, and on what is hard for them."""

import numpy as np
import pytest
import sklearn.preprocessing
import torch
from sklearn.decomposition import PCA

from audio import InputError
from heads import SCALERS, create_scaler


def correlated(n_rows: int = 200, dim: int = 6) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return 3 + torch.randn(n_rows, dim, generator=random) @ torch.randn(dim, dim, generator=random)


def test_standard_is_scikit_learns() -> None:
    rows = correlated()
    expected = sklearn.preprocessing.StandardScaler().fit(rows[:150].numpy()).transform(rows[150:].numpy())
    got = create_scaler("standard").fit(rows[:150]).transform(rows[150:])
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, 1e6])
def test_standard_leaves_a_constant_dimension_at_zero(value: float) -> None:
    rows = correlated()
    rows[:, 2] = value
    scaled = create_scaler("standard").fit(rows).transform(rows)
    assert scaled.isfinite().all()
    assert (scaled[:, 2] == 0).all()


def test_whiten_is_scikit_learns_pca_up_to_signs() -> None:
    rows = correlated()
    expected = PCA(whiten=True).fit(rows.numpy()).transform(rows.numpy()) * np.sqrt(len(rows) / (len(rows) - 1))
    got = create_scaler("whiten").fit(rows).transform(rows).numpy()
    np.testing.assert_allclose(np.abs(got), np.abs(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("n_rows", "dim"), [(200, 6), (5, 20), (20, 20)])
def test_whitened_training_rows_are_uncorrelated_with_unit_variance(n_rows: int, dim: int) -> None:
    rows = correlated(n_rows, dim)
    whitened = create_scaler("whiten").fit(rows).transform(rows).double()
    covariance = whitened.T @ whitened / n_rows
    assert len(covariance) == min(dim, n_rows - 1)
    torch.testing.assert_close(covariance, torch.eye(len(covariance)).double(), rtol=1e-3, atol=1e-3)


def test_whiten_drops_directions_without_variance() -> None:
    rows = correlated()
    doubled = torch.cat([rows, rows[:, :2], torch.full((len(rows), 1), 7.0)], dim=1)
    assert create_scaler("whiten").fit(doubled).transform(doubled).shape == rows.shape


@pytest.mark.parametrize("name", SCALERS)
def test_a_state_says_all(name: str) -> None:
    rows = correlated()
    fitted = create_scaler(name).fit(rows, torch.arange(200) % 4)
    state = fitted.state_dict()
    assert set(state) == {"name", "mean", "scale"}
    assert state["name"] == name
    restored = create_scaler(name).load_state_dict(state)  # type: ignore[arg-type]
    assert torch.equal(restored.transform(rows), fitted.transform(rows))


@pytest.mark.parametrize("name", SCALERS)
def test_half_precision_features_are_scaled_in_float32(name: str) -> None:
    rows = correlated().half()
    scaled = create_scaler(name).fit(rows, torch.arange(200) % 4).transform(rows)
    assert scaled.dtype == torch.float32
    assert scaled.isfinite().all()


def test_other_dimensions_are_refused() -> None:
    with pytest.raises(InputError, match="fitted on 6 dimensions, these features have 5"):
        create_scaler("standard").fit(correlated()).transform(torch.randn(2, 5))


def test_an_unknown_scaler_is_answered_with_the_valid_ones() -> None:
    with pytest.raises(InputError, match="none, standard, whiten, within"):
        create_scaler("standart")
