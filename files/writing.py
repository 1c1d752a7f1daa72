"""Atomic writing of files: a reader sees the old file or the new one, never a partly written one."""

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from files.errors import OutputError
from files.file_kinds import describe_file
from files.paths import PathLike

UNKNOWN = "a file of an unknown kind"


def check_suffix(path: Path, *suffixes: str, flag: str = "output") -> str:
    """Refuse an output path with another suffix: it could be an existing file of another kind.

    Parameters
    ----------
    path : Path
    *suffixes : str
        Allowed suffixes, in lower case.
    flag : str
        Flag that gives the path, for the error message.

    Returns
    -------
    str
        The suffix of the path, in lower case.

    Raises
    ------
    OutputError
        The path does not end in one of the suffixes.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        listed = " or ".join(suffixes)
        raise OutputError(f"{path}: the output is a {listed} file; give --{flag} a name that ends in {listed}.")
    return suffix


def check_not_input(output: Path, inputs: Iterable[Path], flag: str = "output") -> None:
    """Refuse an output path that is one of the inputs, which would be lost.

    Links to a file, and other spellings of its path (in other cases, on some systems), are the same file.

    Raises
    ------
    OutputError
        The output is the same file as an input.
    """
    target = _target(output)
    if any(_is_same(target, path) for path in inputs):
        raise OutputError(f"{output}: this is an input, which the output would overwrite; give another --{flag}.")


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # one of them does not exist
        return False


def check_not_other_kind(output: Path, kind: str, flag: str = "output") -> None:
    """Refuse an output path that is an existing file of another kind, which would be lost.

    An empty file may be overwritten.

    Parameters
    ----------
    output : Path
    kind : str
        Kind of the files that may be overwritten, such as ``a speaker verifier``; text after a comma is left out.
    flag : str
        Flag that gives the path, for the error message.

    Raises
    ------
    OutputError
        The file exists, and `describe_file` does not recognise it as of this kind.
    """
    target, expected = _target(output), kind.partition(",")[0]
    if not target.exists() or (target.is_file() and not target.stat().st_size):
        return
    # A device or a pipe is not read.
    found = "a folder" if target.is_dir() else (describe_file(target) if target.is_file() else None) or UNKNOWN
    if found.partition(",")[0] != expected:
        advice = "if it is a damaged one, delete it; otherwise " if found == UNKNOWN else ""
        advice += f"give another --{flag}"
        raise OutputError(f"{output}: this is {found}. The output is {expected} and would overwrite it; {advice}.")


def _target(output: Path) -> Path:
    """Return the file that a path leads to, also if folders in it do not exist yet, as in ``new/../file``."""
    return Path(os.path.realpath(output))


def check_destination(path: Path) -> None:
    """Refuse a file that cannot be written, because of its name or its folder, without creating anything.

    Raises
    ------
    OutputError
        The name is not valid, or the folder is a file or cannot be made or written to.
    """
    folder = path.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise _not_writable(path.parent, os.strerror(errno.ENOTDIR))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _not_writable(path.parent, os.strerror(errno.EACCES))
    for part in (*path.parts[len(folder.parts) : -1], _temporary(path).name):
        try:
            os.lstat(folder / part)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:  # such as a name that is too long
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"{path}: a file cannot have this name ({reason}); give another name.") from error


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
        raise _not_writable(folder, str(reason)) from error


def _not_writable(folder: Path, reason: str) -> OutputError:
    return OutputError(
        f"{folder}: nothing can be written into this folder ({reason}). Check its permissions and the free disk space, "
        "or choose another place."
    )


def _temporary(path: Path) -> Path:
    """Return the file that is written first; it is in the same folder, because a rename never crosses disks."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


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
    temporary = _temporary(path)
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
