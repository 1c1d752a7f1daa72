"""`download_librispeech`: resuming, errors of the network and the disk, and unpacking."""

import hashlib
import io
import random
import re
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from corpora import download
from corpora.corpus import CorpusError
from corpora.download import download_librispeech
from files import Progress

FLAC = b"fLaC" + random.Random(0).randbytes(200_000)  # not compressible: half of an archive is several chunks
FILES = {
    "LibriSpeech/LICENSE.TXT": b"a licence",
    "LibriSpeech/SPEAKERS.TXT": b"the speakers",
    "LibriSpeech/dev-clean/84/121123/84-121123-0000.flac": FLAC,
    "LibriSpeech/dev-clean/84/121123/84-121123.trans.txt": b"84-121123-0000 GO",
}


def make_archive(files: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return buffer.getvalue()


@dataclass
class Server:
    """Settings of a web server for one archive, and the requests that it received."""

    archive: bytes
    supports_ranges: bool = True
    sends_length: bool = True
    stops_after: int | None = None  # number of bytes of the body after which the connection is closed
    stalls: bool = False  # keep the connection open instead of closing it
    raw_response: bytes | None = None  # sent instead of a response; if empty, nothing is sent
    url: str = ""
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    served: list[int] = field(default_factory=list)  # number of bytes of each body
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def md5(self) -> str:
        return hashlib.md5(self.archive).hexdigest()

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers["Range"]
        self.requests.append((request.path, wanted))
        if self.raw_response is not None:
            request.wfile.write(self.raw_response)
            self.stopped.wait(0 if self.raw_response else None)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.supports_ranges else 0
        if request.path != "/dev-clean.tar.gz":
            request.send_error(404)
        elif start >= len(self.archive):
            request.send_error(416)
        else:
            request.send_response(206 if start else 200)
            if self.sends_length:
                request.send_header("Content-Length", str(len(self.archive) - start))
            if start:
                request.send_header("Content-Range", f"bytes {start}-{len(self.archive) - 1}/{len(self.archive)}")
            request.end_headers()
            body = self.archive[start:][: self.stops_after]
            request.wfile.write(body)
            self.served.append(len(body))
            if self.stalls:
                self.stopped.wait()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Server(make_archive(FILES))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.respond(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        served.url = f"http://127.0.0.1:{http.server_port}/dev-clean.tar.gz"
        yield served
        served.stopped.set()
        http.shutdown()
        thread.join()


def run_download(folder: Path, server: Server, **changes: Any) -> Path:
    options: dict[str, Any] = {"url": server.url, "md5": server.md5, "progress": False}
    return download_librispeech(folder, **options | changes)


def error_message(folder: Path, server: Server, **changes: Any) -> str:
    """Return the message of the error, which must be one line."""
    with pytest.raises(CorpusError) as caught:
        run_download(folder, server, **changes)
    message = str(caught.value)
    assert "\n" not in message
    return message


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_part(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    part = folder / "dev-clean.tar.gz.part"
    part.write_bytes(content)
    return part


def assert_manual_advice(message: str, url: str, folder: Path) -> None:
    for expected in (url, "dev-clean.tar.gz", str(folder / "LibriSpeech" / "dev-clean"), "--data_dir"):
        assert expected in message


def test_split_is_downloaded_and_unpacked(tmp_path: Path, server: Server) -> None:
    folder = tmp_path / "new" / "data"
    assert run_download(folder, server) == folder / "LibriSpeech" / "dev-clean"
    assert files_below(folder) == FILES
    assert sorted(path.name for path in folder.rglob("*") if path.is_dir()) == [
        "121123",
        "84",
        "LibriSpeech",
        "dev-clean",
    ]
    assert server.requests == [("/dev-clean.tar.gz", None)]


def test_existing_split_makes_no_request(tmp_path: Path, server: Server) -> None:
    folder = tmp_path / "LibriSpeech" / "dev-clean"
    folder.mkdir(parents=True)
    (folder / "1.flac").touch()
    assert run_download(tmp_path, server) == folder
    assert server.requests == []


def test_empty_folder_of_the_split_is_refused(tmp_path: Path, server: Server) -> None:
    (tmp_path / "LibriSpeech/dev-clean").mkdir(parents=True)
    with pytest.raises(CorpusError, match=r"dev-clean: this folder has no FLAC file\. Remove it"):
        run_download(tmp_path, server)


def test_other_splits_and_text_files_do_not_change(tmp_path: Path, server: Server) -> None:
    corpus = tmp_path / "LibriSpeech"
    (corpus / "test-clean").mkdir(parents=True)
    (corpus / "test-clean" / "61.flac").write_bytes(b"old fLaC")
    (corpus / "LICENSE.TXT").write_bytes(b"old")
    run_download(tmp_path, server)
    before = {"LibriSpeech/test-clean/61.flac": b"old fLaC", "LibriSpeech/LICENSE.TXT": b"old"}
    assert files_below(tmp_path) == FILES | before


def test_resuming_requests_only_missing_bytes(tmp_path: Path, server: Server) -> None:
    write_part(tmp_path, server.archive[:150_000])
    run_download(tmp_path, server, md5=server.md5.upper())
    assert server.requests == [("/dev-clean.tar.gz", "bytes=150000-")]
    assert server.served == [len(server.archive) - 150_000]
    assert files_below(tmp_path) == FILES


def test_download_resumes_after_lost_connection(tmp_path: Path, server: Server) -> None:
    server.stops_after = 100_001
    message = error_message(tmp_path, server)
    assert_manual_advice(message, server.url, tmp_path)
    part = tmp_path / "dev-clean.tar.gz.part"
    assert f"100001 of {len(server.archive)} bytes" in message
    assert str(part) in message
    assert files_below(tmp_path) == {part.name: server.archive[:100_001]}
    server.stops_after = None
    run_download(tmp_path, server)
    assert server.requests[1] == ("/dev-clean.tar.gz", "bytes=100001-")
    assert files_below(tmp_path) == FILES


def test_server_without_ranges_sends_the_whole_file(tmp_path: Path, server: Server) -> None:
    server.supports_ranges = False
    write_part(tmp_path, server.archive[:1000])
    run_download(tmp_path, server)
    assert server.requests == [("/dev-clean.tar.gz", "bytes=1000-")]
    assert server.served == [len(server.archive)]
    assert files_below(tmp_path) == FILES


def test_server_may_omit_the_length(tmp_path: Path, server: Server) -> None:
    server.sends_length = False
    run_download(tmp_path, server)
    assert files_below(tmp_path) == FILES


def test_complete_partial_file_is_not_downloaded_again(tmp_path: Path, server: Server) -> None:
    write_part(tmp_path, server.archive)
    run_download(tmp_path, server)
    assert server.served == []
    assert files_below(tmp_path) == FILES


def test_missing_file_on_server_raises(tmp_path: Path, server: Server) -> None:
    url = server.url.replace("/dev-clean", "/12/dev-clean")
    message = error_message(tmp_path, server, url=url)
    assert "404" in message
    assert_manual_advice(message, url, tmp_path)
    assert files_below(tmp_path) == {}


def test_unreachable_server_raises_and_partial_file_is_kept(tmp_path: Path, server: Server) -> None:
    part = write_part(tmp_path, b"downloaded before")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but not accepting: connections are refused, and the port stays reserved
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/dev-clean.tar.gz"
        message = error_message(tmp_path, server, url=url)
    assert_manual_advice(message, url, tmp_path)
    assert str(part) in message
    assert part.read_bytes() == b"downloaded before"


def test_server_without_response_times_out(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert download.TIMEOUT <= 10
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    server.raw_response = b""
    start = time.monotonic()
    assert_manual_advice(error_message(tmp_path, server), server.url, tmp_path)
    assert time.monotonic() - start < 2


def test_server_that_stops_sending_times_out(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.stops_after, server.stalls = 2 * download.CHUNK, True
    release = threading.Timer(3, server.stopped.set)  # so that the test fails instead of waiting forever
    release.start()
    start = time.monotonic()
    message = error_message(tmp_path, server)
    assert time.monotonic() - start < 2
    assert "timed out" in message
    assert_manual_advice(message, server.url, tmp_path)
    assert files_below(tmp_path) == {"dev-clean.tar.gz.part": server.archive[: 2 * download.CHUNK]}
    release.cancel()


def test_response_that_is_not_http_raises(tmp_path: Path, server: Server) -> None:
    server.raw_response = b"220 mail ready\r\n"
    assert_manual_advice(error_message(tmp_path, server), server.url, tmp_path)


def test_name_look_up_without_response_times_out(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*args: Any, **options: Any) -> Any:
        server.stopped.wait()
        raise socket.gaierror("no answer")

    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    release = threading.Timer(3, server.stopped.set)
    release.start()
    start, others = time.monotonic(), set(threading.enumerate())
    message = error_message(tmp_path, server)
    assert time.monotonic() - start < 2
    # A daemon thread does not delay the exit.
    assert all(thread.daemon for thread in set(threading.enumerate()) - others)
    assert "(no answer within 0.1 s)" in message
    assert_manual_advice(message, server.url, tmp_path)
    release.cancel()


def test_unknown_host_name_raises(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    message = error_message(tmp_path, server)
    assert "([Errno -2] Name or service not known)" in message
    assert_manual_advice(message, server.url, tmp_path)


def test_wrong_checksum_removes_file_and_shows_both_checksums(tmp_path: Path, server: Server) -> None:
    message = error_message(tmp_path, server, md5="0" * 32)
    assert server.md5 in message
    assert "0" * 32 in message
    assert "again" in message
    assert files_below(tmp_path) == {}


def test_checksum_of_resumed_file_includes_the_old_part(tmp_path: Path, server: Server) -> None:
    write_part(tmp_path, b"x" * 1000)
    assert server.md5 in error_message(tmp_path, server, md5=server.md5).split("expected")[1]
    assert server.requests == [("/dev-clean.tar.gz", "bytes=1000-")]
    assert files_below(tmp_path) == {}


def test_checksums_of_librispeech_are_known(tmp_path: Path, server: Server) -> None:
    assert "42e2234ba48799c1f50f24a7926300a1" in error_message(tmp_path, server, md5=None)
    assert len(download.MD5_SUMS) == 7
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in download.MD5_SUMS.values())


@pytest.mark.parametrize(("name", "expected"), [("other.tar.gz", "checksum"), ("dev-clean.zip", ".tar.gz")])
def test_unknown_archive_is_refused_before_any_request(
    tmp_path: Path, server: Server, name: str, expected: str
) -> None:
    url = server.url.replace("dev-clean.tar.gz", name)
    message = error_message(tmp_path, server, url=url, md5=None)
    assert url in message
    assert expected in message
    assert "dev-clean.tar.gz" in message
    assert server.requests == []


def test_invalid_url_raises(tmp_path: Path, server: Server) -> None:
    assert "unknown url type" in error_message(tmp_path, server, url="dev-clean.tar.gz")


def hostile_member(kind: str, outside: Path) -> tarfile.TarInfo:
    member = tarfile.TarInfo("LibriSpeech/dev-clean/link")
    if kind == "parent":
        member.name = "../../outside"
    elif kind == "parent inside":
        member.name = "LibriSpeech/../outside"
    elif kind == "absolute":
        member.name = str(outside)
    else:
        member.type, member.linkname = tarfile.SYMTYPE, "84" if kind == "link inside" else str(outside)
    return member


@pytest.mark.parametrize("kind", ["parent", "parent inside", "absolute", "link", "link inside"])
def test_hostile_member_is_refused_and_writes_nothing_outside(tmp_path: Path, server: Server, kind: str) -> None:
    folder = tmp_path / "data"
    server.archive = make_archive(FILES, hostile_member(kind, tmp_path / "outside"))
    message = error_message(folder, server)
    assert str(folder / "dev-clean.tar.gz.part") in message
    assert "plain file" in message
    assert files_below(tmp_path) == {}
    assert [path.name for path in folder.rglob("*")] == ["LibriSpeech"]


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(b"<html>log in first</html>", id="not an archive"),
        pytest.param(make_archive(FILES)[:-50_000], id="cut off"),
        pytest.param(make_archive(FILES)[:150_000] + b"\xff" * 50_000, id="garbled"),
        pytest.param(make_archive({"LibriSpeech/test-clean/1.flac": FLAC}), id="another split"),
    ],
)
def test_archive_without_complete_split_is_refused(tmp_path: Path, server: Server, archive: bytes) -> None:
    server.archive = archive
    assert "cannot be unpacked" in error_message(tmp_path, server)
    assert files_below(tmp_path) == {}


def test_interrupted_unpacking_leaves_no_split_and_can_be_repeated(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = tarfile.TarFile.makefile, []

    def interrupted(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        whole(tar, member, path)
        if member.name.endswith(".flac"):
            seen.append((tmp_path / "LibriSpeech" / "dev-clean").exists())  # as if the process were killed now
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "makefile", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_download(tmp_path, server)
    assert seen == [False]
    assert files_below(tmp_path) == {"dev-clean.tar.gz.part": server.archive}
    run_download(tmp_path, server)
    assert len(server.served) == 1
    assert files_below(tmp_path) == FILES


def test_remains_of_killed_process_are_removed(tmp_path: Path, server: Server) -> None:
    left = tmp_path / "LibriSpeech" / ".dev-clean.unpacking" / "LibriSpeech" / "dev-clean"
    left.mkdir(parents=True)
    (left / "partial.flac").write_bytes(b"fLaC")
    run_download(tmp_path, server)
    assert files_below(tmp_path) == FILES


def test_folder_that_cannot_be_created_raises(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file").touch()
    message = error_message(tmp_path / "file" / "data", server)
    assert str(tmp_path / "file") in message
    assert "--data_dir" in message
    assert server.requests == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_raises(tmp_path: Path, server: Server) -> None:
    part = tmp_path / "dev-clean.tar.gz.part"
    part.symlink_to("/dev/full")
    message = error_message(tmp_path, server)
    assert str(part) in message
    assert "No space left" in message
    assert "cannot be downloaded" not in message


def test_progress_counts_all_bytes_and_draws_nothing_without_a_terminal(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made: list[Progress] = []
    given: list[dict[str, Any]] = []

    def show(*arguments: Any, **options: Any) -> Progress:
        given.append(options)
        made.append(Progress(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(download, "Progress", show)
    write_part(tmp_path / "a", server.archive[:1000])
    run_download(tmp_path / "a", server, progress=True)
    run_download(tmp_path / "b", server, progress=False)
    assert [(options["done"], options["unit"], options["visible"]) for options in given] == [
        (1000, "B", True),
        (0, "B", False),
    ]
    assert [(each.done, each.total) for each in made] == 2 * [(len(server.archive), len(server.archive))]
    assert capfd.readouterr() == ("", "")
