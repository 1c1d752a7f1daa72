"""`Uploads`: the recordings that browsers send, in a private folder, each deleted when the call that uses it ends."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from files import LOCK_NAME

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# An upload that no call uses is deleted after this time (seconds).
MAX_AGE = 900.0
# How often such uploads, and calls that ended without running, are searched for (seconds).
INTERVAL = 1.0
# Parts of the paths of requests that call a function.
CALLS = ("/gradio_api/call/", "/gradio_api/queue/join", "/gradio_api/run/")


@dataclass(eq=False)
class _Request:
    """A request that calls a function: the files that it uses, and the id of its place in Gradio's queue."""

    paths: list[Path]
    event_id: str | None = None


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
        self._requests: list[_Request] = []
        # Uploads in progress, and those that are complete but not in `_sent` yet.
        self._n_uploading = self._n_arriving = 0

    def middleware(self, app: "ASGIApp") -> "ASGIApp":
        """Wrap the application of the page so that this object knows the files that are uploaded to it."""

        async def counting(scope: "Scope", receive: "Receive", send: "Send") -> None:
            if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith("/upload"):
                is_call = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(CALLS)
                await (self._follow(app, scope, receive, send=send) if is_call else app(scope, receive, send))
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

    async def _follow(self, app: "ASGIApp", scope: "Scope", receive: "Receive", *, send: "Send") -> None:
        """Pass a call on, and remember which files it may use until it ends, also if it never runs."""
        # The guard has read the whole body, which is one message.
        message = await receive()
        given, waiting = _paths_in(_json(message.get("body", b""))), [message]
        with self._lock:
            request = _Request([path for path in given if path in self._sent])  # a client may name any path
            self._requests.append(request)
            for path in request.paths:
                self._drop(path)  # this call is the one that the file was sent for
        body, status = bytearray(), 500

        async def receiving() -> "Message":
            return waiting.pop() if waiting else await receive()

        async def sending(message: "Message") -> None:
            nonlocal status
            status = message.get("status", status)
            body.extend(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body") and status == 200:
                answer = _json(bytes(body))
                request.event_id = answer.get("event_id") if isinstance(answer, dict) else None
            await send(message)

        try:
            await app(scope, receiving, sending)
        finally:
            if request.event_id is None:
                self._end(request)

    def end_calls(self, is_waiting: Callable[[str], bool]) -> None:
        """End the calls that are no longer in Gradio's queue, whether they ran or not.

        Parameters
        ----------
        is_waiting : callable
            Function of an event's id that returns whether it waits or runs.
        """
        with self._lock:
            ended = [each for each in self._requests if each.event_id and not is_waiting(each.event_id)]
        for request in ended:
            self._end(request)

    def _end(self, request: _Request) -> None:
        """Forget a call that has ended, and delete the files that no other call uses."""
        with self._lock:
            if request in self._requests:
                self._requests.remove(request)
        self.delete_unused()

    def _drop(self, path: Path) -> None:
        """Take one of the calls away that a file may still be used by."""
        if path in self._sent:
            self._sent[path] = sorted(self._sent[path])[1:]

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
        """End the use of files by the running call; a file that no other call may use is deleted at once.

        If other calls use the same file, it is deleted when the last of them has ended.
        """
        with self._lock:
            for path in paths:
                users = [request for request in self._requests if path in request.paths]
                if not users:
                    self._drop(path)
                elif len(users) == 1:  # the running call
                    users[0].paths = [each for each in users[0].paths if each != path]
        self.delete_unused()

    def delete_unused(self) -> None:
        """Delete the files that no call may use, those that have waited for a call for too long, and interrupted ones.

        A file waits for its call for at most `MAX_AGE`; the call may wait and run for longer. Gradio leaves the part of
        an upload that arrived before it was interrupted; it is deleted when no other upload is in progress, or when it
        is older than `MAX_AGE`.
        """
        oldest = time.monotonic() - MAX_AGE
        with self._lock:
            if self._n_arriving:  # the same recording may be arriving again; the end of its upload calls this
                return
            used = {path for request in self._requests for path in request.paths}
            for path, times in list(self._sent.items()):
                kept = [sent for sent in times if sent > oldest]
                if kept or path in used:
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
    def cleaned(self, is_waiting: Callable[[str], bool]) -> Iterator[None]:
        """Search for uploads without a call, and for calls that have ended, in a thread, until the context ends."""
        stopped = threading.Event()

        def run() -> None:
            while not stopped.wait(INTERVAL):
                self.end_calls(is_waiting)
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


def _json(body: bytes) -> Any:
    """Read JSON; None if it is something else."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _paths_in(arguments: Any) -> list[Path]:
    """Return the paths of the files in the arguments of a call."""
    stack, paths = [arguments], []
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if isinstance(value.get("path"), str):
                paths.append(Path(value["path"]))
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    return paths


def _paths_of(body: bytes) -> list[Path]:
    """Return the paths in the answer to an upload; an error has none."""
    answer = _json(body)
    return [Path(each) for each in answer if isinstance(each, str)] if isinstance(answer, list) else []
