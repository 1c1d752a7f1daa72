"""One writer at a time: locks that end with their process."""

import contextlib
import errno
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from features.files import OutputError

try:
    import fcntl
except ImportError:  # Windows: there one has to take care oneself
    fcntl = None  # type: ignore[assignment]


# Seconds that one who shares waits for another to look whether it is the last.
PATIENCE = 2.0


class LockedError(OutputError):
    """Another process is writing there."""


# What this process holds.
_held: set[Path] = set()
_guard = threading.Lock()


@contextlib.contextmanager
def locked(path: Path, shared: bool = False) -> Iterator[None]:
    """Hold a lock file while the body runs.

    The system ends a lock with the process that holds it, whatever ended that: a file that was left behind locks
    nothing. Between machines it works where the network file system has locks (NFS, Lustre with ``flock``).

    Parameters
    ----------
    path : Path
        The lock file; it is removed at the end.
    shared : bool
        Let others hold it too who share it.

    Raises
    ------
    LockedError
        It is held; the sentence names the process and its machine.
    OutputError
        The file cannot be made.
    """
    if fcntl is None:
        yield
        return
    with _guard:
        if path.absolute() in _held:  # the system's locks are of processes: to their threads they say nothing
            raise LockedError(f"{path.with_suffix('')}: this process is writing there already, in another thread.")
        descriptor = _acquire(path, shared)
        _held.add(path.absolute())
    own = f"process {os.getpid()} on {socket.gethostname()}"
    with contextlib.suppress(OSError):  # a full disk: the lock holds without its owner's name
        _write(descriptor, [*filter(_may_live, _owners(descriptor)), own] if shared else [own])
    try:
        yield
    finally:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of those who share, the last one clears up
            path.unlink(missing_ok=True)
        except OSError:
            with contextlib.suppress(OSError):
                _write(descriptor, [owner for owner in _owners(descriptor) if owner != own])
        os.close(descriptor)
        with _guard:  # last: closing the file lets go of any lock that this process has on it
            _held.discard(path.absolute())


def _owners(descriptor: int) -> list[str]:
    return os.pread(descriptor, 10_000, 0).decode(errors="replace").splitlines()


def _write(descriptor: int, owners: list[str]) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, "".join(f"{owner}\n" for owner in owners).encode(), 0)


def _may_live(owner: str) -> bool:
    """Tell whether a process, as a lock file names it, is alive or on another machine."""
    found = re.fullmatch(r"process (\d+) on (.*)", owner)
    if found is None or found[2] != socket.gethostname():
        return found is not None
    try:
        os.kill(int(found[1]), 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def _acquire(path: Path, shared: bool) -> int:
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    # One that shares and lets go looks for a moment whether it is the last.
    until = time.monotonic() + (PATIENCE if shared else 0.0)
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # its folder was just removed, being empty
            continue
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be made ({error.strerror or error}). Check the folder's rights and the disk's free "
                "space, or choose another place."
            ) from error
        try:
            fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            owner = ", ".join(_owners(descriptor)) or "another process"
            os.close(descriptor)
            if time.monotonic() < until:
                time.sleep(0.02)
                continue
            raise LockedError(
                f"{path.with_suffix('')}: {owner} is writing there. Wait until that is done, end it, or give another "
                "--features_path."
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise OutputError(
                f"{path}: this file system has no locks ({error.strerror}); choose a folder on another."
            ) from error
        try:
            same = os.path.samestat(os.fstat(descriptor), os.stat(path))
        except FileNotFoundError:
            same = False
        if same:
            return descriptor
        os.close(descriptor)  # its last owner has just removed it
