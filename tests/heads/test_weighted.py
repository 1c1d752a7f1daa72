"""The learned average of layers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from heads import Head

Rows = Callable[..., tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.int64]]]]
MakeHead = Callable[..., Head]


def test_informative_layer_gets_the_largest_weight(rows: Rows, make_head: MakeHead) -> None:
    X, y = rows("weighted", n_each=40)
    head: Any = make_head("weighted", epochs=60, lr=0.05).fit(X, y)
    assert head.layer_weights_.sum() == pytest.approx(1)
    assert head.layer_weights_.argmax() == 1
    linear = torch.nn.functional.linear
    mixed = (X * head.layer_weights_[:, None]).sum(1)
    state = head.state_dict()
    expected = linear(mixed, state["linear.weight"], state["linear.bias"])
    np.testing.assert_allclose(head.decision_function(X), expected.numpy(), rtol=1e-4, atol=1e-4)
