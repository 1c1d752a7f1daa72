"""`prepare_data.py`: from RTTM files to segments that the other scripts use, downloads, and descriptions."""

import csv
import hashlib
import io
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

import pytest

from config import LibriSpeechSplit
from corpora import MD5_SUMS, archive_url
from features import FeatureSet

WriteAudio = Callable[..., Path]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]
PREPARE = "prepare_data.py"


def write_rttm(path: Path, meeting: str, *more: str) -> None:
    lines = [
        f"SPEAKER {meeting} 1 {2 * number} 1.75 <NA> <NA> {speaker} <NA> <NA>\n"
        for number, speaker in enumerate(["001-M", "002-F", "001-M", "002-F"])
    ]
    path.write_text("".join([*lines, *more]))


@pytest.fixture
def meetings(write_audio: WriteAudio, tmp_path: Path) -> Path:
    """Return a folder with two meetings of two speakers each."""
    root = tmp_path / "meetings"
    for number, name in enumerate(("L_R1", "L_R2")):
        write_audio(root / "wav" / f"{name}.flac", seconds=8, seed=number, channels=2)
        (root / "TextGrid").mkdir(exist_ok=True)
        write_rttm(root / "TextGrid" / f"{name}.rttm", name)
    return root


def segments(root: Path, output: Path, *flags: object) -> list[object]:
    return [PREPARE, "segments", "--rttm_dir", root / "TextGrid", "--audio_dir", root / "wav", "--output_dir", output,
            *flags]  # fmt: skip


def test_segments_are_extracted_from_the_manifest_and_from_files(
    meetings: Path, call_script: Run, tmp_path: Path
) -> None:
    vectors = []
    for name, flags in (("parts", []), ("files", ["--write_audio", "--audio_format", "flac"])):
        done = call_script(*segments(meetings, tmp_path / name, *flags))
        assert done.returncode == 0, done.stderr
        again = call_script(*segments(meetings, tmp_path / name, *flags))  # its own files are replaced
        assert (again.returncode, again.stdout) == (0, done.stdout), again.stderr
        printed = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines() if line.endswith(("2", "4", "8")))
        assert printed.items() >= {"meetings": "2", "speakers": "4", "segments": "8"}.items()
        assert "labels of speakers are local to a meeting" in done.stdout
        assert f"Saved {tmp_path / name / 'manifest.csv'}" in done.stdout
        path = tmp_path / f"{name}.pt"
        extracted = call_script(
            "extract_features.py", tmp_path / name, "--encoder", "spectral", "--features_path", path
        )
        assert extracted.returncode == 0, extracted.stderr
        vectors.append(FeatureSet.load(path))
    parts, files = vectors
    assert parts.speakers == files.speakers == ("L_R1_001-M", "L_R1_002-F", "L_R2_001-M", "L_R2_002-F")
    assert files.ids[1] == "L_R1_002-F_0001.flac"
    # The means of two channels are rounded to 16 bits in the files.
    assert (parts.features - files.features).norm() < 1e-2 * parts.features.norm()


def test_faults_are_printed_and_the_exit_code_says_so(meetings: Path, call_script: Run, tmp_path: Path) -> None:
    write_rttm(meetings / "TextGrid/L_R1.rttm", "L_R1", "SPEAKER L_R1 1 -1 2 <NA> <NA> 001-M <NA> <NA>\n")
    write_rttm(meetings / "TextGrid/L_R3.rttm", "L_R3")
    done = call_script(*segments(meetings, tmp_path / "out"))
    assert done.returncode == 3
    assert "negative times: 1 line: L_R1.rttm, line 5 (" in done.stdout
    assert "no audio: 4 lines: L_R3.rttm: L_R3\n" in done.stdout
    assert "dropped: no audio" in done.stdout
    with (tmp_path / "out/manifest.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 8


def test_a_list_keeps_its_segments(meetings: Path, call_script: Run, tmp_path: Path) -> None:
    listed = tmp_path / "data_fixed.csv"
    listed.write_text("path,label\nx/L_R2_001-M_0002.wav,anna\nx/L_R2_001-M_0009.wav,anna\n")
    done = call_script(*segments(meetings, tmp_path / "out", "--list", listed, "--channel", "1"))
    assert done.returncode == 3
    assert "1 listed segment missing (no such line in the RTTM files): L_R2_001-M_0009" in done.stdout
    with (tmp_path / "out/manifest.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["speaker"], row["session"], row["channel"], row["name"]) == ("anna", "L_R2", "1", "L_R2_001-M_0002")


def test_what_cannot_work_is_refused_in_a_sentence(
    meetings: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert_refused(call_script(PREPARE, "segments"), "--rttm_dir FOLDER --audio_dir FOLDER")
    assert_refused(call_script(*segments(meetings, out, "--min_duration", 3)), "no segment is left")
    assert not (out / "manifest.csv").exists()
    assert_refused(call_script(*segments(meetings, out, "--max_duration", 1)), "--max_duration is 1, below")
    assert_refused(call_script(*segments(meetings, out, "--max_overlap", 20)), "--max_overlap is 20; expected 0 to 1")
    out.mkdir(exist_ok=True)
    (out / "manifest.csv").write_text("path,speaker\na.wav,anna\n")
    assert_refused(call_script(*segments(meetings, out)), "manifest.csv: this is a manifest of a corpus")
    assert_refused(call_script(PREPARE, "cut"), "cut")
    wrong = call_script(PREPARE, "download", "--split", "dev-other", "--download_url", "https://x.org/dev-clean.tar.gz")
    assert_refused(wrong, "expected the URL of dev-other.tar.gz")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a small archive as if it were dev-other, with its checksum; return the URL of the folder."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    with tarfile.open(folder / "dev-other.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("LibriSpeech/dev-other/116/288045/116-288045-0000.flac")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"fLaC"))
    digest = hashlib.md5((folder / "dev-other.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setitem(MD5_SUMS, "dev-other", digest)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_a_split_is_downloaded_from_openslr_or_a_mirror(
    mirror: str, call_script: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpora.download.OPENSLR", mirror)
    url = f"{mirror}/dev-other.tar.gz"
    for name, flags in (("one", []), ("two", ["--download_url", url])):
        folder = tmp_path / name
        done = call_script(PREPARE, "download", "--split", "dev-other", "--data_dir", folder, *flags)
        assert done.returncode == 0, done.stderr
        assert f"Corpus: {folder}/LibriSpeech/dev-other\n" in done.stdout
        assert (folder / "LibriSpeech/dev-other/116/288045/116-288045-0000.flac").read_bytes() == b"fLaC"


def test_the_default_url_is_that_of_the_split() -> None:
    for split in get_args(LibriSpeechSplit):
        assert archive_url(split) == f"https://www.openslr.org/resources/12/{split}.tar.gz"


def test_a_corpus_is_described(corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path) -> None:
    done = call_script(PREPARE, "describe", corpus_root, "--output_dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "utterances                    40 in 40 files\n" in done.stdout
    for name in ("corpus.csv", "corpus.json", "corpus.html"):
        assert f"Saved {tmp_path / name}\n" in done.stdout
    assert f"prepare_data.py describe {corpus_root}" in (tmp_path / "corpus.html").read_text()
    again = call_script(PREPARE, "describe", "--data_dir", corpus_root, "--output_dir", tmp_path)
    assert again.returncode == 0, again.stderr
    assert_refused(call_script(PREPARE, "describe"), "Give the folder of the corpus")


def test_files_that_cannot_be_read_give_another_exit_code(
    write_audio: WriteAudio, call_script: Run, tmp_path: Path
) -> None:
    write_audio(tmp_path / "voices/ann_1.wav")
    (tmp_path / "voices/ben_1.wav").write_bytes(b"not audio" * 10)
    flags = ["--pattern", "{speaker}_*", "--output_dir", tmp_path / "out"]
    done = call_script(PREPARE, "describe", tmp_path / "voices", *flags)
    assert done.returncode == 3
    assert "failed: ben_1.wav: this is not audio" in done.stdout
