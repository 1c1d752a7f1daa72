"""Closed-form gradients against autograd, and dropout by random bits."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from heads.feed_forward import Dropout, FeedForwardGradient


@given(
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    n_rows=st.integers(1, 12),
    n_classes=st.integers(2, 5),
    normed=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_closed_form_gradients_equal_autograd(
    widths: list[int], n_rows: int, n_classes: int, normed: bool, weighted: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    normed = normed and n_rows > 1
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        norm = nn.BatchNorm1d(width_out)
        nn.init.uniform_(norm.weight, 0.5, 2)
        layers += [nn.Linear(width_in, width_out), *([norm] if normed else []), nn.ReLU(), Dropout(0.4)]
    network = nn.Sequential(*layers, nn.Linear(widths[-1], n_classes))
    rows, targets = torch.randn(n_rows, widths[0]), torch.randint(n_classes, (n_rows,))
    row_weights = torch.rand(n_rows) if weighted else 1 / n_rows
    parameters = list(network.parameters())
    gradient = torch.zeros(sum(parameter.numel() for parameter in parameters))
    torch.manual_seed(seed)  # the same dropout in both
    with torch.no_grad():
        losses = FeedForwardGradient(network, gradient)(rows, targets, row_weights)
    torch.manual_seed(seed)
    expected = nn.functional.cross_entropy(network(rows), targets, reduction="none")
    grads = torch.autograd.grad((expected * row_weights).sum(), parameters)
    torch.testing.assert_close(losses, expected.detach(), rtol=1e-4, atol=1e-6)
    # The gradient of a bias before a batch norm is only rounding error, which small deviations make large.
    tolerance = 1e-4 if normed else 1e-6
    torch.testing.assert_close(gradient, torch.cat([grad.flatten() for grad in grads]), rtol=1e-3, atol=tolerance)


def test_only_sequences_of_known_layers_are_supported() -> None:
    assert FeedForwardGradient.supports(nn.Linear(3, 2))
    assert FeedForwardGradient.supports(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Dropout(0.1), nn.Linear(4, 2)))
    for network in (
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=None), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)),
        nn.Sequential(nn.ReLU(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(3, 2), nn.ReLU()),
        nn.Sequential(nn.Linear(3, 2, bias=False)),
        nn.Identity(),
    ):
        assert not FeedForwardGradient.supports(network)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 0.9])
def test_dropout_has_its_probability_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    factors = Dropout(p).draw(torch.empty(301, 1001))
    assert float((factors == 0).float().mean()) == pytest.approx(p, abs=0.005)
    assert float(factors.mean()) == pytest.approx(1, abs=0.01)
    assert len(np.unique(factors)) == (1 if p == 0 else 2)
    columns = (factors == 0).float().mean(0)  # each part of a random number gives the same probability
    assert float((columns - p).abs().max()) < 0.15
    network = Dropout(p).eval()
    assert torch.equal(network(factors), factors)
