"""The folder of uploads: each file is deleted after the last call that it was sent for, whatever happens meanwhile."""

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from files import LOCK_NAME
from web import Uploads
from web.uploads import MAX_AGE

Wait = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """Wait for nothing."""


async def post_upload(
    uploads: Uploads,
    files: dict[str, bytes],
    *,
    before: Wait = nothing,
    moved: Wait = nothing,
    fault: str | None = None,
) -> None:
    """Send files as a browser does, to an application that stores them as Gradio does.

    `before` is awaited while the last part has not arrived, and `moved` when the files are at their places, but the
    answer is not sent yet. With a fault, the application answers with an error, or the connection ends.
    """
    parts = [{"type": "http.request", "body": b"part", "more_body": True}]
    parts.append({"type": "http.disconnect"} if fault == "disconnect" else {"type": "http.request", "body": b"last"})

    async def receive() -> Any:
        return parts.pop(0)

    async def send(message: Any) -> None:
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        partial = uploads.folder / f"tmp{threading.get_ident()}-{id(parts)}"
        await receive()
        partial.write_bytes(b"part")
        await before()
        last = await receive()
        if last["type"] == "http.disconnect":
            raise ConnectionError
        if fault == "error":
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"too large"})
            return
        paths = []
        for name, content in files.items():
            target = uploads.folder / content.hex() / name
            target.parent.mkdir(exist_ok=True)
            partial.write_bytes(content)
            partial.rename(target)
            paths.append(str(target))
        await moved()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(paths).encode()})

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload"}
    try:
        await uploads.middleware(app)(scope, receive, send)
    except ConnectionError:
        assert fault == "disconnect"


def path_of(uploads: Uploads, content: bytes, name: str = "a.wav") -> Path:
    return uploads.folder / content.hex() / name


def test_file_is_deleted_after_the_last_call_that_it_was_sent_for(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    for _ in range(2):
        asyncio.run(post_upload(uploads, {"a.wav": b"1"}))
    uploads.release([path_of(uploads, b"1")])
    assert path_of(uploads, b"1").read_bytes() == b"1"
    uploads.release([path_of(uploads, b"1")])
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.tuples(st.sampled_from(["send", "release", "fault", "sweep"]), st.integers(0, 2)), max_size=15))
def test_file_exists_as_long_as_it_was_sent_more_often_than_released(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    uploads, uses = Uploads(tmp_path_factory.mktemp("uploads")), Counter[int]()
    for step, number in steps:
        content = bytes([number])
        if step == "send":
            asyncio.run(post_upload(uploads, {"a.wav": content}))
            uses[number] += 1
        elif step == "release":
            uploads.release([path_of(uploads, content)])
            uses[number] = max(uses[number] - 1, 0)
        elif step == "fault":
            asyncio.run(post_upload(uploads, {"a.wav": content}, fault=["error", "disconnect"][number % 2]))
        else:
            uploads.delete_unused()
        expected = {path_of(uploads, bytes([each])) for each, count in uses.items() if count}
        assert {path for path in uploads.folder.rglob("*") if path.is_file()} == expected


def test_release_between_the_move_of_the_same_file_and_its_answer_keeps_it(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    asyncio.run(post_upload(uploads, {"a.wav": b"1"}))

    async def release() -> None:
        uploads.release([path_of(uploads, b"1")])

    asyncio.run(post_upload(uploads, {"a.wav": b"1"}, moved=release))
    assert path_of(uploads, b"1").exists()
    uploads.release([path_of(uploads, b"1")])
    assert list(tmp_path.iterdir()) == []


def test_slow_upload_does_not_keep_the_files_of_others(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    asyncio.run(post_upload(uploads, {"a.wav": b"1"}))

    async def release() -> None:
        uploads.release([path_of(uploads, b"1")])
        assert not path_of(uploads, b"1").exists()

    asyncio.run(post_upload(uploads, {"b.wav": b"2"}, before=release))
    assert path_of(uploads, b"2", "b.wav").exists()


def test_threads_that_send_and_release_the_same_file_always_find_it(tmp_path: Path) -> None:
    uploads, missed = Uploads(tmp_path), []

    def work() -> None:
        for _ in range(50):
            asyncio.run(post_upload(uploads, {"a.wav": b"1"}))
            if not path_of(uploads, b"1").exists():
                missed.append(1)
            uploads.release([path_of(uploads, b"1")])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missed == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["error", "disconnect"])
def test_refused_and_interrupted_uploads_leave_nothing(fault: str, tmp_path: Path) -> None:
    asyncio.run(post_upload(Uploads(tmp_path), {"a.wav": b"1"}, fault=fault))
    assert list(tmp_path.iterdir()) == []


def test_old_files_that_nothing_uses_are_deleted_and_new_ones_and_the_lock_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(tmp_path)
    (tmp_path / LOCK_NAME).touch()
    asyncio.run(post_upload(uploads, {"a.wav": b"1"}))
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "b.wav").touch()
    uploads.delete_unused()
    assert path_of(uploads, b"1").exists()
    assert (tmp_path / "copies" / "b.wav").exists()
    long_ago = time.time() - MAX_AGE - 1
    os.utime(tmp_path / LOCK_NAME, (long_ago, long_ago))
    os.utime(tmp_path / "copies" / "b.wav", (long_ago, long_ago))
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + MAX_AGE + 1)
    uploads.delete_unused()
    assert list(tmp_path.rglob("*")) == [tmp_path / LOCK_NAME]


def test_files_that_were_not_uploaded_cannot_be_released(tmp_path: Path) -> None:
    folder, outside = tmp_path / "uploads", tmp_path / "outside.wav"
    folder.mkdir()
    outside.touch()
    (folder / LOCK_NAME).touch()
    uploads = Uploads(folder)
    uploads.release([outside, folder / ".." / "outside.wav", folder / LOCK_NAME, folder])
    assert outside.exists()
    assert (folder / LOCK_NAME).exists()
