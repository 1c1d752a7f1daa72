"""The script of the page as a process: it refuses, ends cleanly, loses nothing, and sends nothing elsewhere."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from files import AccountsError, read_accounts
from verification import SpeakerStore

ROOT = Path(__file__).parents[2]
VOICES = ROOT / "sample" / "LibriSpeech" / "synthetic"
StartPage = Callable[..., AbstractContextManager[Any]]
Run = Callable[..., subprocess.CompletedProcess[str]]
# Refuses connections to other machines, and notes them.
NO_NETWORK = """
import os, socket, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[1][0] if event == "socket.connect" and isinstance(arguments[1], tuple) else arguments[0]
        if isinstance(host, str) and host not in ("127.0.0.1", "localhost", "::1", "0.0.0.0", ""):
            with open(os.environ["CONNECTIONS"], "a") as file:
                print(event, host, file=file)
            raise OSError("no network in this test")
sys.addaudithook(hook)
"""


def voices(speaker: str, count: int) -> list[Any]:
    return [handle_file(path) for path in sorted((VOICES / speaker).rglob("*.flac"))[:count]]


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        ("anna:secret\n", 0o644, "chmod 600"),
        ("anna:secret\n", 0o640, "chmod 600"),
        ("anna:secret\nsecret\n", 0o600, "line 2: expected user:password"),
        ("anna:\n", 0o600, "line 1: expected user:password"),
        (":secret\n", 0o600, "line 1: expected user:password"),
        ("anna:secret\nanna:secret2\n", 0o600, "anna"),
        ("# anna:secret\n\n", 0o600, "no account"),
    ],
)
def test_unusable_accounts_are_refused_without_the_password(
    content: str, mode: int, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "accounts"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(AccountsError, match=words) as error:
        read_accounts(path)
    assert "secret" not in str(error.value)


def test_accounts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    path.write_text("# comment\n\nanna:a:b \nben:ü\r\n", encoding="utf-8")
    path.chmod(0o600)
    assert read_accounts(path) == [("anna", "a:b "), ("ben", "ü")]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--host", "0.0.0.0"], "--auth_file"),
        (["--host", ""], "--auth_file"),
        (["--host", "192.168.1.7"], "--no_auth"),
        (["--auth_file", "none"], "none"),
        (["--port", "70000"], "65535"),
    ],
)
def test_unsafe_flags_are_refused_in_a_sentence(flags: list[str], words: str, call_script: Run, tmp_path: Path) -> None:
    done = call_script("app.py", "--store", tmp_path / "s.db", *flags)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s.db").exists()


def test_absent_gradio_is_named_in_a_sentence(verifier_file: Path, tmp_path: Path) -> None:
    code = (
        "import sys, runpy\n"
        "sys.modules['gradio'] = None\n"
        f"sys.argv = ['app.py', '--store', {str(tmp_path / 's.db')!r}, '--verifier', {str(verifier_file)!r}]\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"runpy.run_path({str(ROOT / 'app.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    [message] = done.stderr.strip().splitlines()
    assert "gradio" in message
    assert "pip install" in message


def test_used_port_is_named_in_a_sentence(start_page: StartPage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match=f"ERROR The page cannot be served at 127.0.0.1:{port}") as error:  # noqa: SIM117
            with start_page("--port", port):
                pass
    assert "Traceback" not in str(error.value)


def test_killed_page_loses_no_enrolment_and_the_next_one_deletes_its_uploads(
    start_page: StartPage, tmp_path: Path
) -> None:
    store, temporary, log = tmp_path / "speakers.db", tmp_path / "temporary", tmp_path / "connections"
    (tmp_path / "patched").mkdir()
    (tmp_path / "patched" / "sitecustomize.py").write_text(NO_NETWORK)
    variables = {"PYTHONPATH": str(tmp_path / "patched"), "CONNECTIONS": str(log), "HTTP_PROXY": "http://192.0.2.1:9"}
    enrolled: list[str] = []
    for number in range(1):
        with start_page(store=store, temporary=temporary, variables=variables) as server:
            # The uploads of the page before this one are gone, and only the folder of this page is there.
            assert server.files() == []
            assert len(list(temporary.iterdir())) == 1
            client = Client(server.address, verbose=False)
            thread = threading.Thread(target=enrol_until_killed, args=(client, number, enrolled), daemon=True)
            thread.start()
            while len(enrolled) < 1 + number:
                time.sleep(0.01)
            time.sleep(0.1 * (1 + number))
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        with SpeakerStore.open(store) as opened:
            assert {each.n_recordings for each in opened.speakers()} == {3}
            assert set(enrolled) <= {each.name for each in opened.speakers()}
    assert not log.exists() or log.read_text() == ""
    with start_page(store=store, temporary=temporary) as server:
        assert server.files() == []
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 0
        time.sleep(0.1)
        assert "Traceback" not in "".join(server.printed)
    assert list(temporary.iterdir()) == []


def enrol_until_killed(client: Client, number: int, enrolled: list[str]) -> None:
    """Enrol the same recordings under new names until the page does not answer."""
    try:
        for count in range(100):
            name = f"speaker {number} {count}"
            answer = client.predict(name, voices("9005", 3), True, api_name="/enrol")
            assert answer["n_enrolled"] == 3
            enrolled.append(name)
    except Exception:
        return


def test_clients_that_enrol_at_the_same_time_lose_nothing(page_server: Any) -> None:
    folders = ["9007", "9008", "9010", "9012"]
    names = ["together", "together", "alone 1", "alone 2"]
    faults: list[object] = []

    def enrol(name: str, folder: str, place: int) -> None:
        client = Client(page_server.address, verbose=False)
        for path in voices(folder, 10)[5 * (place % 2) :][:5]:
            answer = client.predict(name, [path], True, api_name="/enrol")
            if answer["n_enrolled"] != 1:
                faults.append(answer)

    threads = [
        threading.Thread(target=enrol, args=(name, folder, place))
        for place, (name, folder) in enumerate(zip(names, folders, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with SpeakerStore.open(page_server.store) as store:
        counts = {each.name: each.n_recordings for each in store.speakers()}
    assert [counts[name] for name in sorted(set(names))] == [5, 5, 10]
    assert page_server.files() == []


def test_removed_speaker_leaves_no_trace_of_the_vectors(page_server: Any, tmp_path: Path) -> None:
    client = Client(page_server.address, verbose=False)
    assert client.predict("<b>gone", voices("9011", 3), True, api_name="/enrol")["n_enrolled"] == 3
    with SpeakerStore.open(page_server.store) as store:
        vectors = [each.vector.numpy().tobytes() for each in store.recordings("<b>gone")]
        assert all(vector[:64] in page_server.store.read_bytes() for vector in vectors)
        digests = [each.digest for each in store.recordings("<b>gone")]
    config = client.config["dependencies"]
    [remove] = [each["id"] for each in config if each["targets"] == [[component_id(client, "remove-speaker"), "click"]]]
    listing = next(
        each["id"]
        for each in config
        if component_id(client, "speakers") in each["outputs"]
        and each["inputs"] == [component_id(client, "chosen-speaker")]
    )
    call(page_server.address, {listing: [None], remove: ["<b>gone"]})
    with SpeakerStore.open(page_server.store) as store:
        assert "<b>gone" not in {each.name for each in store.speakers()}
    for path in page_server.store.parent.glob("speakers.db*"):
        content = path.read_bytes()
        for trace in [vector[:64] for vector in vectors] + digests + [b"<b>gone"]:
            assert trace not in content
    with closing(sqlite3.connect(page_server.store)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def component_id(client: Client, name: str) -> int:
    [found] = [each["id"] for each in client.config["components"] if each["props"].get("elem_id") == name]
    return int(found)


def call(address: str, calls: dict[int, list[Any]]) -> None:
    """Run functions of the page one after the other in a session, as a browser does."""
    session = os.urandom(8).hex()
    for fn_index, data in calls.items():
        body = {"data": data, "fn_index": fn_index, "session_hash": session}
        httpx.post(f"{address}/gradio_api/queue/join", json=body).raise_for_status()
        with httpx.stream(
            "GET", f"{address}/gradio_api/queue/data", params={"session_hash": session}, timeout=60
        ) as answer:
            lines = [line for line in answer.iter_lines() if "process_completed" in line]
        assert '"success":true' in lines[0].replace(" ", "")
