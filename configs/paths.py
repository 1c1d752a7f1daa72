"""Marks of the settings that name files: what a command reads, and what it writes.

Each setting with a path has one of these marks. `use_existing_forms` finds the files whose names have another Unicode
form on the disk, and `check_outputs` refuses outputs that would destroy a file, before any work is done.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from files import (
    check_destination,
    check_not_input,
    check_not_other_kind,
    check_suffix,
    existing_path,
    file_kinds,
)


@dataclass(frozen=True)
class Reads:
    """Mark of a file or folder that is read, and never changed."""


@dataclass(frozen=True)
class Continues:
    """Mark of a file that is completed if it exists, such as a store; its reader refuses files of other kinds."""


@dataclass(frozen=True)
class Writes:
    """Mark of a file that is written.

    Attributes
    ----------
    kinds : mapping
        Kind of the file by the suffix of its name; the suffix ``""`` stands for all.
    beside : mapping
        For the suffix of the file, kinds of the files that are written beside it, by their suffixes.
    """

    kinds: Mapping[str, str] = field(hash=False)
    beside: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class WritesInto:
    """Mark of a folder that files are written into.

    Attributes
    ----------
    kinds : mapping
        Kind of each file by its name, in which ``{corpus}`` is the name of the corpus, and ``*`` any characters.
    only_with : mapping
        For a file that is not always written, the setting that it is written with, by the name of the file.
    """

    kinds: Mapping[str, str] = field(hash=False)
    only_with: Mapping[str, str] = field(default_factory=dict, hash=False)


Mark = Reads | Continues | Writes | WritesInto


def _pictures(*names: str) -> dict[str, str]:
    return {f"{name}.{form}": file_kinds.PICTURE for name in names for form in ("png", "pdf", "svg")}


# Files of a report, and of the tables that are printed.
_REPORT = {"report.html": file_kinds.REPORT, "table.md": file_kinds.TABLE, "table.tex": file_kinds.TABLE}
_HEAD_PICTURES = _pictures(
    "head_accuracies", "confusion", "speakers", "calibration", "learning_curves", "embedding_map", "layer_curve*"
)
_TRIAL_PICTURES = _pictures("det_curve", "score_histogram")
_TRAINING_PICTURES = _pictures(
    "training_curves", "training_speakers", "training_counts", "training_audio", "confusion", "det_curve"
)

COMPARISON_FILES = {
    **dict.fromkeys(
        ("metrics.json", "metrics.csv", "per_speaker.csv", "confusion.csv", "answers.csv", "embedding_map.csv"),
        file_kinds.RESULTS,
    ),
    **_REPORT,
    **_HEAD_PICTURES,
    "speaker_classifier_{corpus}.pt": file_kinds.CLASSIFIER,
    "{corpus}_scaler.pt": file_kinds.SCALER,
}
EVALUATION_FILES = {
    **dict.fromkeys(
        ("metrics.json", "metrics.csv", "det_curve.csv", "score_histogram.csv"), file_kinds.VERIFICATION_RESULTS
    ),
    **_REPORT,
    **_TRIAL_PICTURES,
    "trials.txt": file_kinds.TRIALS,
}
TRAINING_FILES = {
    **dict.fromkeys(
        (
            "metrics.json",
            "metrics.csv",
            "sessions.csv",
            "det_curve.csv",
            "training_speakers.csv",
            "training_histograms.csv",
        ),
        file_kinds.TRAINING_RESULTS,
    ),
    "confusion.csv": file_kinds.RESULTS,
    **_REPORT,
    **_TRAINING_PICTURES,
    "training.ckpt": file_kinds.TRAINING,
    "encoder_*.pt": file_kinds.TRAINED,
    "published_*.pt": file_kinds.WEIGHTS,
    "speaker_classifier_{corpus}.pt": file_kinds.CLASSIFIER,
}
SEGMENTS_FILES = {"manifest.csv": file_kinds.SEGMENTS, "segments.csv": file_kinds.CUTS}
DESCRIPTION_FILES = {
    **dict.fromkeys(("corpus.csv", "corpus.json"), file_kinds.DESCRIPTION),
    "corpus.html": file_kinds.REPORT,
    **_pictures("corpus_speakers", "corpus_counts", "corpus_durations"),
}
REPORT_FILES = {**_REPORT, **_HEAD_PICTURES, **_TRIAL_PICTURES, **_TRAINING_PICTURES}
ONNX_FILES = {".onnx": file_kinds.ONNX}
TURNS_FILES = {".csv": file_kinds.TURNS, ".html": file_kinds.REPORT}  # beside an RTTM file
PREDICTIONS_FILES = {".csv": file_kinds.PREDICTIONS, ".json": file_kinds.PREDICTIONS}


def check_outputs(config: Any, **names: str) -> None:
    """Refuse outputs that would destroy a file, or that cannot be written; nothing is created.

    Parameters
    ----------
    config : ScriptConfig
    **names : str
        Names that are known by now, such as that of the corpus. Files whose names need others are not checked.

    Raises
    ------
    OutputError
        An output is an input, or an existing file that this command does not write, or cannot be written.
    """
    inputs = [path for _, _, path in _marked(config, Reads, Continues)]
    for flag, mark, path in _marked(config, Continues, Writes, WritesInto):
        if isinstance(mark, Continues):
            if not os.path.lexists(path):
                check_destination(path)
            check_not_input(path, [read for _, _, read in _marked(config, Reads)], flag)
        files = {}
        if isinstance(mark, Writes):
            suffix = "" if "" in mark.kinds else check_suffix(path, *mark.kinds, flag=flag)
            files = {path: mark.kinds[suffix]}
            files |= {path.with_suffix(other): kind for other, kind in mark.beside.get(suffix, {}).items()}
        elif isinstance(mark, WritesInto):
            written = {
                name: kind
                for name, kind in mark.kinds.items()
                if name not in mark.only_with or getattr(config, mark.only_with[name]) is not None
            }
            files = _files_in(path, written, names)
        for file, kind in files.items():
            check_destination(file)
            check_not_input(file, inputs, flag)
            check_not_other_kind(file, kind, flag)


def use_existing_forms(config: Any) -> None:
    """Change the paths of the settings to the Unicode forms that their names have on the disk, as `existing_path` does.

    Other spellings of a path are not changed, and neither are texts that name no file, such as ids of a hub.
    """
    for name, annotation in get_type_hints(type(config), include_extras=True).items():
        value = getattr(config, name)
        if marks_of(annotation) and not str(value).isascii():
            found = tuple(map(_existing, value)) if isinstance(value, tuple) else _existing(value)
            object.__setattr__(config, name, found)


def _existing(given: Path | str) -> Path | str:
    found = existing_path(Path(given))
    if isinstance(given, Path):
        return found
    return given if found == Path(given) else str(found)


def _files_in(folder: Path, kinds: Mapping[str, str], names: Mapping[str, str]) -> dict[Path, str]:
    """Return the files that may be written into a folder, with their kinds."""
    files = {}
    for pattern, kind in kinds.items():
        if "*" in pattern:
            files.update(dict.fromkeys(folder.glob(pattern), kind))
        elif "{" not in pattern or names:
            files[folder / pattern.format(**names)] = kind
    return files


def _marked(config: Any, *marks: type[Mark]) -> Iterator[tuple[str, Mark, Path]]:
    """Yield the name of each setting with one of the marks, its mark, and each of its paths."""
    for name, annotation in get_type_hints(type(config), include_extras=True).items():
        value = getattr(config, name)
        for mark in marks_of(annotation):
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(mark, marks) and each is not None:
                    yield name, mark, Path(each)


def marks_of(annotation: Any) -> list[Mark]:
    """Return the marks within a type annotation."""
    own = [mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Mark)]
    return own + [mark for part in get_args(annotation) for mark in marks_of(part)]
