"""Uploads are deleted when their call ends in any way: answered, refused, malformed or cancelled."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from web import Uploads

ROOT = Path(__file__).parents[2]
GOOD = ROOT / "sample" / "held_out" / "9001_1.flac"
META = {"_type": "gradio.FileData"}


def upload(address: str) -> str:
    answer = httpx.post(f"{address}/gradio_api/upload", files={"files": (GOOD.name, GOOD.read_bytes())})
    [path] = answer.json()
    return str(path)


def wait_until(is_met: Callable[[], bool]) -> None:
    for _ in range(150):
        if is_met():
            return
        time.sleep(0.1)
    raise AssertionError("this has not happened within 15 s")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("identify", {"files": "FILE"}),
        ("identify", {"files": ["FILE", None]}),
        ("identify", {"files": ["FILE"], "no_such_argument": 1}),
        ("identify", {"files": ["FILE", {"path": "/etc/passwd", "meta": META}]}),
        ("identify", {"files": ["FILE"], "p_known": "abc"}),
        ("compare", {"first": "FILE"}),
        ("enrol", {"files": ["FILE"]}),
        ("enrol", {"files": ["FILE"], "name": ["x"]}),
        ("no_such_function", {"files": ["FILE"]}),
    ],
)
def test_calls_that_cannot_be_answered_leave_no_audio(name: str, arguments: dict[str, Any], page_server: Any) -> None:
    file = json.dumps({"path": upload(page_server.address), "meta": META})
    body = json.dumps(arguments).replace('"FILE"', file)
    assert page_server.files() != []
    headers = {"content-type": "application/json"}
    httpx.post(f"{page_server.address}/gradio_api/call/v2/{name}", content=body, headers=headers)
    wait_until(lambda: page_server.files() == [])


def test_functions_cannot_be_called_without_the_queue(page_server: Any) -> None:
    file = {"path": upload(page_server.address), "meta": META}
    data = {"data": [[file], "enrolled speakers", 0.5, False]}
    answer = httpx.post(f"{page_server.address}/gradio_api/run/identify", json=data)
    assert answer.status_code >= 400
    wait_until(lambda: page_server.files() == [])


@pytest.mark.parametrize("is_waiting", [True, False])
def test_upload_of_a_call_stays_as_long_as_the_call_waits(
    is_waiting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call may wait behind a long one for longer than an upload without a call is kept."""

    folder = tmp_path / "uploads"
    folder.mkdir()
    uploads = Uploads(folder)
    copy = uploads.add(GOOD)
    body = json.dumps({"files": [{"path": str(copy)}]}).encode()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == body
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"event_id": "one"}'})

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        return None

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/call/v2/identify", "headers": []}
    asyncio.run(uploads.middleware(app)(scope, receive, send))
    monkeypatch.setattr("web.uploads.MAX_AGE", -1.0)
    uploads.end_calls(lambda event_id: is_waiting)
    uploads.delete_unused()
    assert copy.exists() == is_waiting
    uploads.release([copy])
    uploads.delete_unused()
    assert not copy.exists()
