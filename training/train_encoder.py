"""The verb of this room: train networks on a corpus, and save them as encoders."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from corpora import (
    Corpus,
)
from encoders import TrainedNetwork, lazy_encoder, resolve_device
from files import (
    PathLike,
    Record,
    check_writable,
    require,
)
from heads import FittedHead, SpeakerClassifier, create_head, create_scaler
from networks import create_front_end
from training.data import TrainingData, measure, warn_of_single_utterances
from training.data_charts import describe_parts, part_records, write_data_charts
from training.member import Member
from training.part_problems import missing_speakers, part_problems
from training.processes import create_fabric, default_workers, end_together
from training.published_form import check_publishable, write_published
from training.run_results import RunResults
from training.settings import TrainingSettings
from training.split_parts import split_parts
from training.starting_point import StartingPoint
from training.training_run import TrainingRun

logger = logging.getLogger(__name__)

# What can be assigned to the parts.


@dataclass(frozen=True, eq=False)
class TrainedEncoder:
    """What a training run made.

    Attributes
    ----------
    paths : tuple of Path
        Saved networks, for ``load_encoder("trained", weights=path)``, in the order of the networks.
    classifier : Path or None
        Saved `SpeakerClassifier` of the training speakers, if the objective was classification.
    rows : list of dict
        Figures: one row for each epoch, part and network.
    figures : dict
        Row of the test part or, without one, of the validation part at the selected epoch; that of the ensemble if
        there are several networks.
    failures : tuple of (str, str)
        Utterances that could not be read, with the reasons.
    notes : tuple of str
        Sentences about what the validation and test parts cannot measure, and the speakers that they leave out.
    published : tuple of Path
        The networks in the form of SpeakerRecognitionFromScratch, if they were to be saved in it.
    """

    paths: tuple[Path, ...]
    classifier: Path | None
    rows: list[Record] = field(repr=False)
    figures: Record = field(default_factory=dict)
    failures: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    published: tuple[Path, ...] = ()

    @property
    def saved(self) -> tuple[Path, ...]:
        """Files that were saved, the networks first."""
        return (*self.paths, *self.published, *([] if self.classifier is None else [self.classifier]))


def train_encoder(
    corpus: Corpus,
    network: str | Sequence[str] = "conv1d",
    objective: str = "classification",
    *,
    split_by: str = "utterance",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    start_from: PathLike | None = None,
    save_published: bool = False,
    output_dir: PathLike = "outputs",
    device: str = "auto",
    num_workers: int | Literal["auto"] = "auto",
    test_every_epoch: bool = False,
    command: str = "",
    progress: bool = True,
    **settings: Any,
) -> TrainedEncoder:
    """Train networks on a corpus, select the best epoch by validation, test it once, and save it as an encoder.

    A run that was interrupted continues from its checkpoint in the output folder, with the same result.

    Parameters
    ----------
    corpus : Corpus
    network : str or sequence of str
        Names in `NETWORKS`; several are an ensemble of classifiers.
    objective : {"classification", "triplet"}
    split_by : str
        What is assigned to the parts, as in `corpora.split`.
    fractions : three floats
        Shares of the training, validation and test parts.
    start_from : path-like, optional
        Trained encoder, or checkpoint of SpeakerRecognitionFromScratch, whose weights training starts from.
    save_published : bool
        Whether to save ``bilstm`` or ``query_transformer`` in the form of SpeakerRecognitionFromScratch too, as
        ``published_{network}.pt``.
    output_dir : path-like
        Folder for the checkpoint, the figures, and the files ``encoder_{network}.pt``.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    num_workers : int or "auto"
        Number of processes that read crops; 0 reads them in this process. ``auto`` is one less than the cores, at most
        8.
    test_every_epoch : bool
        Whether the test part is evaluated after each epoch too. It never selects.
    command : str
        Command line that repeats the run, for the results.
    progress : bool
        Whether to show the progress.
    **settings
        Other fields of `TrainingSettings`.

    Returns
    -------
    TrainedEncoder

    Raises
    ------
    InputError
        A package of ``requirements-training.txt`` is absent.
    TrainingError
        The corpus is too small for the objective, or a loss is not finite.
    OutputError
        The output folder cannot be written.
    """
    require("requirements-training.txt", "training a network")
    networks = (network,) if isinstance(network, str) else tuple(network)
    chosen = TrainingSettings(networks=networks, objective=objective, **settings).resolve(resolve_device(device).type)
    front_end = create_front_end(chosen.front_end, **chosen.front_end_options)
    start = None
    if start_from is not None:
        start = StartingPoint.load(Path(start_from))
        start.check(chosen, front_end.n_features)
        chosen = replace(chosen, start_from=start.digest)
    if save_published:
        check_publishable(chosen)
    folder = Path(output_dir)
    check_writable(folder)
    fabric = create_fabric(device, chosen.precision)
    progress = progress and fabric.is_global_zero
    utterances, n_samples, faults = measure(corpus, front_end.sample_rate, progress=progress)
    parts = split_parts(Corpus(utterances, corpus.root, corpus.name), split_by, fractions, seed=chosen.seed)
    data = TrainingData(
        utterances,
        n_samples,
        dict(zip(("train", "validation", "test"), parts, strict=True)),
        sample_rate=front_end.sample_rate,
        hop=front_end.hop,
        faults=faults,
    )
    if chosen.objective == "triplet":
        warn_of_single_utterances(utterances, parts[0])
    notes = part_problems(data, chosen.objective)
    for note in notes if fabric.is_global_zero else ():
        logger.warning(note)
    about = {
        "corpus": corpus.name,
        "networks": list(networks),
        "split_by": split_by,
        "fractions": list(fractions),
        "settings": chosen.content(),
        "parts": part_records(data),
        "speakers": list(data.speakers),
        "missing_speakers": {part: list(missing_speakers(data, part)) for part in ("validation", "test")},
        "notes": list(notes),
        "command": command,
    }
    with end_together(fabric.world_size):
        run = TrainingRun(
            chosen,
            data,
            front_end,
            fabric=fabric,
            output_dir=folder,
            results=RunResults(folder, about, data.faults),
            num_workers=default_workers() if num_workers == "auto" else num_workers,
            test_every_epoch=test_every_epoch,
            progress=progress,
        )
        if start is not None:
            start.copy_to(run.members[0], data.speakers)
        run.resume()
        if fabric.is_global_zero:
            for line in describe_parts(data):
                logger.info("%s", line)
            write_data_charts(folder, data, front_end, n_frames=run.crop_frames, seed=chosen.seed)
        run.fit()
        epoch = run.load_best()
        if len(data.parts["test"]):
            run.evaluate("test", epoch)
        elif len(data.parts["validation"]):
            run.outputs = run.outputs_of("validation")
    return _save(run, corpus, folder, epoch=epoch, notes=notes, start=start, save_published=save_published)


def _save(
    run: TrainingRun,
    corpus: Corpus,
    folder: Path,
    *,
    epoch: int,
    notes: Sequence[str],
    start: StartingPoint | None,
    save_published: bool,
) -> TrainedEncoder:
    """Write the encoders, the classifier and the figures."""
    rows = run.state.rows
    selected = [row for row in rows if row["part"] != "train" and row["epoch"] == epoch]
    figures = selected[-1] if selected else rows[-1]
    paths, published, heads = [], [], []
    if run.fabric.is_global_zero:
        for member in run.members:
            path = folder / f"encoder_{member.name}.pt"
            network = _network_of(run, member, corpus, figures=figures, start=start)
            paths.append(network.save(path))
            if save_published:
                published.append(write_published(network, rows, folder))
            if member.classifier is not None:
                heads.append(_head_of(member, path))
        _write_results(run, figures, epoch=epoch)
    classifier = None
    if heads:
        trained = SpeakerClassifier(
            tuple(heads), run.data.speakers, metrics=figures, training={"corpus": corpus.name, **run.settings.content()}
        )
        classifier = trained.save(folder / f"speaker_classifier_{corpus.name}.pt")
    failures = tuple(sorted(run.data.faults.items()))
    return TrainedEncoder(
        tuple(paths),
        classifier,
        rows,
        figures=figures,
        failures=failures,
        notes=tuple(notes),
        published=tuple(published),
    )


def _write_results(run: TrainingRun, figures: Record, *, epoch: int) -> None:
    """Write the figures of a finished run, and the confusion matrix or the DET curve of the part of the last row."""
    if run.outputs and math.isfinite(figures["accuracy"]):
        run.results.write_confusion(run.outputs[-1][1], run.evaluator)
    elif run.outputs and math.isfinite(figures["eer"]):
        run.results.write_det_curve(run.outputs, run.evaluator)
    run.results.write_figures(run.state.rows, selected_epoch=epoch, is_finished=True)


def _network_of(
    run: TrainingRun, member: Member, corpus: Corpus, *, figures: Record, start: StartingPoint | None
) -> TrainedNetwork:
    layer = member.classifier
    return TrainedNetwork(
        network=member.name,
        network_options=run.settings.options_of(member.name),
        front_end=run.settings.front_end,
        front_end_options=run.settings.front_end_options,
        window=run.settings.windows,
        tensors=_copied(member.model.network.state_dict()),
        classifier=None if layer is None else (layer.weight.detach().cpu().clone(), layer.bias.detach().cpu().clone()),
        speakers=run.data.speakers,
        corpora=tuple(dict.fromkeys([*(start.corpora if start else ()), corpus.name])),
        earlier_speakers=start.all_speakers if start else (),
        figures=figures,
        settings=run.settings.content(),
    )


def _head_of(member: Member, path: Path) -> FittedHead:
    """Return the layer that classified the training speakers as a head on the saved encoder."""
    layer = member.classifier
    assert layer is not None
    encoder = lazy_encoder("trained", path)
    head = create_head("linear").load_state_dict(_copied(layer.state_dict()), list(range(layer.out_features)))
    return FittedHead(
        scaler=create_scaler("none").fit(torch.zeros(1, layer.in_features)),
        head=head,
        name="linear",
        encoder=encoder.spec,
        crop=encoder.max_duration,
    )


def _copied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
