"""Read and write files whole: nothing loaded can run code, nothing written is ever seen half."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from audio import InputError


class OutputError(InputError):
    """A file or folder cannot be written."""


def check_writable(folder: Path) -> None:
    """Make a folder if need be, and say now, not after an hour of work, if nothing can be written there."""
    try:
        write_atomically(folder / f".voxprobe_write_test.{os.getpid()}", lambda file: None).unlink(missing_ok=True)
    except OutputError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.__cause__
        raise OutputError(
            f"{folder}: nothing can be written into this folder ({reason}). Check its rights and the disk's free "
            "space, or choose another place."
        ) from error


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> Path:
    """Write a file so that others see the old one or the new one, whatever happens in between.

    Parameters
    ----------
    path : Path
        The file; its folder is made.
    write : callable
        Is given the open binary file.

    Raises
    ------
    OutputError
        The folder cannot be made or written to, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # the same folder: a rename never crosses disks
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}). Check the folder's rights and the disk's free "
            "space, or choose another place."
        ) from error
    return path


def write_tensors(path: Path, content: dict[str, Any]) -> Path:
    """Write a dict of tensors, numbers, strings, lists and dicts as a ``.pt`` file, atomically."""
    return write_atomically(path, lambda file: torch.save(content, file))


def load_tensors(path: Path, what: str, error_class: type[InputError]) -> dict[str, Any]:
    """Load a ``.pt`` file that holds a dict.

    It is opened as a memory map where its format allows that, and with ``weights_only=True``: it can hold tensors and
    plain values, and nothing that runs.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it is expected to be, for the error's sentence.
    error_class : type
        The error to raise.
    """
    if not path.is_file():
        raise error_class(f"{path}: {'this is a folder' if path.is_dir() else 'no such file'}. Expected {what}.")
    # The format of before torch 1.6 cannot be mapped, and Windows cannot replace a file that is.
    mmap = zipfile.is_zipfile(path) and os.name != "nt"
    return _load(path, mmap, path, what, error_class)


def tensors_to_bytes(content: dict[str, Any]) -> bytes:
    """Return what `write_tensors` would write."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def tensors_from_bytes(data: bytes, path: Path, what: str, error_class: type[InputError]) -> dict[str, Any]:
    """Load bytes that were found in a file, as `load_tensors` loads a file."""
    return _load(io.BytesIO(data), False, path, what, error_class)


def _load(source: Path | BinaryIO, mmap: bool, path: Path, what: str, error_class: type[InputError]) -> dict[str, Any]:
    try:
        content = torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise error_class(
            f"{path}: this is not {what}. It is no file of torch.save, or holds more than tensors and plain values, "
            "which is never loaded because it could run code."
        ) from error
    except PermissionError as error:
        raise error_class(f"{path}: this cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # from other bytes than torch.save's the unpickler raises just about anything
        raise error_class(f"{path}: this is not {what}, or it is cut off ({_first_line(error)}).") from error
    if not isinstance(content, dict):
        raise error_class(f"{path}: this is not {what}; it holds a {type(content).__name__}, expected a dict.")
    return content


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
