"""Records: rows of a table as dicts, in CSV and JSON files."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from files.paths import PathLike
from files.writing import write_atomically

Record = dict[str, Any]


def write_csv(path: PathLike, records: Sequence[Record]) -> Path:
    """Write one or more records with the same keys to a CSV file, atomically; return the path.

    NaN, infinity and None become empty cells.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, list(records[0]))
    writer.writeheader()
    writer.writerows(without_nan(list(records)))
    # Names of speakers need not be valid UTF-8: their undecodable bytes are written unchanged.
    return write_atomically(path, lambda file: file.write(table.getvalue().encode("utf-8", "surrogateescape")))


def read_csv(path: Path) -> list[Record]:
    """Return the rows of a CSV file of `write_csv`, all values as strings; no rows if the file does not exist."""
    if not path.is_file():
        return []
    # Names may have any character, as `write_csv` writes them; a program that saved the file may add a byte-order mark.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def write_json(path: PathLike, content: Record) -> Path:
    """Write a dict to a JSON file, atomically; NaN and infinity become null. Return the path.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    text = json.dumps(without_nan(content), indent=2, allow_nan=False)
    return write_atomically(path, lambda file: file.write(text.encode()))


def without_nan(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by None, in dicts and lists of any depth."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
