"""Scalers against scikit-learn, and on constant, correlated and few rows."""

import numpy as np
import pytest
import sklearn.preprocessing
import torch
from sklearn.decomposition import PCA

from files import InputError
from heads import SCALERS, create_scaler


def correlated(n_rows: int = 200, dim: int = 6) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return 3 + torch.randn(n_rows, dim, generator=random) @ torch.randn(dim, dim, generator=random)


def test_standard_equals_scikit_learn() -> None:
    rows = correlated()
    expected = sklearn.preprocessing.StandardScaler().fit(rows[:150].numpy()).transform(rows[150:].numpy())
    got = create_scaler("standard").fit(rows[:150]).transform(rows[150:])
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, 1e6])
def test_standard_sets_constant_dimensions_to_zero(value: float) -> None:
    rows = correlated()
    rows[:, 2] = value
    scaled = create_scaler("standard").fit(rows).transform(rows)
    assert scaled.isfinite().all()
    assert (scaled[:, 2] == 0).all()


def test_whiten_equals_scikit_learn_pca_up_to_signs() -> None:
    rows = correlated()
    expected = PCA(whiten=True).fit(rows.numpy()).transform(rows.numpy()) * np.sqrt(len(rows) / (len(rows) - 1))
    got = create_scaler("whiten").fit(rows).transform(rows).numpy()
    np.testing.assert_allclose(np.abs(got), np.abs(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("n_rows", "dim"), [(200, 6), (5, 20), (20, 20)])
def test_whitened_rows_are_uncorrelated_with_unit_variance(n_rows: int, dim: int) -> None:
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
def test_state_restores_the_scaler(name: str) -> None:
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
    with pytest.raises(InputError, match="fitted to 6 dimensions, these features have 5"):
        create_scaler("standard").fit(correlated()).transform(torch.randn(2, 5))


def test_error_lists_the_valid_scalers() -> None:
    with pytest.raises(InputError, match="none, standard, whiten, within"):
        create_scaler("standart")


def speakers_of(n_rows: int, n_speakers: int = 8) -> torch.Tensor:
    return torch.arange(n_rows) % n_speakers


def test_within_whitens_the_covariance_within_speakers() -> None:
    y = speakers_of(200)
    rows = correlated() + 5 * torch.randn(8, 6, generator=torch.Generator().manual_seed(1))[y]
    scaled = create_scaler("within").fit(rows, y).transform(rows).double()
    means = torch.stack([scaled[y == speaker].mean(0) for speaker in range(8)])
    centred = scaled - means[y]
    torch.testing.assert_close(centred.T @ centred / (200 - 8), torch.eye(6).double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(6).double(), rtol=0, atol=1e-4)


def test_within_drops_directions_constant_within_speakers() -> None:
    y = speakers_of(60)
    rows = torch.cat([correlated(60), y[:, None].float(), torch.full((60, 1), 3.0)], dim=1)
    assert create_scaler("within").fit(rows, y).transform(rows).shape == (60, 6)
    few = correlated(12, 30)
    assert create_scaler("within").fit(few, speakers_of(12, 4)).transform(few).shape == (12, 8)


def test_within_needs_speakers_with_two_rows() -> None:
    with pytest.raises(InputError, match="needs the speakers"):
        create_scaler("within").fit(correlated())
    with pytest.raises(InputError, match="more training rows than speakers; there are 5 rows of 5 speakers"):
        create_scaler("within").fit(correlated(5), torch.arange(5))
    with pytest.raises(InputError, match="No direction varies within speakers"):
        create_scaler("within").fit(torch.ones(6, 3), speakers_of(6, 3))


@pytest.mark.parametrize("kind", ["none", "standard", "whiten", "within"])
def test_length_is_normalised_after_any_scaler(kind: str) -> None:
    rows, y = correlated(), speakers_of(200)
    plain = create_scaler(kind).fit(rows, y).transform(rows)
    name = "length" if kind == "none" else f"{kind}+length"
    scaled = create_scaler(name).fit(rows, y).transform(rows)
    torch.testing.assert_close(scaled.norm(dim=1), torch.full((200,), 6**0.5))
    torch.testing.assert_close(scaled, plain / plain.norm(dim=1, keepdim=True) * 6**0.5)
    zeros = create_scaler("length").fit(rows).transform(torch.zeros(2, 6))
    assert torch.equal(zeros, torch.zeros(2, 6))


def test_none_leaves_rows_unchanged() -> None:
    assert torch.equal(create_scaler("none").fit(correlated()).transform(correlated()), correlated())


@pytest.mark.parametrize("name", ["whiten", "within", "within+length"])
def test_scalers_with_a_matrix_take_one_layer(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name.replace('+', '.')}' takes one layer"):
        create_scaler(name).fit(torch.randn(20, 3, 4), speakers_of(20))
    layers = torch.randn(20, 3, 4)
    assert create_scaler("standard+length").fit(layers).transform(layers).shape == (20, 3, 4)
