"""Atomic writing of files: a reader sees the old file or the new one, never a partly written one."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from files.errors import OutputError
from files.file_kinds import describe_file
from files.paths import PathLike


def check_suffix(path: Path, suffix: str) -> None:
    """Refuse an output path with another suffix: it could be an existing file of another kind.

    Raises
    ------
    OutputError
        The path does not end in `suffix`.
    """
    if path.suffix.lower() != suffix:
        raise OutputError(f"{path}: the output is a {suffix} file; give --output a name that ends in {suffix}.")


def check_not_input(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output path that is one of the inputs, which would be lost.

    Raises
    ------
    OutputError
        The output is the same file as an input.
    """
    if output.resolve() in {path.resolve() for path in inputs}:
        raise OutputError(f"{output}: this is an input, which the output would overwrite; give --output another name.")


def check_not_other_kind(output: Path, kind: str) -> None:
    """Refuse an output path that is an existing file of another kind, which would be lost.

    Parameters
    ----------
    output : Path
    kind : str
        Kind of the files that may be overwritten, such as ``a speaker verifier``.

    Raises
    ------
    OutputError
        The file exists, and `describe_file` does not recognise it as of this kind.
    """
    if not output.exists():
        return
    found = describe_file(output) or ("a folder" if output.is_dir() else "a file of an unknown kind")
    if found.partition(",")[0] != kind:
        raise OutputError(
            f"{output}: this is {found}. The output is {kind} and would overwrite it; give --output another name."
        )


def check_writable(folder: Path) -> None:
    """Make a folder if it does not exist, and check that files can be written there, before a long computation.

    Raises
    ------
    OutputError
        Files cannot be written into the folder.
    """
    try:
        write_atomically(folder / f".voxprobe_write_test.{os.getpid()}", lambda file: None).unlink(missing_ok=True)
    except OutputError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.__cause__
        raise OutputError(
            f"{folder}: nothing can be written into this folder ({reason}). Check its permissions and the free disk "
            "space, or choose another place."
        ) from error


def write_atomically(path: PathLike, write: Callable[[BinaryIO], Any]) -> Path:
    """Write a file atomically and return its path; an interrupted or failed write leaves the old file.

    Parameters
    ----------
    path : path-like
        The file; its folder is made if it does not exist.
    write : callable
        Receives the open binary file.

    Raises
    ------
    OutputError
        The folder cannot be made or written to, or the disk is full.
    """
    path = Path(path)
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
            f"{path}: cannot be written ({error.strerror or error}). Check the permissions of the folder and the free "
            "disk space, or choose another place."
        ) from error
    return path
