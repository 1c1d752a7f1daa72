"""`Uploads`: the recordings that browsers send, in a private folder, each deleted when the call that uses it ends."""

import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# An upload that no call uses is deleted after this time (seconds).
MAX_AGE = 900.0
# How often such uploads are searched for (seconds).
INTERVAL = 30.0
PREFIX, LOCK = "voxprobe_page_", ".lock"


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a temporary folder for uploads that only this user can read, and delete it at the end.

    Folders that earlier processes left because they were killed are deleted too.
    """
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{PREFIX}*"):
        _delete_if_left(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    try:
        with (folder / LOCK).open("w") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _delete_if_left(folder: Path) -> None:
    """Delete the folder of another process, unless the process still holds its lock."""
    if fcntl is None:
        return
    with suppress(OSError), (folder / LOCK).open("r+") as lock:
        if os.stat(folder).st_uid == os.getuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


class Uploads:
    """The uploaded files in a folder, and how many calls may still use each.

    Gradio names the folder of an uploaded file by its content, so that two browsers that send the same recording share
    one file. It is deleted when the last of the calls that it was sent for has ended.

    Parameters
    ----------
    folder : Path
        Folder in which Gradio stores uploads.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        # For each file, the times at which it was sent; one time for each call that may use it.
        self._sent: dict[Path, list[float]] = {}
        self._n_arriving = 0

    def middleware(self, app: "ASGIApp") -> "ASGIApp":
        """Wrap the application of the page so that this object knows the files that are uploaded to it."""

        async def counting(scope: "Scope", receive: "Receive", send: "Send") -> None:
            if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith("/upload"):
                await app(scope, receive, send)
                return
            body = bytearray()

            async def reading(message: "Message") -> None:
                if message["type"] == "http.response.body":
                    body.extend(message.get("body", b""))
                    if not message.get("more_body"):
                        self._arrived(_paths_of(bytes(body)))
                await send(message)

            with self._lock:
                self._n_arriving += 1
            try:
                await app(scope, receive, reading)
            finally:
                with self._lock:
                    self._n_arriving -= 1
                self.delete_unused()

        return counting

    def _arrived(self, paths: Iterable[Path]) -> None:
        with self._lock:
            for path in paths:
                self._sent.setdefault(path, []).append(time.monotonic())

    def add(self, path: Path) -> Path:
        """Copy a file of this machine to the uploads, as if a browser had sent it; return the path of the copy."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        copy = Path(shutil.copy(path, folder / path.name))
        self._arrived([copy])
        return copy

    def release(self, paths: Iterable[Path]) -> None:
        """End the use of files by a call; a file that no other call may use is deleted."""
        with self._lock:
            for path in paths:
                if self.folder in path.parents:
                    self._sent[path] = sorted(self._sent.get(path, []))[1:]
        self.delete_unused()

    def delete_unused(self) -> None:
        """Delete the files that no call may use, and those that have waited for a call for more than `MAX_AGE`."""
        oldest = time.monotonic() - MAX_AGE
        with self._lock:
            if self._n_arriving:  # the same recording may be arriving again; the end of its upload calls this
                return
            for path, times in list(self._sent.items()):
                kept = [sent for sent in times if sent > oldest]
                if kept:
                    self._sent[path] = kept
                    continue
                del self._sent[path]
                path.unlink(missing_ok=True)
                with suppress(OSError):  # another file may be in the folder
                    path.parent.rmdir()

    @contextmanager
    def cleaned(self) -> Iterator[None]:
        """Search for uploads that wait for too long, in a thread, until the context ends."""
        stopped = threading.Event()

        def run() -> None:
            while not stopped.wait(INTERVAL):
                self.delete_unused()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def key(self, path: Path) -> str:
        """Return the name by which the browser knows an uploaded file."""
        return path.parent.name

    def without_folders(self, text: str) -> str:
        """Return a message in which uploaded files have their own names, without the folders of the server."""
        return re.sub(re.escape(str(self.folder)) + r"[\\/]+[^\\/\s]+[\\/]+", "", text)


def _paths_of(body: bytes) -> list[Path]:
    """Return the paths in the answer to an upload; an error has none."""
    try:
        answer: Any = json.loads(body)
    except ValueError:
        return []
    return [Path(each) for each in answer if isinstance(each, str)] if isinstance(answer, list) else []
