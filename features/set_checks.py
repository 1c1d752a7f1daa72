"""Checks of a set of features: whether its contents fit together."""

from typing import TYPE_CHECKING, Any

import torch

from corpora import SPLITS
from files import InputError, PathLike, is_file_name

if TYPE_CHECKING:
    from features.feature_set import FeatureSet


class FeaturesError(InputError):
    """A features file cannot be used, or does not have what was asked for."""


def check_set(path: PathLike, loaded: "FeatureSet") -> None:
    """Refuse a set whose contents do not fit together."""
    _check_vectors(path, loaded)
    n_rows = len(loaded.labels)
    for name, values in (("features", loaded.features), ("ids", loaded.ids)):
        if len(values) != n_rows:
            raise FeaturesError(
                f"{path}: it has {n_rows} labels, but {len(values)} {name}. Extract the features again."
            )
    for name, index, names in (
        ("labels", loaded.labels, loaded.speakers),
        ("sessions", loaded.sessions, loaded.session_names),
    ):
        if int(index.min()) < 0 or int(index.max()) >= len(names):
            raise FeaturesError(
                f"{path}: its {name} range from {int(index.min())} to {int(index.max())}, but it has {len(names)} "
                "names. Extract the features again."
            )
    splits = loaded.splits
    if splits is not None and not (int(splits.min()) >= -1 and int(splits.max()) < len(SPLITS)):
        raise FeaturesError(
            f"{path}: its splits range from {int(splits.min())} to {int(splits.max())}; expected -1 to "
            f"{len(SPLITS) - 1}. Extract the features again."
        )


def _check_vectors(path: PathLike, loaded: "FeatureSet") -> None:
    """Refuse vectors that are not a table of numbers, or do not fit the encoder's spec."""
    features = loaded.features
    is_table = features.ndim in (2, 3) and features.is_floating_point() and features.layout == torch.strided
    if not is_table or not len(loaded.labels) or not features.shape[-1]:
        raise FeaturesError(
            f"{path}: its features are {features.dtype} of shape {tuple(features.shape)}; expected floating point, "
            "(N, D) or (N, L, D), with at least one row."
        )
    if not isinstance(loaded.encoder, dict) or not is_file_name(loaded.corpus):
        raise FeaturesError(
            f"{path}: its encoder is not a dict, or its corpus {loaded.corpus!r} cannot be used in a file name."
        )
    options = loaded.encoder.get("options", {})
    if not isinstance(options, dict):
        raise FeaturesError(
            f"{path}: the options of its encoder are {options!r}; expected a dict. Extract the features again."
        )
    layers = loaded.encoder.get("layers") or []
    n_layers = features.shape[1] if features.ndim == 3 else 1
    if not _are_layer_numbers(layers) or (layers and len(layers) != n_layers):
        raise FeaturesError(
            f"{path}: the layers of its encoder are {layers!r}, but its features have the shape "
            f"{tuple(features.shape)}. Extract the features again."
        )


def _are_layer_numbers(layers: Any) -> bool:
    if not isinstance(layers, list | tuple) or not all(isinstance(number, int) for number in layers):
        return False
    return len(set(layers)) == len(layers)
