"""`Uploads`: the recordings that browsers send, in a private folder, each deleted when the call that uses it ends."""

import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from files import LOCK_NAME

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# An upload that no call uses is deleted after this time (seconds).
MAX_AGE = 900.0
# How often such uploads are searched for (seconds).
INTERVAL = 30.0


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
        # Uploads in progress, and those that are complete but not in `_sent` yet.
        self._n_uploading = self._n_arriving = 0

    def middleware(self, app: "ASGIApp") -> "ASGIApp":
        """Wrap the application of the page so that this object knows the files that are uploaded to it."""

        async def counting(scope: "Scope", receive: "Receive", send: "Send") -> None:
            if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith("/upload"):
                await app(scope, receive, send)
                return
            body, is_complete = bytearray(), False

            async def receiving() -> "Message":
                nonlocal is_complete
                message = await receive()
                if not is_complete and not message.get("more_body"):
                    is_complete = True
                    with self._lock:
                        self._n_arriving += 1
                return message

            async def sending(message: "Message") -> None:
                if message["type"] == "http.response.body":
                    body.extend(message.get("body", b""))
                    if not message.get("more_body"):
                        self._arrived(_paths_of(bytes(body)))
                await send(message)

            with self._lock:
                self._n_uploading += 1
            try:
                await app(scope, receiving, sending)
            finally:
                with self._lock:
                    self._n_uploading -= 1
                    self._n_arriving -= is_complete
                self.delete_unused()

        return counting

    def _arrived(self, paths: Iterable[Path]) -> None:
        with self._lock:
            for path in paths:
                self._sent.setdefault(path, []).append(time.monotonic())

    def add(self, path: Path) -> Path:
        """Copy a file of this machine to the uploads, as if a browser had sent it; return the path of the copy."""
        from gradio.processing_utils import save_file_to_cache

        with self._lock:  # the same file may be about to be deleted
            copy = Path(save_file_to_cache(path, str(self.folder)))
            self._sent.setdefault(copy, []).append(time.monotonic())
        return copy

    def release(self, paths: Iterable[Path]) -> None:
        """End the use of files by a call; a file that no other call may use is deleted."""
        with self._lock:
            for path in paths:
                if path in self._sent:  # a client may name any path
                    self._sent[path] = sorted(self._sent[path])[1:]
        self.delete_unused()

    def delete_unused(self) -> None:
        """Delete the files that no call may use, those that have waited for a call for too long, and interrupted ones.

        A file waits for at most `MAX_AGE`. Gradio leaves the part of an upload that arrived before it was interrupted;
        it is deleted when no other upload is in progress, or when it is older than `MAX_AGE`.
        """
        oldest = time.monotonic() - MAX_AGE
        with self._lock:
            if self._n_arriving:  # the same recording may be arriving again; the end of its upload calls this
                return
            for path, times in list(self._sent.items()):
                kept = [sent for sent in times if sent > oldest]
                if kept:
                    self._sent[path] = kept
                else:
                    del self._sent[path]
                    self._delete(path)
            for path in list(self.folder.rglob("*")):
                if path in self._sent or path == self.folder / LOCK_NAME or not path.is_file():
                    continue
                if (path.parent == self.folder and not self._n_uploading) or _age(path) > MAX_AGE:
                    self._delete(path)

    def _delete(self, path: Path) -> None:
        """Delete a file, and the folder of the upload if it is empty then."""
        with suppress(OSError):  # another file may be in the folder
            path.unlink(missing_ok=True)
            if path.parent != self.folder:
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


def _age(path: Path) -> float:
    """Return for how many seconds a file has not been written to; 0 if it is no longer there."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _paths_of(body: bytes) -> list[Path]:
    """Return the paths in the answer to an upload; an error has none."""
    try:
        answer: Any = json.loads(body)
    except ValueError:
        return []
    return [Path(each) for each in answer if isinstance(each, str)] if isinstance(answer, list) else []
