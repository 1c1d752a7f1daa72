"""The verb of this room: train networks on a corpus, and save them as encoders."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from corpora import Corpus
from encoders import Pretrained, resolve_device
from features import locked
from files import PathLike, check_writable, require
from networks import create_front_end
from training.data import TrainingData, measure, warn_of_single_utterances
from training.data_charts import describe_parts, part_records, write_data_charts
from training.fine_tuning import check_crops, find_pretrained
from training.part_problems import missing_speakers, part_problems
from training.processes import create_fabric, default_workers, end_together
from training.published_form import check_publishable
from training.run_results import RunResults
from training.save_run import TrainedEncoder, save_run
from training.session_folders import SESSIONS
from training.settings import TrainingError, TrainingSettings, with_faults
from training.split_parts import split_parts
from training.starting_point import StartingPoint
from training.training_run import CHECKPOINT, TrainingRun

logger = logging.getLogger(__name__)


def train_encoder(
    corpus: Corpus,
    network: str | Sequence[str] = "conv1d",
    objective: str = "classification",
    *,
    split_by: str = "utterance",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    start_from: PathLike | None = None,
    init_weights: PathLike | None = None,
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
    init_weights : path-like, optional
        Pretrained weights of ``wav2vec2`` or ``campplus``, as `Pretrained.find` takes them.
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
    given = TrainingSettings(networks=networks, objective=objective, **settings)
    chosen, pretrained, start = resolve_settings(given, start_from=start_from, init_weights=init_weights, device=device)
    front_end = create_front_end(chosen.front_end, **chosen.front_end_options)
    min_frames = check_crops(chosen, front_end)
    if start is not None:
        start.check(chosen, front_end.n_features)
    if save_published:
        check_publishable(chosen)
    folder = Path(output_dir)
    _check_folder(folder)
    fabric = create_fabric(device, chosen.precision)
    progress = progress and fabric.is_global_zero
    utterances, n_samples, faults = measure(
        corpus, front_end.sample_rate, min_samples=front_end.min_samples(min_frames), progress=progress
    )
    with with_faults(faults):
        parts = split_parts(Corpus(utterances, corpus.root, corpus.name), split_by, fractions, seed=chosen.seed)
    data = TrainingData(
        utterances,
        n_samples,
        dict(zip(("train", "validation", "test"), parts, strict=True)),
        sample_rate=front_end.sample_rate,
        hop=front_end.hop,
        unpadded=front_end.unpadded,
        faults=faults,
    )
    if chosen.objective == "triplet":
        warn_of_single_utterances(utterances, parts[0])
    notes = [*part_problems(data, chosen.objective), *(start.leaks(data) if start is not None else ())]
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
    lock = locked(folder / f"{CHECKPOINT}.lock", flag="output_dir") if fabric.is_global_zero else nullcontext()
    with end_together(fabric.world_size), with_faults(faults), lock:
        run = TrainingRun(
            chosen,
            data,
            front_end,
            fabric=fabric,
            output_dir=folder,
            results=RunResults(folder, about, data.faults),
            num_workers=default_workers() if num_workers == "auto" else num_workers,
            pretrained=pretrained,
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
        return save_run(run, corpus, folder, epoch=epoch, notes=notes, start=start, save_published=save_published)


def _check_folder(folder: Path) -> None:
    """Make the output folder; refuse one that holds a training for each session."""
    if (folder / SESSIONS).exists():
        raise TrainingError(f"{folder}: this folder holds results of --per_session; give another --output_dir.")
    check_writable(folder)


def resolve_settings(
    given: TrainingSettings,
    *,
    start_from: PathLike | None = None,
    init_weights: PathLike | None = None,
    device: str = "auto",
) -> tuple[TrainingSettings, Pretrained | None, StartingPoint | None]:
    """Return the settings that identify a run, its pretrained weights, and the trained weights that it starts from.

    Parameters
    ----------
    given : TrainingSettings
    start_from, init_weights, device
        As in `train_encoder`.

    Raises
    ------
    InputError
        The settings do not fit, or weights are not found.
    """
    pretrained = find_pretrained(given.networks, init_weights, start_from)
    chosen = given.resolve(resolve_device(device).type, pretrained)
    if start_from is None:
        return chosen, pretrained, None
    start = StartingPoint.load(Path(start_from))
    return replace(chosen, start_from=start.digest), pretrained, start
