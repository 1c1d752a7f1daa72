"""The checkpoint from which an interrupted training run continues."""

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from files import FormatReader, load_checked, write_tensors
from training.data import PARTS, TrainingData
from training.settings import TrainingError, TrainingSettings

FORMAT = 1
FILE_KIND = "a checkpoint of train_encoder.py"
# Key of the digest of the utterances and of their parts.
UTTERANCES = "corpus"
# Settings that change no weight: a run may continue with others.
FREE = {"gradient_checkpointing"}
# Settings that checkpoints of earlier versions do not have: their values were these.
NEW_DEFAULTS = {each.name: each.default for each in fields(TrainingSettings) if each.default is not MISSING}


def save_checkpoint(path: Path, content: dict[str, Any]) -> Path:
    """Write a checkpoint atomically: a full disk leaves the last one.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    return write_tensors(path, {"format": FORMAT, **content})


def load_checkpoint(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Read a checkpoint of the same training run.

    Parameters
    ----------
    path : Path
        The checkpoint.
    identity : dict
        What `identity_of` returned for this run.

    Raises
    ------
    TrainingError
        The file is no checkpoint, or one of another run; the message lists the differences.
    """
    content = load_checked(path, READERS, kind=FILE_KIND, error_class=TrainingError, advice="Delete it to begin again.")
    check_same_run(path.parent, content["identity"], identity)
    return content


def check_same_run(folder: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuse a folder with a training run that has other settings or utterances.

    Parameters
    ----------
    folder : Path
    found, expected : dict
        Settings of the run in the folder, and those of this run.

    Raises
    ------
    TrainingError
        They differ; the message lists the differences.
    """
    found = {**NEW_DEFAULTS, **found}
    differences = [
        f"{name} was {found.get(name)!r}, now it is {expected.get(name)!r}"
        for name in sorted((found.keys() | expected.keys()) - {UTTERANCES} - FREE)
        if found.get(name) != expected.get(name)
    ]
    if found.get(UTTERANCES) != expected.get(UTTERANCES):
        differences.append("the utterances of the corpus, or their assignment to the parts, are others")
    if differences:
        raise TrainingError(
            f"{folder}: this folder holds a training run with other settings: {'; '.join(differences)}. Give the same "
            "settings to continue it, give another --output_dir, or delete its training.ckpt and metrics.json to train "
            "again."
        )


def identity_of(settings: TrainingSettings, data: TrainingData, dropouts: Mapping[str, float]) -> dict[str, Any]:
    """Return what makes a training run the same: its settings, and a digest of its utterances and parts.

    Parameters
    ----------
    settings : TrainingSettings
    data : TrainingData
    dropouts : mapping
        Dropout probabilities that follow from the pretrained weights.
    """
    lines = [
        f"{part} {data.utterances[row].id} {data.utterances[row].speaker}"
        for part in PARTS
        for row in data.parts[part].tolist()
    ]
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
    return {**settings.content(), **dropouts, UTTERANCES: digest[:16]}


def _read_format_1(content: dict[str, Any], path: Path) -> dict[str, Any]:
    for name in ("identity", "epoch", "step", "members", "rows", "sums", "best", "precision", "faults"):
        if name not in content:
            raise ValueError(f"it has no {name!r}")
    return content


# Readers by format.
READERS: dict[int, FormatReader[dict[str, Any]]] = {1: _read_format_1}
