"""The share of each process in a training step."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from training.batch_plan import BatchPlan
from training.crop_reader import CropBatch, CropReader
from training.objectives import class_weights
from training.step_crops import StepCrops

# Speakers with 6, 2 and 1 utterances.
LABELS = np.array([0] * 6 + [1] * 2 + [2], np.int64)
# A step of two processes, which do not have the same speakers.
ROWS = (np.array([0, 1, 2, 3]), np.array([4, 6, 8]))


@pytest.mark.parametrize("is_weighted", [False, True])
def test_loss_of_the_processes_is_that_of_one_process(is_weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = class_weights(torch.from_numpy(LABELS)) if is_weighted else None
    data: Any = SimpleNamespace(labels=LABELS, parts={"train": np.arange(9)}, utterances=(), faults={})
    fabric: Any = SimpleNamespace(device=torch.device("cpu"))
    crops = StepCrops(
        BatchPlan(LABELS, 9),
        data,
        CropReader(16_000, 160, 400),
        fabric=fabric,
        n_frames=None,
        class_weights=weights,
        num_workers=0,
    )

    def batch(rows: Any) -> CropBatch:
        n = len(rows)
        return CropBatch(torch.zeros(n, 1), torch.ones(n, dtype=torch.int64), torch.arange(n), what=(None, rows))

    sent: list[torch.Tensor] = []

    def send(fabric: Any, *values: float) -> torch.Tensor:
        sent.append(torch.tensor(values, dtype=torch.float64))
        return sent[-1][None]

    monkeypatch.setattr("training.step_crops.exchange", send)
    for rows in ROWS:
        crops.agree(batch(rows), False)
    monkeypatch.setattr("training.step_crops.exchange", lambda fabric, *values: torch.stack(sent))
    batches = [batch(rows) for rows in ROWS]
    for each in batches:
        crops.agree(each, False)
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.from_numpy(LABELS)
    losses = [
        each.share * cross_entropy(logits[rows], labels[rows], weights)
        for each, rows in zip(batches, ROWS, strict=True)
    ]
    everything = np.concatenate(ROWS)
    torch.testing.assert_close(sum(losses) / 2, cross_entropy(logits[everything], labels[everything], weights))
