"""Paths as users give them: one, or several."""

import os
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
