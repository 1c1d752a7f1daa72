"""Fixtures for all heads."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from heads import Head, create_head, head_options, takes_layers


@pytest.fixture(scope="session")
def make_head() -> Callable[..., Head]:
    """Return a function that creates a head; networks train for few epochs, on the CPU."""

    def make(name: str, **options: Any) -> Head:
        if "epochs" in head_options(name):
            options = {"epochs": 30, "lr": 0.01, "device": "cpu", **options}
        return create_head(name, **options)

    return make


@pytest.fixture(scope="session")
def rows(blobs: Callable[..., Any]) -> Callable[..., tuple[torch.Tensor, NDArray[np.int64]]]:
    """Return `blobs` for the head of a name; a head over layers takes them as the second of three, the others noise."""

    def make(name: str, *args: Any, **options: Any) -> tuple[torch.Tensor, NDArray[np.int64]]:
        X, y = blobs(*args, **options)
        if takes_layers(name):
            noise = torch.randn(2, *X.shape, generator=torch.Generator().manual_seed(0))
            X = torch.stack([noise[0], X, noise[1]], dim=1)
        return X, y

    return make
