"""Heads by name: valid names and options, and what is tuned."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from heads import HEADS, HeadError, create_head, head_options, search_space

Rows = Callable[..., tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.int64]]]]
EVERY_HEAD = pytest.mark.parametrize("name", HEADS)


def test_error_lists_the_valid_heads_and_options() -> None:
    with pytest.raises(HeadError, match=r"'liner'.*linear, mlp, bn_mlp, weighted"):
        create_head("liner")
    with pytest.raises(HeadError, match=r"'epoch'.*perhaps you meant 'epochs'.*patience"):
        create_head("linear", epoch=3)
    for head, options, message in (
        ("cosine", {"margin_type": "arc"}, "margin_type.*'arc'; expected am or aam"),
        ("cosine", {"scale": "large"}, "scale.*'large'; expected a number"),
        ("mlp", {"epochs": 1.5}, r"epochs.*1\.5; expected a whole number"),
        ("lda", {"shrinkage": True}, "shrinkage.*True; expected a number or none"),
        ("linear", {"class_weight": "even"}, "class_weight.*'even'; expected balanced or none"),
    ):
        with pytest.raises(HeadError, match=message):
            create_head(head, **options)
    assert create_head("lda", shrinkage=None) is not None
    with pytest.raises(HeadError, match="lr above 0"):
        create_head("linear", lr=0.0).fit(torch.randn(4, 2), [0, 1, 0, 1])


@EVERY_HEAD
def test_search_space_holds_valid_hyper_parameters(name: str, rows: Rows) -> None:
    space = search_space(name)
    assert set(space) <= set(head_options(name))
    X, y = rows(name, 3)
    for share in (0.3, 0.6):
        options = {
            key: choices[int(share * len(choices))] if isinstance(choices, list) else float(choices.ppf(share))
            for key, choices in space.items()
        }
        short = {"epochs": 2, "device": "cpu"} if "epochs" in head_options(name) else {}
        assert np.isfinite(create_head(name, **options, **short).fit(X, y).decision_function(X)).all()
