"""Adam on one vector against torch's AdamW."""

import pytest
import torch
from torch import nn

from heads.flat_adam import FlatAdam


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_flat_adam_equals_adamw(weight_decay: float) -> None:
    torch.manual_seed(0)
    network, other = (nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)) for _ in range(2))
    other.load_state_dict(network.state_dict())
    ours, theirs = (
        FlatAdam(network, 0.01, weight_decay),
        torch.optim.AdamW(other.parameters(), 0.01, weight_decay=weight_decay),
    )
    rows, targets = torch.randn(20, 5), torch.randint(3, (20,))
    for _ in range(30):
        grads = torch.autograd.grad(nn.functional.cross_entropy(network(rows), targets), list(network.parameters()))
        ours.gradient.copy_(torch.cat([grad.flatten() for grad in grads]))
        with torch.no_grad():
            ours.step()
        theirs.zero_grad()
        nn.functional.cross_entropy(other(rows), targets).backward()  # type: ignore[no-untyped-call]
        theirs.step()
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
