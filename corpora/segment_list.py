"""Read a list of segments and their labels, such as the ``data_fixed.csv`` of a published system."""

import csv
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath

from corpora.corpus import CorpusError
from corpora.scan import SUFFIXES
from files import (
    PathLike,
    count_of,
    is_missing,
    is_reserved,
    listing,
    normal_form,
    other_kind,
    read_text,
    table_rows,
)

FILE_KIND = "a list of segments (a CSV file with the columns path and label)"


def read_segment_list(path: PathLike) -> dict[str, str]:
    """Read a CSV file with the columns ``path`` and ``label``; others are ignored.

    Returns
    -------
    dict
        Name of each segment, which is the name of the file in ``path`` without folders and suffix, and its label.

    Raises
    ------
    CorpusError
        The file cannot be read, lacks a column or a label, or has two labels for a segment.
    """
    path = Path(path)
    try:
        rows = list(table_rows(read_text(path, FILE_KIND, CorpusError), ","))
    except csv.Error as error:
        raise CorpusError(f"{path}: this cannot be read as a CSV file ({error}).") from error
    header = [name.casefold() for name in rows[0][1]] if rows else []
    if not {"path", "label"} <= set(header):
        found = ",".join(header)[:200]
        raise CorpusError(
            other_kind(path, FILE_KIND) or f"{path}: its first line is {found!r}; expected the columns path,label."
        )
    labels: dict[str, str] = {}
    for line, cells in rows[1:]:
        values = dict(zip(header, cells, strict=False))
        name, label = _name_of(values.get("path", "")), normal_form(values.get("label", ""))
        if not (name and label):
            raise CorpusError(f"{path}, line {line}: the path or the label is empty; expected both.")
        if is_missing(label) or is_reserved(label):
            raise CorpusError(f"{path}, line {line}: {label!r} cannot be the name of a speaker; give another label.")
        if labels.setdefault(name, label) != label:
            raise CorpusError(
                f"{path}, line {line}: the segment {name} has the labels {labels[name]!r} and {label!r}; keep one."
            )
    return labels


def describe_missing(missing: Mapping[str, str]) -> list[str]:
    """Return sentences about the listed segments that were not found: name -> why."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in missing.items():
        by_reason.setdefault(reason, []).append(name)
    return [
        f"{count_of(len(names), 'listed segment')} missing ({reason}): {listing(names)}"
        for reason, names in by_reason.items()
    ]


def _name_of(path: str) -> str:
    """Return the name of a file without folders, of any system, and without the suffix of an audio file."""
    name = PureWindowsPath(path)  # it knows both separators
    return normal_form(name.stem if name.suffix.lower() in SUFFIXES else name.name)
