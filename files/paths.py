"""Paths as users give them: one, or several; and names that become parts of file names."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PathLike = str | os.PathLike[str]

# Maximum length of a name within the name of a file (bytes): file systems allow 255 for the whole.
MAX_NAME_BYTES = 150
# Bytes that a name keeps if it is longer; a digest follows.
KEPT_BYTES = 100


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


def is_utf8(path: PathLike) -> bool:
    """Return whether a path is valid UTF-8; libraries that do not open files by Python, such as torch, need that."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def is_file_name(name: Any) -> bool:
    """Return whether a name can be used in a file name, and cannot point outside the folder."""
    return isinstance(name, str) and bool(name) and not set(name) & set("/\\\0") and not name.startswith(".")


def safe_file_name(name: str) -> str:
    r"""Return a name that can be used in a file name: most names are returned as they are.

    Characters that are not allowed, and bytes that are not valid UTF-8, become ``_``. Dots at the beginning are
    removed, and a long name is cut off, with a digest at the end. If nothing is left, the result is empty.

    Examples
    --------
    >>> safe_file_name("calls"), safe_file_name(".calls"), safe_file_name("a/b\\c")
    ('calls', 'calls', 'a_b_c')
    """
    safe = re.sub("[/\\\\\0\ud800-\udfff]", "_", name).lstrip(".")
    encoded = safe.encode()
    if len(encoded) <= MAX_NAME_BYTES:
        return safe
    kept = encoded[:KEPT_BYTES].decode("utf-8", "ignore")
    return f"{kept}_{hashlib.sha256(encoded).hexdigest()[:8]}"
