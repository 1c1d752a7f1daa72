"""Lock files: one process at a time writes to a features file, and a lock ends with its process."""

import contextlib
import errno
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from files import OutputError

try:
    import fcntl
except ImportError:  # Windows has no POSIX locks; there, the user has to start one run at a time
    fcntl = None  # type: ignore[assignment]


# Seconds for which a shared lock is tried again: a process that releases its share holds all of the lock for a moment.
MAX_WAIT_FOR_SHARE = 2.0
# Seconds between two tries.
RETRY_INTERVAL = 0.02


class LockedError(OutputError):
    """Another process is writing to the file."""


# Lock files that this process holds.
_held: set[Path] = set()
_guard = threading.Lock()


@contextlib.contextmanager
def locked(path: Path, shared: bool = False, *, flag: str = "features_path") -> Iterator[None]:
    """Hold a lock file while the body runs.

    The system releases the lock when the process ends, even if it is killed, so a lock file that was left behind blocks
    no other process. Between machines this works if the network file system supports locks (NFS, Lustre with
    ``flock``).

    Parameters
    ----------
    path : Path
        The lock file; it is removed at the end.
    shared : bool
        Whether other processes may hold the lock at the same time, if they share it too.
    flag : str
        Flag that gives another place, for the error message.

    Raises
    ------
    LockedError
        Another process or thread holds the lock; the message names the process and its machine.
    OutputError
        The lock file cannot be created.
    """
    if fcntl is None:
        yield
        return
    with _guard:
        if path.absolute() in _held:  # the system's locks belong to processes, and do not exclude threads of one
            raise LockedError(f"{path.with_suffix('')}: another thread of this process is writing there.")
        descriptor = _acquire(path, shared, flag)
        _held.add(path.absolute())
    own = f"process {os.getpid()} on {socket.gethostname()}"
    with contextlib.suppress(OSError):  # on a full disk, the lock holds without the name of its owner
        others = [owner for owner in _read_owners(descriptor) if _may_be_alive(owner)] if shared else []
        _write_owners(descriptor, [*others, own])
    try:
        yield
    finally:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # succeeds if no other process shares the lock
            path.unlink(missing_ok=True)
        except OSError:
            with contextlib.suppress(OSError):
                _write_owners(descriptor, [owner for owner in _read_owners(descriptor) if owner != own])
        os.close(descriptor)
        with _guard:  # last, because closing a file releases all locks that this process has on it
            _held.discard(path.absolute())


def _read_owners(descriptor: int) -> list[str]:
    return os.pread(descriptor, 10_000, 0).decode(errors="replace").splitlines()


def _write_owners(descriptor: int, owners: list[str]) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, "".join(f"{owner}\n" for owner in owners).encode(), 0)


def _may_be_alive(owner: str) -> bool:
    """Return whether a process that a lock file names is alive, or on another machine."""
    found = re.fullmatch(r"process (\d+) on (.*)", owner)
    if found is None:
        return False
    if found[2] != socket.gethostname():
        return True
    try:
        os.kill(int(found[1]), 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def _acquire(path: Path, shared: bool, flag: str) -> int:
    """Open and lock the lock file; return its descriptor."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    deadline = time.monotonic() + (MAX_WAIT_FOR_SHARE if shared else 0.0)
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # another process has just removed the folder, because it was empty
            continue
        except OSError as error:
            raise OutputError(
                f"{path}: the lock file cannot be created ({error.strerror or error}). Check the permissions of the "
                "folder and the free space of the disk, or choose another folder."
            ) from error
        try:
            fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            owner = ", ".join(_read_owners(descriptor)) or "another process"
            os.close(descriptor)
            if time.monotonic() < deadline:
                time.sleep(RETRY_INTERVAL)
                continue
            raise LockedError(
                f"{path.with_suffix('')}: {owner} is writing there. Wait until it has finished, end it, or give "
                f"another --{flag}."
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise OutputError(
                f"{path}: this file system does not support locks ({error.strerror}). Choose a folder on another one."
            ) from error
        try:
            is_current = os.path.samestat(os.fstat(descriptor), os.stat(path))
        except FileNotFoundError:
            is_current = False
        if is_current:
            return descriptor
        os.close(descriptor)  # its last owner removed the file after it was opened here
