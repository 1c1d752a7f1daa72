"""Recordings that cannot be used are answered with a sentence, leave nothing, and the page goes on."""

import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from gradio_client import Client, handle_file

SAMPLE = Path(__file__).parents[2] / "sample"
GOOD = SAMPLE / "held_out" / "9003_1.flac"


@pytest.fixture(scope="module")
def client(page_server: Any) -> Client:
    client = Client(page_server.address, verbose=False)
    recordings = sorted((SAMPLE / "LibriSpeech" / "synthetic" / "9003").rglob("*.flac"))[:3]
    assert (
        client.predict("carl", [handle_file(path) for path in recordings], True, api_name="/enrol")["n_enrolled"] == 3
    )
    return client


def silence(path: Path, hours: float, *, is_long: bool = True) -> Path:
    """Write hours of silence as FLAC, which is about 1 MB an hour; the header may say that the length is not known."""
    with soundfile.SoundFile(path, "w", 8_000, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(round(hours * 60)):
            file.write(np.zeros(60 * 8_000, np.int16))
    if not is_long:
        content = bytearray(path.read_bytes())
        at = content.index(b"fLaC") + 8 + 10  # rate, channels and bits, then 36 bits of the number of samples
        [packed] = struct.unpack(">Q", content[at : at + 8])
        content[at : at + 8] = struct.pack(">Q", packed >> 36 << 36)
        path.write_bytes(content)
    return path


def hundred_hours(path: Path) -> Path:
    """Write a WAV file whose header says that it has 100 hours, and that has one second."""
    soundfile.write(path, np.zeros(8_000, np.int16), 8_000)
    content = bytearray(path.read_bytes())
    for at in (4, content.index(b"data") + 4):
        content[at : at + 4] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(content)
    return path


def unusable(kind: str, folder: Path, write_compressed: Callable[..., Path]) -> Path:
    if kind == "text":
        (folder / "a.wav").write_text("this is not audio")
    elif kind == "empty":
        (folder / "a.wav").touch()
    elif kind == "cut m4a":
        content = write_compressed(folder / "whole.m4a", 3.0).read_bytes()
        (folder / "a.m4a").write_bytes(content[: len(content) // 2])
        return folder / "a.m4a"
    elif kind == "3 hours":
        return silence(folder / "a.flac", 3)
    elif kind == "bomb":
        return silence(folder / "a.flac", 3, is_long=False)
    else:
        return hundred_hours(folder / "a.wav")
    return folder / "a.wav"


@pytest.mark.parametrize("kind", ["text", "empty", "cut m4a", "3 hours", "bomb", "wrong header"])
def test_unusable_recording_is_answered_with_a_sentence(
    kind: str, client: Client, page_server: Any, write_compressed: Callable[..., Path], tmp_path: Path
) -> None:
    path = unusable(kind, tmp_path, write_compressed)
    files = [handle_file(path), handle_file(GOOD)]
    bad, good = client.predict(files, "enrolled speakers", 0.5, False, api_name="/identify")["recordings"]
    assert isinstance(bad["error"], str)
    assert bad["predictions"] == []
    assert str(page_server.temporary) not in bad["error"]
    assert (good["error"], bool(good["predictions"])) == (None, True)
    [line] = client.predict("nobody", [handle_file(path)], True, api_name="/enrol")["recordings"]
    assert (line["error"], line["enrolled"]) == (bad["error"], False)
    for name, arguments in (
        ("/compare", (handle_file(GOOD), handle_file(path), 0.5)),
        ("/timeline", (handle_file(path), 0.5, False)),
    ):
        with pytest.raises(Exception, match=path.name):
            client.predict(*arguments, api_name=name)
    assert page_server.files() == []


@pytest.mark.parametrize(
    ("api_name", "arguments"),
    [
        ("/identify", ("no such classifier.pt", 0.5, False)),
        ("/identify", ("enrolled speakers", 7.0, False)),
        ("/enrol", ("", False)),
        ("/enrol", ("a\nb", False)),
    ],
)
def test_wrong_arguments_leave_no_audio(
    api_name: str, arguments: tuple[Any, ...], client: Client, page_server: Any
) -> None:
    files = [handle_file(GOOD)]
    given = (arguments[0], files, *arguments[1:]) if api_name == "/enrol" else (files, *arguments)
    with pytest.raises(Exception, match=r"\w+"):
        client.predict(*given, api_name=api_name)
    wait_until(lambda: not page_server.files())


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b/", "/", "../../a.wav", "a\\b.wav", "con", "\x00", "<b>'\"&.wav", "x" * 300]
)
def test_odd_file_names_are_refused_or_used(name: str, client: Client, page_server: Any) -> None:
    answer = httpx.post(f"{page_server.address}/gradio_api/upload", files={"files": (name, GOOD.read_bytes())})
    if answer.status_code == 200:
        [path] = answer.json()
        assert Path(path).resolve().is_relative_to(page_server.temporary.resolve())
        file = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        # The client would upload the file again.
        address = f"{page_server.address}/gradio_api/call/identify"
        called = httpx.post(address, json={"data": [[file], "enrolled speakers", 0.5, False]}).json()
        found = httpx.get(f"{address}/{called['event_id']}", timeout=60).text
        assert "event: complete" in found
        assert '"error": null' in found
    wait_until(lambda: not page_server.files())


def test_upload_that_is_interrupted_leaves_nothing(page_server: Any) -> None:
    address = httpx.URL(page_server.address)
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n' + b"0" * 100_000
    head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: {address.netloc.decode()}\r\nContent-Length: 1000000\r\n"
    with socket.create_connection((address.host, address.port or 80)) as connection:
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode() + body)
        wait_until(lambda: bool(page_server.files()))
    wait_until(lambda: not page_server.files())


def test_fields_that_are_no_files_leave_nothing(page_server: Any) -> None:
    httpx.post(f"{page_server.address}/gradio_api/upload", files={"other": ("a.wav", b"0" * 1000)})
    wait_until(lambda: not page_server.files())


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
