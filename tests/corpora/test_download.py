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
from tqdm import tqdm

from corpora import download
from corpora.corpus import CorpusError
from corpora.download import download_librispeech

FLAC = b"fLaC" + random.Random(0).randbytes(200_000)  # does not compress, so that half an archive is several chunks
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
    """A web server for one archive that remembers what it was asked for."""

    archive: bytes
    takes_ranges: bool = True
    tells_length: bool = True
    drops_after: int | None = None  # bytes of the body
    stalls: bool = False  # there, instead of dropping the connection
    instead: bytes | None = None  # of an answer; nothing is silence
    url: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    served: list[int] = field(default_factory=list)  # bytes of each body
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def md5(self) -> str:
        return hashlib.md5(self.archive).hexdigest()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers["Range"]
        self.asked.append((request.path, wanted))
        if self.instead is not None:
            request.wfile.write(self.instead)
            self.gone.wait(0 if self.instead else None)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.takes_ranges else 0
        if request.path != "/dev-clean.tar.gz":
            request.send_error(404)
        elif start >= len(self.archive):
            request.send_error(416)
        else:
            request.send_response(206 if start else 200)
            if self.tells_length:
                request.send_header("Content-Length", str(len(self.archive) - start))
            if start:
                request.send_header("Content-Range", f"bytes {start}-{len(self.archive) - 1}/{len(self.archive)}")
            request.end_headers()
            body = self.archive[start:][: self.drops_after]
            request.wfile.write(body)
            self.served.append(len(body))
            if self.stalls:
                self.gone.wait()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Server(make_archive(FILES))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        served.url = f"http://127.0.0.1:{http.server_port}/dev-clean.tar.gz"
        yield served
        served.gone.set()
        http.shutdown()
        thread.join()


def fetch(folder: Path, server: Server, **changes: Any) -> Path:
    options: dict[str, Any] = {"url": server.url, "md5": server.md5, "progress": False}
    return download_librispeech(folder, **options | changes)


def refusal(folder: Path, server: Server, **changes: Any) -> str:
    """The sentence of the error, which must be one line."""
    with pytest.raises(CorpusError) as caught:
        fetch(folder, server, **changes)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def part_of(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    part = folder / "dev-clean.tar.gz.part"
    part.write_bytes(content)
    return part


def assert_hand_advice(sentence: str, url: str, folder: Path) -> None:
    for expected in (url, "dev-clean.tar.gz", str(folder / "LibriSpeech" / "dev-clean"), "--data_dir"):
        assert expected in sentence


def test_the_split_is_fetched_and_unpacked_and_nothing_else_is_left(tmp_path: Path, server: Server) -> None:
    folder = tmp_path / "new" / "data"
    assert fetch(folder, server) == folder / "LibriSpeech" / "dev-clean"
    assert files_below(folder) == FILES
    assert sorted(path.name for path in folder.rglob("*") if path.is_dir()) == [
        "121123",
        "84",
        "LibriSpeech",
        "dev-clean",
    ]
    assert server.asked == [("/dev-clean.tar.gz", None)]


def test_a_split_that_is_there_costs_no_request(tmp_path: Path, server: Server) -> None:
    folder = tmp_path / "LibriSpeech" / "dev-clean"
    folder.mkdir(parents=True)
    assert fetch(tmp_path, server) == folder
    assert server.asked == []


def test_other_splits_and_their_texts_stay_as_they_are(tmp_path: Path, server: Server) -> None:
    corpus = tmp_path / "LibriSpeech"
    (corpus / "test-clean").mkdir(parents=True)
    (corpus / "test-clean" / "61.flac").write_bytes(b"fLaC of before")
    (corpus / "LICENSE.TXT").write_bytes(b"of before")
    fetch(tmp_path, server)
    before = {"LibriSpeech/test-clean/61.flac": b"fLaC of before", "LibriSpeech/LICENSE.TXT": b"of before"}
    assert files_below(tmp_path) == FILES | before


def test_resuming_asks_for_the_missing_bytes_alone(tmp_path: Path, server: Server) -> None:
    part_of(tmp_path, server.archive[:150_000])
    fetch(tmp_path, server, md5=server.md5.upper())
    assert server.asked == [("/dev-clean.tar.gz", "bytes=150000-")]
    assert server.served == [len(server.archive) - 150_000]
    assert files_below(tmp_path) == FILES


def test_a_dropped_connection_is_told_and_gone_on_from(tmp_path: Path, server: Server) -> None:
    server.drops_after = 100_001
    sentence = refusal(tmp_path, server)
    assert_hand_advice(sentence, server.url, tmp_path)
    part = tmp_path / "dev-clean.tar.gz.part"
    assert f"100001 of {len(server.archive)} bytes" in sentence
    assert str(part) in sentence
    assert files_below(tmp_path) == {part.name: server.archive[:100_001]}
    server.drops_after = None
    fetch(tmp_path, server)
    assert server.asked[1] == ("/dev-clean.tar.gz", "bytes=100001-")
    assert files_below(tmp_path) == FILES


def test_a_server_without_ranges_starts_again(tmp_path: Path, server: Server) -> None:
    server.takes_ranges = False
    part_of(tmp_path, server.archive[:1000])
    fetch(tmp_path, server)
    assert server.asked == [("/dev-clean.tar.gz", "bytes=1000-")]
    assert server.served == [len(server.archive)]
    assert files_below(tmp_path) == FILES


def test_a_server_that_does_not_tell_the_length_will_do(tmp_path: Path, server: Server) -> None:
    server.tells_length = False
    fetch(tmp_path, server)
    assert files_below(tmp_path) == FILES


def test_a_part_that_is_complete_goes_on_to_the_check(tmp_path: Path, server: Server) -> None:
    part_of(tmp_path, server.archive)
    fetch(tmp_path, server)
    assert server.served == []
    assert files_below(tmp_path) == FILES


def test_a_file_that_the_server_lacks_is_told(tmp_path: Path, server: Server) -> None:
    url = server.url.replace("/dev-clean", "/12/dev-clean")
    sentence = refusal(tmp_path, server, url=url)
    assert "404" in sentence
    assert_hand_advice(sentence, url, tmp_path)
    assert files_below(tmp_path) == {}


def test_a_server_that_is_gone_is_told_and_the_part_stays(tmp_path: Path, server: Server) -> None:
    part = part_of(tmp_path, b"fetched before")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: the port refuses, and nobody else takes it
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/dev-clean.tar.gz"
        sentence = refusal(tmp_path, server, url=url)
    assert_hand_advice(sentence, url, tmp_path)
    assert str(part) in sentence
    assert part.read_bytes() == b"fetched before"


def test_a_silent_server_is_given_up(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert download.TIMEOUT <= 10
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    server.instead = b""
    start = time.monotonic()
    assert_hand_advice(refusal(tmp_path, server), server.url, tmp_path)
    assert time.monotonic() - start < 2


def test_a_server_that_falls_silent_midway_is_given_up(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.drops_after, server.stalls = 2 * download.CHUNK, True
    release = threading.Timer(3, server.gone.set)  # so that waiting for ever fails, not hangs
    release.start()
    start = time.monotonic()
    sentence = refusal(tmp_path, server)
    assert time.monotonic() - start < 2
    assert "timed out" in sentence
    assert_hand_advice(sentence, server.url, tmp_path)
    assert files_below(tmp_path) == {"dev-clean.tar.gz.part": server.archive[: 2 * download.CHUNK]}
    release.cancel()


def test_a_server_that_speaks_no_http_is_told(tmp_path: Path, server: Server) -> None:
    server.instead = b"220 mail ready\r\n"
    assert_hand_advice(refusal(tmp_path, server), server.url, tmp_path)


def test_a_name_server_that_does_not_answer_is_given_up(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*args: Any, **options: Any) -> Any:
        server.gone.wait()
        raise socket.gaierror("no answer")

    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    release = threading.Timer(3, server.gone.set)
    release.start()
    start, others = time.monotonic(), set(threading.enumerate())
    sentence = refusal(tmp_path, server)
    assert time.monotonic() - start < 2
    assert all(thread.daemon for thread in set(threading.enumerate()) - others)  # nor does it hold up the exit
    assert "(no answer within 0.1 s)" in sentence
    assert_hand_advice(sentence, server.url, tmp_path)
    release.cancel()


def test_a_name_that_is_not_known_is_told(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    sentence = refusal(tmp_path, server)
    assert "([Errno -2] Name or service not known)" in sentence
    assert_hand_advice(sentence, server.url, tmp_path)


def test_a_wrong_checksum_removes_the_file_and_says_both(tmp_path: Path, server: Server) -> None:
    sentence = refusal(tmp_path, server, md5="0" * 32)
    assert server.md5 in sentence
    assert "0" * 32 in sentence
    assert "again" in sentence
    assert files_below(tmp_path) == {}


def test_the_checksum_of_a_resumed_file_covers_all_of_it(tmp_path: Path, server: Server) -> None:
    part_of(tmp_path, b"x" * 1000)
    assert server.md5 in refusal(tmp_path, server, md5=server.md5).split("expected")[1]
    assert server.asked == [("/dev-clean.tar.gz", "bytes=1000-")]
    assert files_below(tmp_path) == {}


def test_checksums_of_librispeech_are_known(tmp_path: Path, server: Server) -> None:
    assert "42e2234ba48799c1f50f24a7926300a1" in refusal(tmp_path, server, md5=None)
    assert len(download.MD5_SUMS) == 7
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in download.MD5_SUMS.values())


@pytest.mark.parametrize(("name", "told"), [("other.tar.gz", "checksum"), ("dev-clean.zip", ".tar.gz")])
def test_an_archive_that_is_not_known_is_refused_before_any_request(
    tmp_path: Path, server: Server, name: str, told: str
) -> None:
    url = server.url.replace("dev-clean.tar.gz", name)
    sentence = refusal(tmp_path, server, url=url, md5=None)
    assert url in sentence
    assert told in sentence
    assert "dev-clean.tar.gz" in sentence
    assert server.asked == []


def test_an_address_that_is_no_url_is_told(tmp_path: Path, server: Server) -> None:
    assert "unknown url type" in refusal(tmp_path, server, url="dev-clean.tar.gz")


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
def test_a_hostile_member_is_refused_and_nothing_is_written_outside(tmp_path: Path, server: Server, kind: str) -> None:
    folder = tmp_path / "data"
    server.archive = make_archive(FILES, hostile_member(kind, tmp_path / "outside"))
    sentence = refusal(folder, server)
    assert str(folder / "dev-clean.tar.gz.part") in sentence
    assert "plain file" in sentence
    assert files_below(tmp_path) == {}
    assert [path.name for path in folder.rglob("*")] == ["LibriSpeech"]


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(b"<html>log in first</html>", id="no archive"),
        pytest.param(make_archive(FILES)[:-50_000], id="cut off"),
        pytest.param(make_archive(FILES)[:150_000] + b"\xff" * 50_000, id="garbled"),
        pytest.param(make_archive({"LibriSpeech/test-clean/1.flac": FLAC}), id="another split"),
    ],
)
def test_an_archive_without_the_whole_split_is_refused(tmp_path: Path, server: Server, archive: bytes) -> None:
    server.archive = archive
    assert "cannot be unpacked" in refusal(tmp_path, server)
    assert files_below(tmp_path) == {}


def test_an_interrupted_unpacking_leaves_no_split_and_can_go_on(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = tarfile.TarFile.makefile, []

    def interrupted(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        whole(tar, member, path)
        if member.name.endswith(".flac"):
            seen.append((tmp_path / "LibriSpeech" / "dev-clean").exists())  # as a kill at this moment would leave it
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "makefile", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(tmp_path, server)
    assert seen == [False]
    assert files_below(tmp_path) == {"dev-clean.tar.gz.part": server.archive}
    fetch(tmp_path, server)
    assert len(server.served) == 1
    assert files_below(tmp_path) == FILES


def test_what_a_killed_process_left_is_cleared(tmp_path: Path, server: Server) -> None:
    left = tmp_path / "LibriSpeech" / ".dev-clean.unpacking" / "LibriSpeech" / "dev-clean"
    left.mkdir(parents=True)
    (left / "half.flac").write_bytes(b"fLaC")
    fetch(tmp_path, server)
    assert files_below(tmp_path) == FILES


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file").touch()
    sentence = refusal(tmp_path / "file" / "data", server)
    assert str(tmp_path / "file") in sentence
    assert "--data_dir" in sentence
    assert server.asked == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_told(tmp_path: Path, server: Server) -> None:
    part = tmp_path / "dev-clean.tar.gz.part"
    part.symlink_to("/dev/full")
    sentence = refusal(tmp_path, server)
    assert str(part) in sentence
    assert "No space left" in sentence
    assert "cannot be fetched" not in sentence


def test_the_bar_counts_all_bytes_and_hides_without_a_terminal(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bars: list[Any] = []
    options: list[Any] = []

    def shown(**given: Any) -> Any:
        options.append(given["disable"])
        bars.append(tqdm(**given | {"disable": False, "file": io.StringIO()}))
        return bars[-1]

    with monkeypatch.context() as patch:
        patch.setattr(download, "tqdm", shown)
        part_of(tmp_path / "a", server.archive[:1000])
        fetch(tmp_path / "a", server, progress=True)
        fetch(tmp_path / "b", server, progress=False)
    assert options == [None, True]
    assert [(bar.initial, bar.n, bar.total, bar.unit) for bar in bars] == [
        (1000, len(server.archive), len(server.archive), "B"),
        (0, len(server.archive), len(server.archive), "B"),
    ]
    fetch(tmp_path / "c", server, progress=True)
    assert capfd.readouterr() == ("", "")
