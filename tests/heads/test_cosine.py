"""Cosine logits and their margins."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from heads import Head, HeadError, create_head

Blobs = Callable[..., tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.int64]]]]
MakeHead = Callable[..., Head]


@pytest.mark.parametrize("margin_type", ["am", "aam"])
@pytest.mark.parametrize("margin", [0.0, 0.35])
def test_margin_lowers_the_true_speakers_logit_only(margin_type: Any, margin: float) -> None:
    head: Any = create_head("cosine", margin=margin, scale=20.0, margin_type=margin_type)
    cosines = torch.linspace(-0.85, 0.95, 12).reshape(4, 3)  # no angle plus margin exceeds 180 degrees
    targets = torch.tensor([0, 2, 1, 1])
    own = cosines.gather(1, targets[:, None])
    lowered = own - margin if margin_type == "am" else torch.cos(torch.arccos(own) + margin)
    expected = torch.nn.functional.cross_entropy(
        20 * cosines.scatter(1, targets[:, None], lowered), targets, reduction="none"
    )
    torch.testing.assert_close(head.losses(20 * cosines, targets), expected, rtol=1e-4, atol=1e-5)


def test_angular_margin_is_monotonic_beyond_180_degrees() -> None:
    head: Any = create_head("cosine", margin=0.5, scale=10.0, margin_type="aam")
    cosines = torch.linspace(-1, 1, 201)
    logits = torch.stack([10 * cosines, torch.zeros(201)], dim=1)
    losses = head.losses(logits, torch.zeros(201, dtype=torch.int64))
    assert (losses.diff() < 0).all()  # a larger cosine always has a lower loss


def test_logits_ignore_length_and_are_bounded_by_the_scale(blobs: Blobs, make_head: MakeHead) -> None:
    X, y = blobs(4)
    head = make_head("cosine", scale=12.0).fit(X, y)
    scores = head.decision_function(X)
    assert np.abs(scores).max() <= 12.001
    np.testing.assert_allclose(head.decision_function(7 * X), scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{"margin": -0.1}, {"margin": 2.0}, {"scale": 0.0}])
def test_margins_out_of_range_are_refused(options: dict[str, Any], blobs: Blobs) -> None:
    with pytest.raises(HeadError, match=r"Expected a margin from 0 to 1\.57"):
        create_head("cosine", device="cpu", **options).fit(*blobs(3))
