"""Uploads are deleted when their call ends in any way: answered, refused, malformed or cancelled."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

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

    async def call() -> None:
        await uploads.middleware(app)(scope, receive, send)

    asyncio.run(call())
    monkeypatch.setattr("web.uploads.MAX_AGE", -1.0)
    uploads.end_calls(lambda event_id: is_waiting)
    uploads.delete_unused()
    assert copy.exists() == is_waiting
    uploads.release([copy])
    uploads.delete_unused()
    assert not copy.exists()


def test_clients_that_send_one_recording_at_a_time_all_get_an_answer(page_server: Any) -> None:
    """Gradio keeps one file for equal uploads; the end of a call must not delete it for the calls that wait."""
    answers: list[str] = []

    def ask() -> None:
        client = Client(page_server.address, verbose=False)
        for _ in range(4):
            [recording] = client.predict(files=[handle_file(GOOD)], api_name="/identify")["recordings"]
            answers.append(str(recording["error"]))

    fill = Client(page_server.address, verbose=False)
    fill.predict(name="one", files=[handle_file(GOOD)], keep_doubtful=True, api_name="/enrol")
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["None"] * 24
    wait_until(lambda: page_server.files() == [])


def test_paths_that_a_client_names_are_never_deleted(page_server: Any, tmp_path: Path) -> None:
    other = tmp_path / "own.wav"
    other.write_bytes(GOOD.read_bytes())
    body = {"files": [{"path": str(other), "meta": META}, {"path": upload(page_server.address), "meta": META}]}
    httpx.post(f"{page_server.address}/gradio_api/call/v2/identify", json=body)
    wait_until(lambda: page_server.files() == [])
    assert other.exists()
