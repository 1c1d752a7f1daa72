"""Paths as users give them: one, or several."""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

PathLike = str | os.PathLike[str]


def as_paths(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """Return one path, or each of several paths, as a list of `Path`.

    A string is one path, not a sequence of one-letter paths.

    Examples
    --------
    >>> [path.name for path in as_paths("anna.wav")], [path.name for path in as_paths(["anna.wav", "ben.wav"])]
    (['anna.wav'], ['anna.wav', 'ben.wav'])
    """
    return [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]


def existing_path(path: Path) -> Path:
    """Return the path with the Unicode normal forms (NFC or NFD) that its names have on the disk.

    A list that was written on one system can have the other form of a name than the file. A path that exists is
    returned as it is given, and so is the rest of one that does not.
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        forms = [part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD"))]
        found /= next((each for each in forms if os.path.lexists(found / each)), part)
    return found
