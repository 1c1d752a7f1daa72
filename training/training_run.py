"""The loop of a training run, which can be killed and continued at any step.

Each step is a pure function of the weights, the seed, the epoch and the number of the step: the crops come from the
`BatchPlan`, and PyTorch's generator, which augmentation and dropout use, is seeded in each step. So a run that
continues from a checkpoint computes what it would have computed without the interruption.
"""

import logging
import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from files import Progress, Record
from networks import LogMel
from training.augmentation import SpecAugment
from training.batch_plan import BatchPlan, Step
from training.checkpoint import identity_of, load_checkpoint, save_checkpoint
from training.crop_reader import CropBatch, CropReader, CropRequest, read_crops
from training.data import TrainingData
from training.describe_epoch import describe_epoch, describe_sums
from training.evaluate import VERIFICATION_FIGURES, Evaluator, Outputs, average
from training.member import Member
from training.processes import exchange, exchange_faults, threads
from training.run_results import RunResults
from training.settings import TrainingError, TrainingSettings
from training.tensorboard_log import TensorBoardLog

if TYPE_CHECKING:
    from lightning.fabric import Fabric

logger = logging.getLogger(__name__)

CHECKPOINT = "training.ckpt"
# Seconds between two checkpoints within an epoch.
CHECKPOINT_SECONDS = 300.0
TENSORBOARD = "tensorboard"
# Steps between two points of the curves of TensorBoard within an epoch.
STEPS_PER_POINT = 50
ENSEMBLE = "ensemble"
FIGURES = ("n_utterances", "loss", "accuracy", "macro_f1", "top3", "top5", *VERIFICATION_FIGURES)


@dataclass
class State:
    """How far a run is.

    Attributes
    ----------
    epoch, step : int
        The next step, and the epoch that it belongs to.
    rows : list of dict
        Figures of the epochs that are complete.
    sums : dict
        For each network the sums of this epoch: crops, losses, correct answers, seconds.
    best : dict
        Epoch, score and weights of the best epoch by validation.
    """

    epoch: int = 0
    step: int = 0
    rows: list[Record] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)


class TrainingRun:
    """A training run: networks, data and state.

    Parameters
    ----------
    settings : TrainingSettings
    data : TrainingData
    front_end : LogMel
    fabric : Fabric
        Device, precision and processes, launched.
    output_dir : Path
        Folder of the checkpoint and of the curves for TensorBoard.
    results : RunResults
        Where the figures are written after each epoch.
    num_workers : int
        Number of processes that read crops.
    test_every_epoch : bool
        Whether the test part is evaluated after each epoch too. It never selects.
    progress : bool
        Whether to show the progress.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        data: TrainingData,
        front_end: LogMel,
        *,
        fabric: "Fabric",
        output_dir: Path,
        results: RunResults,
        num_workers: int = 2,
        test_every_epoch: bool = False,
        progress: bool = True,
    ) -> None:
        self.settings, self.data, self.fabric = settings, data, fabric
        self._num_workers, self._progress, self._test_every_epoch = num_workers, progress, test_every_epoch
        self.front_end = front_end.to(fabric.device)
        self._reader = CropReader(
            front_end.sample_rate,
            front_end.hop,
            front_end.n_fft,
            front_end=front_end if fabric.device.type == "cpu" else None,  # a GPU computes it faster
        )
        train = data.parts["train"]
        labels = torch.from_numpy(data.labels[train])
        self.plan = BatchPlan(
            data.labels[train],
            settings.batch_size,
            triplets=settings.objective == "triplet",
            steps_per_epoch=settings.steps_per_epoch,
            seed=settings.seed,
            rank=fabric.global_rank,
            n_ranks=fabric.world_size,
        )
        torch.manual_seed(settings.seed)
        self.members = [Member(name, settings, front_end, labels=labels, fabric=fabric) for name in settings.networks]
        self.evaluator = Evaluator(
            data=data, front_end=self.front_end, reader=self._reader, fabric=fabric, num_workers=num_workers
        )
        self.crop_frames = settings.n_frames if isinstance(settings.n_frames, int) else None
        self._augment = None
        if settings.mask_probability > 0:
            self._augment = SpecAugment(settings.mask_probability, settings.mask_features, settings.mask_frames)
        self.state = State()
        self.outputs: list[tuple[str, Outputs]] = []  # of the last evaluation
        self.results, self._curves_folder = results, output_dir / TENSORBOARD
        self._checkpoint, self._identity = output_dir / CHECKPOINT, identity_of(settings, data)

    def resume(self) -> bool:
        """Continue from the checkpoint in the output folder, if there is one; return whether there is.

        Raises
        ------
        TrainingError
            The checkpoint is that of a run with other settings.
        """
        if self.fabric.is_global_zero:
            for left in self._checkpoint.parent.glob(f".{CHECKPOINT}.*.tmp"):  # by a run that was killed
                left.unlink(missing_ok=True)
        if not self._checkpoint.exists():
            return False
        content = load_checkpoint(self._checkpoint, self._identity)
        for member, state in zip(self.members, content["members"], strict=True):
            member.load_state(state)
        self.fabric.strategy.precision.load_state_dict(content["precision"])
        self.state = State(**{name: content[name] for name in ("epoch", "step", "rows", "sums", "best")})
        if not self.fabric.is_global_zero:
            self.state.sums = {}  # the saved ones are those of all processes
        self.data.faults.update(content["faults"])
        logger.info("%s: continuing at epoch %d, step %d", self._checkpoint, self.state.epoch + 1, self.state.step + 1)
        return True

    def fit(self) -> None:
        """Train until the last epoch, or until validation has not improved for `patience` epochs.

        Raises
        ------
        TrainingError
            A loss is NaN or infinite.
        OutputError
            The checkpoint cannot be written.
        """
        if self._is_complete():
            return
        is_first = self.fabric.is_global_zero
        limits = [member.model.network.training_threads for member in self.members]
        with (
            threads(None if None in limits else max(filter(None, limits))),
            TensorBoardLog(self._curves_folder, self._n_done, enabled=is_first) as curves,
            closing(self._batches()) as batches,
        ):
            while not self._is_complete():
                self._train_epoch(batches, curves)
                self._end_epoch(curves)
                self._save()

    @property
    def _n_done(self) -> int:
        """Number of steps that are done, over all epochs."""
        return self.state.epoch * self.plan.n_steps + self.state.step

    def _batches(self) -> Generator[CropBatch]:
        """Read the crops of all steps from here on, also ahead of the evaluation between two epochs."""
        epoch, step = self.state.epoch, self.state.step
        later = map(self.plan.steps, range(epoch + 1, self.settings.epochs))
        steps = chain(self.plan.steps(epoch, step), chain.from_iterable(later))
        is_on_gpu = self.fabric.device.type == "cuda"
        return read_crops(self._reader, map(self._request, steps), self._num_workers, pin=is_on_gpu)

    def _train_epoch(self, batches: Iterator[CropBatch], curves: TensorBoardLog) -> None:
        state, saved = self.state, time.monotonic()
        task = f"Epoch {state.epoch + 1} of {self.settings.epochs}"
        is_shown = self._progress and self.fabric.is_global_zero
        with Progress(task, self.plan.n_steps, unit="step", visible=is_shown, done=state.step) as progress:
            started = time.monotonic()
            for batch in islice(batches, self.plan.n_steps - state.step):
                is_due = self._agree(batch, started - saved > CHECKPOINT_SECONDS)
                figures = self._train_step(batch)
                state.step += 1
                if self._n_done % STEPS_PER_POINT == 0:
                    curves.add(self._n_done, figures)
                now = time.monotonic()
                self._add("seconds", now - started)
                started = now
                progress.advance(note=describe_sums(state.sums, self.settings.networks, self.fabric.world_size))
                if is_due:
                    curves.flush()
                    self._save()
                    saved = now

    def _request(self, step: Step) -> CropRequest:
        rows = self.data.parts["train"][step.rows]
        crops = tuple(
            self.data.crop(row, position, self.crop_frames)
            for row, position in zip(rows.tolist(), step.positions.tolist(), strict=True)
        )
        return CropRequest(crops, (step, rows))

    def _agree(self, batch: CropBatch, is_due: bool) -> bool:
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
        self.data.faults.update({self.data.utterances[rows[place]].id: reason for place, reason in batch.faults})
        kept = self._complete(batch.kept, len(rows))
        agreed = exchange(self.fabric, float(len(kept)), float(is_due))
        counts = agreed[:, 0]
        if not bool(counts.all()):
            kept = kept[:0]
        if len(kept) < len(batch.kept):
            places = torch.isin(batch.kept, kept)
            batch.inputs, batch.n_frames, batch.kept = batch.inputs[places], batch.n_frames[places], kept
        # The mean of the gradients of the processes, so weighted, is that of the step.
        batch.share = len(kept) * len(counts) / max(float(counts.sum()), 1.0)
        return bool(agreed[0, 1])

    def _train_step(self, batch: CropBatch) -> dict[str, float]:
        """Update all networks; return the figures of the step, of this process."""
        step, rows = batch.what
        if not len(batch.kept):
            return {}
        torch.manual_seed(_seed(self.settings.seed, step.epoch, step.number, rank=self.fabric.global_rank))
        device = self.fabric.device
        inputs, n_frames = batch.inputs.to(device), batch.n_frames.to(device)
        labels = torch.from_numpy(self.data.labels[rows[batch.kept.numpy()]]).to(device)
        with torch.no_grad():
            frames = self.evaluator.frames_of(inputs, n_frames)
            if self._augment is not None:
                frames = self._augment(frames, n_frames)
        lr = self.learning_rate(step.epoch * self.plan.n_steps + step.number)
        self._add("crops", len(labels))
        figures = {"step/learning_rate": lr}
        for member in self.members:
            loss, logits = member.train_step(frames, n_frames, labels, share=batch.share, lr=lr)
            value = float(loss)
            if not math.isfinite(value):
                ids = ", ".join(self.data.utterances[row].id for row in rows[batch.kept.numpy()].tolist())
                raise TrainingError(
                    f"The loss of {member.name} is {value} in step {step.number + 1} of epoch {step.epoch + 1}. Give a "
                    f"smaller --lr, --max_norm or --precision fp32. The utterances of the step are: {ids}."
                )
            self._add(f"{member.name} loss", value * len(labels))
            end = f"/{member.name}" if len(self.members) > 1 else ""
            figures[f"step/loss{end}"] = value
            if logits is not None:
                n_correct = float((logits.argmax(1) == labels).sum())
                self._add(f"{member.name} correct", n_correct)
                figures[f"step/accuracy{end}"] = n_correct / len(labels)
        return figures

    def _complete(self, kept: torch.Tensor, n_crops: int) -> torch.Tensor:
        """Return the places of the crops to use: all that could be read, of triplets those of complete ones."""
        if self.settings.objective != "triplet":
            return kept
        n = n_crops // 3
        is_kept = torch.zeros(n_crops, dtype=torch.bool).index_fill_(0, kept, True).view(3, n).all(0)
        return is_kept.repeat(3).nonzero()[:, 0]

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted over all epochs."""
        settings, n_steps = self.settings, self.settings.epochs * self.plan.n_steps
        if step < settings.warmup_steps:
            return settings.lr * (step + 1) / settings.warmup_steps
        if settings.schedule == "constant":
            return settings.lr
        done = (step - settings.warmup_steps) / max(n_steps - settings.warmup_steps, 1)
        return settings.lr * (1 + math.cos(math.pi * done)) / 2

    def _end_epoch(self, curves: TensorBoardLog) -> None:
        """Evaluate, add the rows of the epoch and write them, and keep the weights if they are the best."""
        state, n_before = self.state, len(self.state.rows)
        state.rows += self._training_rows()
        parts = ["validation", "test"] if self._test_every_epoch else ["validation"]
        scores = {part: self.evaluate(part) for part in parts}
        score = tuple(exchange(self.fabric, *scores["validation"])[0].tolist())  # the first process decides
        if not state.best or score > tuple(state.best["score"]):
            tensors = [
                {name: tensor.detach().cpu().clone() for name, tensor in member.model.state_dict().items()}
                for member in self.members
            ]
            state.best = {"epoch": state.epoch, "score": list(score), "tensors": tensors}
        if self.fabric.is_global_zero:
            own = state.rows[n_before:]
            is_best = state.best["epoch"] == state.epoch and len(self.data.parts["validation"]) > 0
            logger.info("Epoch %d of %d: %s", state.epoch + 1, self.settings.epochs, describe_epoch(own, is_best))
            curves.add_rows(self._n_done, own)
            curves.flush()
            self.results.write_figures(state.rows, selected_epoch=state.best["epoch"] + 1)
        state.epoch, state.step, state.sums = state.epoch + 1, 0, {}

    def _training_rows(self) -> list[Record]:
        sums = self._summed()
        crops, seconds = sums.get("crops", 0.0), sums.get("seconds", 0.0) / self.fabric.world_size
        if not crops:
            first = next(iter(self.data.faults.values()), "they have no signal")
            raise TrainingError(f"None of the training utterances could be read; the first: {first}.")
        lr = self.learning_rate(self.state.epoch * self.plan.n_steps + self.plan.n_steps - 1)
        rows = []
        for member in self.members:
            is_classifier = member.classifier is not None
            rows.append(
                self._row("train", member.name)
                | {
                    "n_utterances": int(crops),
                    "loss": sums[f"{member.name} loss"] / crops,
                    "accuracy": sums[f"{member.name} correct"] / crops if is_classifier else math.nan,
                    "learning_rate": lr,
                    "seconds": seconds,
                    "crops_per_second": crops / seconds if seconds else math.nan,
                }
            )
        return rows

    def evaluate(self, part: str, epoch: int | None = None) -> tuple[float, ...]:
        """Add the figures of a part to the rows, and return the score of its last row; a higher score is better.

        The weights are those of the epoch (from 1), by default of the current one.
        """
        rows = self.data.parts[part]
        if not len(rows):
            return (float(self.state.epoch),)  # without validation the last epoch is the best
        started = time.monotonic()
        self.outputs = self.outputs_of(part)
        seconds = time.monotonic() - started
        for name, each in self.outputs:
            if not bool(torch.isfinite(each.embeddings).all()):
                raise TrainingError(
                    f"The embeddings of {name} are not finite after epoch {self.state.epoch + 1}. Give a smaller --lr, "
                    "--max_norm or --precision fp32."
                )
            row = self._row(part, name) | self.evaluator.figures(each)
            row["epoch"] = epoch or row["epoch"]
            self.state.rows.append(row | {"seconds": seconds})
        if math.isfinite(row["accuracy"]):
            return row["accuracy"], -row["loss"]
        return (-row["eer"], -row["min_dcf"]) if math.isfinite(row["eer"]) else (float(self.state.epoch),)

    def outputs_of(self, part: str) -> list[tuple[str, Outputs]]:
        """Return the outputs of each network for a part, and those of the ensemble if there are several."""
        outputs = self.evaluator.run(self.members, self.data.parts[part])
        named = list(zip(self.settings.networks, outputs, strict=True))
        return [*named, (ENSEMBLE, average(outputs))] if len(named) > 1 else named

    def _row(self, part: str, network: str) -> Record:
        names = [*FIGURES, "learning_rate", "seconds", "crops_per_second"]
        return {"epoch": self.state.epoch + 1, "part": part, "network": network, **dict.fromkeys(names, math.nan)}

    def load_best(self) -> int:
        """Load the weights of the best epoch by validation; return its number, from 1."""
        for member, tensors in zip(self.members, self.state.best["tensors"], strict=True):
            member.model.load_state_dict(tensors)
        return int(self.state.best["epoch"]) + 1

    def _is_complete(self) -> bool:
        best, patience = self.state.best, self.settings.patience
        is_exhausted = patience is not None and bool(best) and self.state.epoch - best["epoch"] > patience
        return self.state.epoch >= self.settings.epochs or is_exhausted

    def _add(self, name: str, value: float) -> None:
        self.state.sums[name] = self.state.sums.get(name, 0.0) + value

    def _summed(self) -> dict[str, float]:
        """Return the sums of this epoch over all processes."""
        names = sorted(self.state.sums)
        sums = exchange(self.fabric, *(self.state.sums[name] for name in names)).sum(0)
        return dict(zip(names, sums.tolist(), strict=True))

    def _save(self) -> None:
        """Write the checkpoint, in the first process."""
        sums = self._summed()
        exchange_faults(self.fabric, self.data.faults)
        if not self.fabric.is_global_zero:
            return
        state = self.state
        save_checkpoint(
            self._checkpoint,
            {
                "identity": self._identity,
                "epoch": state.epoch,
                "step": state.step,
                "rows": state.rows,
                "sums": sums,
                "best": state.best,
                "members": [member.state() for member in self.members],
                "precision": self.fabric.strategy.precision.state_dict(),
                "faults": self.data.faults,
            },
        )


def _seed(*numbers: int, rank: int) -> int:
    """Return a seed for PyTorch that differs for each step and process."""
    return int(np.random.SeedSequence([*numbers, rank]).generate_state(1, np.uint64)[0] >> 1)
