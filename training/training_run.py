"""The loop of a training run, which can be killed and continued at any step.

Each step is a pure function of the weights, the seed, the epoch and the number of the step: the crops come from the
`BatchPlan`, and PyTorch's generator, which augmentation and dropout use, is seeded in each step. So a run that
continues from a checkpoint computes what it would have computed without the interruption.
"""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from encoders import Pretrained
from files import Progress, Record
from networks import FrontEnd
from training.augmentation import SpecAugment
from training.batch_plan import BatchPlan, Step
from training.checkpoint import identity_of, load_checkpoint, save_checkpoint
from training.crop_reader import CropBatch, CropReader
from training.data import TrainingData
from training.describe_epoch import describe_epoch, describe_sums
from training.evaluate import VERIFICATION_FIGURES, Evaluator, Outputs, average
from training.member import Member
from training.objectives import class_weights
from training.processes import exchange, exchange_faults, threads
from training.run_results import RunResults
from training.run_state import State
from training.schedule import learning_rate
from training.settings import TrainingError, TrainingSettings, UnusableCorpusError
from training.step_crops import StepCrops
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


class TrainingRun:
    """A training run: networks, data and state.

    Parameters
    ----------
    settings : TrainingSettings
    data : TrainingData
    front_end : FrontEnd
    fabric : Fabric
        Device, precision and processes, launched.
    output_dir : Path
        Folder of the checkpoint and of the curves for TensorBoard.
    results : RunResults
        Where the figures are written after each epoch.
    num_workers : int
        Number of processes that read crops.
    pretrained : Pretrained or None
        Weights that the network is fine-tuned from.
    test_every_epoch : bool
        Whether the test part is evaluated after each epoch too. It never selects.
    progress : bool
        Whether to show the progress.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        data: TrainingData,
        front_end: FrontEnd,
        *,
        fabric: "Fabric",
        output_dir: Path,
        results: RunResults,
        num_workers: int = 2,
        pretrained: Pretrained | None = None,
        test_every_epoch: bool = False,
        progress: bool = True,
    ) -> None:
        self.settings, self.data, self.fabric, self.pretrained = settings, data, fabric, pretrained
        self._progress, self._test_every_epoch = progress, test_every_epoch
        self.front_end = front_end.to(fabric.device)
        reader = CropReader(
            front_end.sample_rate,
            front_end.hop,
            front_end.n_fft,
            unpadded=front_end.unpadded,
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
            min_size=settings.min_batch,
            rank=fabric.global_rank,
            n_ranks=fabric.world_size,
        )
        torch.manual_seed(settings.seed)
        self.members = [
            Member(name, settings, front_end, labels=labels, fabric=fabric, pretrained=pretrained)
            for name in settings.networks
        ]
        self.evaluator = Evaluator(
            data=data, front_end=self.front_end, reader=reader, fabric=fabric, num_workers=num_workers
        )
        self.crop_frames = settings.n_frames if isinstance(settings.n_frames, int) else None
        self._crops = StepCrops(
            self.plan,
            data,
            reader,
            fabric=fabric,
            n_frames=self.crop_frames,
            class_weights=class_weights(labels) if settings.class_weight else None,
            num_workers=num_workers,
            min_batch=settings.min_batch,
        )
        self._augment = None
        if settings.mask_probability > 0:
            self._augment = SpecAugment(settings.mask_probability, settings.mask_features, settings.mask_frames)
        self.state = State()
        self.outputs: list[tuple[str, Outputs]] = []  # of the last evaluation
        self.results, self._curves_folder = results, output_dir / TENSORBOARD
        self._checkpoint = output_dir / CHECKPOINT
        self._identity = identity_of(settings, data, self.members[0].model.network.dropouts)

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
        try:
            for member, state in zip(self.members, content["members"], strict=True):
                member.load_state(state)
            self.fabric.strategy.precision.load_state_dict(content["precision"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise TrainingError(
                f"{self._checkpoint}: its weights are not those of this run; another version may have written it. "
                "Delete it to begin again."
            ) from error
        self.state = State(**{name: content[name] for name in ("epoch", "step", "rows", "sums", "best")})
        if not self.fabric.is_global_zero:
            self.state.sums = dict.fromkeys(self.state.sums, 0.0)  # the saved ones are those of all processes
        self.data.faults.update(content["faults"])
        if self._is_complete():
            logger.info("%s: the training is finished; its best epoch is tested and saved again", self._checkpoint)
        else:
            epoch, step = self.state.epoch + 1, self.state.step + 1
            logger.info("%s: continuing at epoch %d, step %d", self._checkpoint, epoch, step)
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
            closing(self._crops.read(self.state.epoch, self.state.step, self.settings.epochs)) as batches,
        ):
            while not self._is_complete():
                self._train_epoch(batches, curves)
                self._end_epoch(curves)
                self._save()

    @property
    def _n_done(self) -> int:
        """Number of steps that are done, over all epochs."""
        return self.state.epoch * self.plan.n_steps + self.state.step

    def _train_epoch(self, batches: Iterator[CropBatch], curves: TensorBoardLog) -> None:
        state, saved = self.state, time.monotonic()
        task = f"Epoch {state.epoch + 1} of {self.settings.epochs}"
        is_shown = self._progress and self.fabric.is_global_zero
        with Progress(task, self.plan.n_steps, unit="step", visible=is_shown, done=state.step) as progress:
            started = time.monotonic()
            for batch in islice(batches, self.plan.n_steps - state.step):
                is_due = self._crops.agree(batch, started - saved > CHECKPOINT_SECONDS)
                figures = self._train_step(batch)
                state.step += 1
                if self._n_done % STEPS_PER_POINT == 0:
                    curves.add(self._n_done, figures)
                now = time.monotonic()
                self.state.add("seconds", now - started)
                started = now
                progress.advance(note=describe_sums(state.sums, self.settings.networks, self.fabric.world_size))
                if is_due:
                    curves.flush()
                    self._save()
                    saved = now

    def _train_step(self, batch: CropBatch) -> dict[str, float]:
        """Update all networks; return the figures of the step, of this process."""
        step, rows = batch.what
        if not len(batch.kept):
            return {}
        torch.manual_seed(_seed(self.settings.seed, step.epoch, step.number, rank=self.fabric.global_rank))
        device = self.fabric.device
        inputs, n_frames = batch.inputs.to(device), batch.n_frames.to(device)
        labels = self._crops.labels(batch).to(device)
        with torch.no_grad():
            frames = self.evaluator.frames_of(inputs, n_frames)
            if self._augment is not None:
                frames = self._augment(frames, n_frames)
        lr = self._learning_rate(step.epoch, step.number)
        self.state.add("crops", len(labels))
        figures = {"step/learning_rate": lr}
        for member in self.members:
            with _short_crops(step, member.name):
                loss, logits = member.train_step(frames, n_frames, labels, share=batch.share, lr=lr)
            value = float(loss)
            if not math.isfinite(value):
                ids = ", ".join(self.data.utterances[row].id for row in rows[batch.kept.numpy()].tolist())
                raise TrainingError(
                    f"The loss of {member.name} is {value} in step {step.number + 1} of epoch {step.epoch + 1}. Give a "
                    f"smaller --lr, --max_norm or --precision fp32. The utterances of the step are: {ids}."
                )
            if logits is not None:  # without class weights, as the loss of the other parts
                value = float(cross_entropy(logits.float(), labels))
            self.state.add(f"{member.name} loss", value * len(labels))
            end = f"/{member.name}" if len(self.members) > 1 else ""
            figures[f"step/loss{end}"] = value
            if logits is not None:
                n_correct = float((logits.argmax(1) == labels).sum())
                self.state.add(f"{member.name} correct", n_correct)
                figures[f"step/accuracy{end}"] = n_correct / len(labels)
        return figures

    def _learning_rate(self, epoch: int, step: int) -> float:
        n_steps = self.plan.n_steps
        return learning_rate(self.settings, epoch * n_steps + step, self.settings.epochs * n_steps)

    def _end_epoch(self, curves: TensorBoardLog) -> None:
        """Evaluate, add the rows of the epoch and write them, and keep the weights if they are the best."""
        state, n_before = self.state, len(self.state.rows)
        state.rows += self._training_rows()
        parts = ["validation", "test"] if self._test_every_epoch else ["validation"]
        scores = {part: self.evaluate(part) for part in parts}
        score = tuple(exchange(self.fabric, *scores["validation"])[0].tolist())  # the first process decides
        if not state.best or score > tuple(state.best["score"]):
            tensors = [
                {name: tensor.detach().cpu().clone() for name, tensor in member.weights().items()}
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
        state.start_next_epoch()

    def _training_rows(self) -> list[Record]:
        sums = self._summed()
        crops, seconds = sums.get("crops", 0.0), sums.get("seconds", 0.0) / self.fabric.world_size
        if not crops:
            first = next(iter(self.data.faults.items()), None)
            if first is None:
                raise UnusableCorpusError(
                    "The training utterances are silent. Export them again, or give other recordings."
                )
            raise UnusableCorpusError(
                f"None of the training utterances could be read; the first, {first[0]}: {first[1]}."
            )
        lr = self._learning_rate(self.state.epoch, self.plan.n_steps - 1)
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
            member.load_weights(tensors)
        return int(self.state.best["epoch"]) + 1

    def _is_complete(self) -> bool:
        best, patience = self.state.best, self.settings.patience
        is_exhausted = patience is not None and bool(best) and self.state.epoch - best["epoch"] > patience
        return self.state.epoch >= self.settings.epochs or is_exhausted

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
        state, members = self.state, [member.state() for member in self.members]
        if self._is_complete():  # only the best weights are needed; they are the same tensors, which are stored once
            members = [{"model": tensors, "optimizer": None} for tensors in state.best["tensors"]]
        save_checkpoint(
            self._checkpoint,
            {
                "identity": self._identity,
                "epoch": state.epoch,
                "step": state.step,
                "rows": state.rows,
                "sums": sums,
                "best": state.best,
                "members": members,
                "precision": self.fabric.strategy.precision.state_dict(),
                "faults": self.data.faults,
            },
        )


@contextmanager
def _short_crops(step: Step, network: str) -> Iterator[None]:
    """Translate the error of batch normalisation about a batch of one value, which has no variance."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"Step {step.number + 1} of epoch {step.epoch + 1} has a single crop that is too short for the batch "
            f"normalisation of {network}. Give a larger --batch_size or --n_frames."
        ) from error


def _seed(*numbers: int, rank: int) -> int:
    """Return a seed for PyTorch that differs for each step and process."""
    return int(np.random.SeedSequence([*numbers, rank]).generate_state(1, np.uint64)[0] >> 1)
