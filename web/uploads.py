"""`Uploads`: the recordings that browsers send, in a private folder, each deleted when the call that uses it ends."""

import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        from gradio.processing_utils import save_file_to_cache

        copy = Path(save_file_to_cache(path, str(self.folder)))
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


def _paths_of(body: bytes) -> list[Path]:
    """Return the paths in the answer to an upload; an error has none."""
    try:
        answer: Any = json.loads(body)
    except ValueError:
        return []
    return [Path(each) for each in answer if isinstance(each, str)] if isinstance(answer, list) else []
