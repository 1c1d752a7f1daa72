"""A temporary folder for files that nobody else may read, and that no process leaves behind."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no POSIX locks
    fcntl = None  # type: ignore[assignment]

# Name of the file whose lock says that the process of the folder is still running.
LOCK_NAME = ".lock"


@contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """Make a temporary folder that only this user can read, and delete it at the end of the context.

    Folders with the same prefix that processes of this user left because they were killed are deleted too. (On Windows
    they stay.)

    Parameters
    ----------
    prefix : str
        Beginning of the folder's name.

    Yields
    ------
    Path
        The folder, without symbolic links in its path.
    """
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{prefix}*"):
        _delete_if_left(left)
    folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
    try:
        with (folder / f"{LOCK_NAME}.new").open("w") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Other processes look for a lock of this name, which is held from the moment at which it exists.
                (folder / f"{LOCK_NAME}.new").rename(folder / LOCK_NAME)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _delete_if_left(folder: Path) -> None:
    """Delete the folder of another process, unless the process still holds its lock."""
    if fcntl is None:
        return
    with suppress(OSError), (folder / LOCK_NAME).open("r+") as lock:
        if os.stat(folder).st_uid == os.getuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
