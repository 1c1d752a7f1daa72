"""Files of tensors and plain values: nothing that is loaded can run code."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from files.errors import InputError
from files.file_kinds import other_kind
from files.paths import is_utf8
from files.writing import write_atomically

Loaded = TypeVar("Loaded")
# Makes an object from the content of a file and its path. It may raise any error on content that does not fit.
FormatReader = Callable[[dict[str, Any], Path], Loaded]


def write_tensors(path: Path, content: dict[str, Any]) -> Path:
    """Write a dict of tensors, numbers, strings, lists and dicts as a ``.pt`` file, atomically; return the path.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    import torch

    return write_atomically(path, lambda file: torch.save(content, file))


def tensors_to_bytes(content: dict[str, Any]) -> bytes:
    """Return the content of the file that `write_tensors` would write."""
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def load_tensors(path: Path, kind: str, error_class: type[InputError], *, advice: str = "") -> dict[str, Any]:
    """Load a ``.pt`` file that holds a dict.

    The file is memory-mapped if its format allows that. It is opened with ``weights_only=True``, so it can hold only
    tensors and plain values, and no code.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        What kind of file is expected, for the error message.
    error_class : type
        Error to raise.
    advice : str
        Sentence with the next step for the user, if the file is damaged.

    Raises
    ------
    InputError
        The file does not exist, or it is of another kind.
    """
    if not path.is_file():
        raise error_class(f"{path}: {'this is a folder' if path.is_dir() else 'no such file'}. Expected {kind}.")
    # The format of torch before 1.6 cannot be mapped, Windows cannot replace a mapped file, and torch maps only files
    # whose paths are valid UTF-8.
    mmap = zipfile.is_zipfile(path) and os.name != "nt" and is_utf8(path)
    with _recognised(path, kind, error_class=error_class):
        return _load(path, path, kind=kind, error_class=error_class, mmap=mmap, advice=advice)


def tensors_from_bytes(data: bytes, path: Path, kind: str, *, error_class: type[InputError]) -> dict[str, Any]:
    """Load the bytes of a ``.pt`` file that was stored in the file `path`, with the same checks as `load_tensors`."""
    return _load(io.BytesIO(data), path, kind=kind, error_class=error_class, mmap=False)


def load_checked(
    path: Path, readers: Mapping[int, FormatReader[Loaded]], *, kind: str, error_class: type[InputError], advice: str
) -> Loaded:
    """Load a ``.pt`` file whose ``format`` this version can read.

    Parameters
    ----------
    path : Path
        The file.
    readers : mapping
        Format number -> function that makes an object from the content and the path. A newer version keeps the readers
        of older formats, so that an update loses no results.
    kind : str
        What kind of file is expected, for the error message.
    error_class : type
        Error to raise.
    advice : str
        Sentence with the next step for the user, if the file cannot be used.

    Raises
    ------
    InputError
        The file does not exist, is of another kind or format, or is damaged.
    """
    content = load_tensors(path, kind, error_class, advice=advice)
    return read_checked(content, path, readers, kind=kind, error_class=error_class, advice=advice)


def read_checked(
    content: dict[str, Any],
    path: Path,
    readers: Mapping[int, FormatReader[Loaded]],
    *,
    kind: str,
    error_class: type[InputError],
    advice: str,
) -> Loaded:
    """Make an object from the content of a loaded file; parameters and errors are those of `load_checked`."""
    with _recognised(path, kind, error_class=error_class, content=content):
        return _read(content, path, readers, kind=kind, error_class=error_class, advice=advice)


def _read(
    content: dict[str, Any],
    path: Path,
    readers: Mapping[int, FormatReader[Loaded]],
    *,
    kind: str,
    error_class: type[InputError],
    advice: str,
) -> Loaded:
    number = content.get("format")
    if type(number) is not int or number not in readers:
        if type(number) is int and number > max(readers):
            raise error_class(
                f"{path}: its format is {number}, but this version of Voxprobe reads up to {max(readers)}. Update "
                f"Voxprobe, or {advice[:1].lower()}{advice[1:]}"
            )
        known = ", ".join(map(str, readers))
        found = f"its format is {number!r}" if "format" in content else "it has no format number"
        raise error_class(f"{path}: this is not {kind} of format {known}; {found}. {advice}")
    try:
        return readers[number](content, path)
    except error_class:
        raise
    except Exception as error:  # values of a damaged file can have any type
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise error_class(f"{path}: this is not {kind}, or it is damaged ({_first_line(reason)}). {advice}") from error


@contextmanager
def _recognised(
    path: Path, kind: str, *, error_class: type[InputError], content: dict[str, Any] | None = None
) -> Iterator[None]:
    """Replace the error about a file of another known kind by a sentence that says what the file is."""
    try:
        yield
    except error_class as error:
        sentence = other_kind(path, kind, content)
        if sentence is None:
            raise
        raise error_class(sentence) from error


def _load(
    source: Path | BinaryIO,
    path: Path,
    *,
    kind: str,
    error_class: type[InputError],
    mmap: bool,
    advice: str = "",
) -> dict[str, Any]:
    import torch

    try:
        content = torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise error_class(
            f"{path}: this is not {kind}. It was not written by torch.save, or it holds more than tensors and plain "
            "values; such a file is never loaded, because it could run code."
        ) from error
    except PermissionError as error:
        raise error_class(f"{path}: this cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # on arbitrary bytes, the unpickler can raise any error
        reason = _first_line(str(error) or type(error).__name__)
        raise error_class(f"{path}: this is not {kind}, or it is cut off ({reason}). {advice}".rstrip()) from error
    if not isinstance(content, dict):
        raise error_class(f"{path}: this is not {kind}; it holds a {type(content).__name__}, expected a dict.")
    return content


def _first_line(text: str) -> str:
    return (text.splitlines() or [""])[0][:120]
