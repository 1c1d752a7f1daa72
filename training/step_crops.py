"""The crops of the training steps, on which the processes of a run agree."""

from collections.abc import Generator
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.batch_plan import BatchPlan, Step
from training.crop_reader import CropBatch, CropReader, CropRequest, read_crops
from training.data import TrainingData
from training.processes import exchange

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class StepCrops:
    """Reads the crops of the training steps.

    Parameters
    ----------
    plan : BatchPlan
        Which crops are in which step.
    data : TrainingData
    reader : CropReader
    fabric : Fabric
        Device and processes.
    n_frames : int or None
        Length of a crop (frames); None reads whole utterances.
    class_weights : Tensor (n_speakers,) or None
        Weights of the speakers in the loss; None weights them equally.
    num_workers : int
        Number of processes that read.
    min_batch : int
        Minimum number of crops of a step; with fewer, it is skipped.
    """

    def __init__(
        self,
        plan: BatchPlan,
        data: TrainingData,
        reader: CropReader,
        *,
        fabric: "Fabric",
        n_frames: int | None,
        class_weights: Tensor | None,
        num_workers: int,
        min_batch: int = 1,
    ) -> None:
        self.plan, self._data, self._reader, self._fabric = plan, data, reader, fabric
        self._min_batch = min_batch
        self._n_frames, self._class_weights, self._num_workers = n_frames, class_weights, num_workers

    def read(self, epoch: int, step: int, n_epochs: int) -> Generator[CropBatch]:
        """Read the crops of all steps from a step on, also ahead of the evaluation between two epochs."""
        later = map(self.plan.steps, range(epoch + 1, n_epochs))
        steps = chain(self.plan.steps(epoch, step), chain.from_iterable(later))
        is_on_gpu = self._fabric.device.type == "cuda"
        return read_crops(self._reader, map(self._request, steps), self._num_workers, pin=is_on_gpu)

    def _request(self, step: Step) -> CropRequest:
        rows = self._data.parts["train"][step.rows]
        crops = tuple(
            self._data.crop(row, position, self._n_frames)
            for row, position in zip(rows.tolist(), step.positions.tolist(), strict=True)
        )
        return CropRequest(crops, (step, rows))

    def labels(self, batch: CropBatch) -> Tensor:
        """Return the classes of the crops of a batch (n,), int64."""
        _, rows = batch.what
        return torch.from_numpy(self._data.labels[rows[batch.kept.numpy()]])

    def agree(self, batch: CropBatch, is_due: bool) -> bool:
        """Agree with the other processes on the crops of a step; return whether all save the state after it.

        The batch keeps the crops to use: those that could be read, of triplets those of complete ones. If a process has
        none, the step is skipped in all of them.

        Parameters
        ----------
        batch : CropBatch
        is_due : bool
            Whether the state should be saved, which the first process decides.
        """
        _, rows = batch.what
        utterances = self._data.utterances
        self._data.faults.update({utterances[rows[place]].id: reason for place, reason in batch.faults})
        batch.keep(self._complete(batch.kept, len(rows)))
        weight = self._weight(batch)
        agreed = exchange(self._fabric, weight, float(len(batch.kept)), float(is_due))
        weights, counts, due = agreed.T
        if not bool(counts.all()):
            batch.keep(batch.kept[:0])
        # The gradients of the processes are means over their crops. The mean of them over the processes, times these
        # shares, is the gradient of the step.
        batch.share = weight * len(weights) / max(float(weights.sum()), 1e-12)
        return bool(due[0])

    def _complete(self, kept: Tensor, n_crops: int) -> Tensor:
        """Return the places of the crops to use: all that could be read, of triplets those of complete ones."""
        if not self.plan.has_triplets:
            return kept if len(kept) >= self._min_batch else kept[:0]
        n = n_crops // 3
        is_kept = torch.zeros(n_crops, dtype=torch.bool).index_fill_(0, kept, True).view(3, n).all(0)
        return is_kept.repeat(3).nonzero()[:, 0]

    def _weight(self, batch: CropBatch) -> float:
        """Return the weight of a process's crops in the loss of the step."""
        if self._class_weights is None:
            return float(len(batch.kept))
        return float(self._class_weights[self.labels(batch)].sum())
