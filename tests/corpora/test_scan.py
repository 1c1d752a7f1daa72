"""`find_audio` and `find_recordings`: which files are listed or skipped, and links."""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from corpora import CorpusError, find_audio, find_recordings, load_corpus

posix_only = pytest.mark.skipif(
    os.name != "posix", reason="named pipes and file names of any bytes exist only on POSIX"
)


def lay_out(root: Path, files: Iterable[str], content: bytes = b"not audio") -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.mark.parametrize("as_given", [Path, str, lambda path: f"{path}{os.sep}"])
def test_paths_are_relative_posix_and_sorted(as_given: Callable[[Path], str | Path], tmp_path: Path) -> None:
    lay_out(tmp_path, ["b/2.wav", "b/10.wav", "a/deep/er/x.flac", "B.ogg", "b.c/1.wav", "b/1.wav"])
    assert find_audio(as_given(tmp_path)) == [
        "B.ogg",
        "a/deep/er/x.flac",
        "b.c/1.wav",
        "b/1.wav",
        "b/10.wav",
        "b/2.wav",
    ]


def test_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lay_out(tmp_path, ["ann/1.wav"]))
    assert find_audio(".") == ["ann/1.wav"]


def test_folder_without_files_has_no_audio(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").mkdir()
    assert find_audio(tmp_path) == []


@pytest.mark.parametrize(
    "suffix",
    [
        "wav",
        "WAV",
        "Wave",
        "flac",
        "FLAC",
        "ogg",
        "oga",
        "opus",
        "mp3",
        "MP3",
        "aif",
        "AIFF",
        "aifc",
        "au",
        "snd",
        "caf",
        "w64",
        "sph",
        "m4a",
        "aac",
        "wma",
        "mp4",
        "webm",
        "amr",
        "AWB",
        "3gp",
        "mka",
        "mov",
        "wv",
        "ape",
        "ac3",
        "spx",
        "GSM",
        "pcm",
        "raw",
        "vox",
    ],
)
@pytest.mark.parametrize("content", [b"", b"a text"])
def test_file_with_audio_suffix_is_listed_with_any_content(suffix: str, content: bytes, tmp_path: Path) -> None:
    lay_out(tmp_path, [f"ann/take.1.{suffix}"], content)
    assert find_audio(tmp_path) == [f"ann/take.1.{suffix}"]


@pytest.mark.parametrize("name", ["take1", "take1.dat", "take1.wav.part", "take1.WAV_", "84-121123-0000"])
@pytest.mark.parametrize(
    "container", ["WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "NIST", "VOC"]
)
def test_file_with_other_suffix_is_recognised_by_first_bytes(container: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    soundfile.write(tmp_path / "ann" / name, np.full(100, 0.1), 16_000, format=container)
    assert find_audio(tmp_path) == [f"ann/{name}"]


@pytest.mark.parametrize("suffix", [".m4a", ".mp4", ".mov", ".3gp", ".aac", ".amr", ".webm", ".mka", ".wma"])
def test_container_with_other_suffix_is_recognised_by_first_bytes(
    suffix: str, write_compressed: Callable[..., Path], tmp_path: Path
) -> None:
    write_compressed(tmp_path / f"ann/take{suffix}", 0.3).rename(tmp_path / "ann/take1")
    assert find_audio(tmp_path) == ["ann/take1"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"R",
        b"84-121123-0000 GO\n",
        b" RIFF\x24\x00\x00\x00WAVE",
        b"RIFF\x24\x00\x00\x00AVI LIST",
        b"RIFF\x24\x00\x00\x00WEBPVP8 ",
        b"RIFF\x24\x00",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
        b"\xff\xfea\x00 \x00t\x00",
        b"\x00\x00\x00\x18ftypheic",
        b"RFC 3533",
        b"FOR THE RECORD",
        b"cafe",
        b"fLac",
        b"Ogg",
        b".so",
        b"PK\x03\x04 OggS fLaC",
        b"\x00\x00\x00\x00",
    ],
)
@pytest.mark.parametrize("name", ["notes.txt", "notes", "wav", "cover.png"])
def test_other_files_are_skipped(content: bytes, name: str, tmp_path: Path) -> None:
    lay_out(tmp_path, [f"ann/{name}"], content)
    assert find_audio(tmp_path) == []


def test_hidden_files_and_folders_are_skipped(tmp_path: Path) -> None:
    lay_out(tmp_path, [".1.wav", "._2.wav", ".wav", ".trash/3.wav", "ann/.cache/4.wav", "ann/.5.wav", "ann/6.wav"])
    assert find_audio(tmp_path) == ["ann/6.wav"]


def test_hidden_root_is_searched(tmp_path: Path) -> None:
    assert find_audio(lay_out(tmp_path / ".data", ["ann/1.wav"])) == ["ann/1.wav"]


def test_folder_with_audio_suffix_is_searched(tmp_path: Path) -> None:
    lay_out(tmp_path, ["ann.wav/1.flac"])
    assert find_audio(tmp_path) == ["ann.wav/1.flac"]


@pytest.mark.parametrize("content", [b"FORMAT: path, speaker\n", b"caffeine\n", b"FORM\x00\x00\x00\x20ILBMBMHD"])
def test_text_or_picture_that_begins_like_a_container_is_skipped(content: bytes, tmp_path: Path) -> None:
    lay_out(tmp_path, ["ann/notes.txt"], content)
    assert find_audio(tmp_path) == []


def test_files_that_are_passed_over_are_counted_by_suffix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay_out(tmp_path, ["ann/1.wav", ".hidden.txt", *(f"ann/{number}.TXT" for number in range(12)), "a.txt", "README"])
    lay_out(tmp_path, [f"{number}.{suffix}" for suffix in ("jpg", "py", "md", "cfg", "h5") for number in range(2)])
    with caplog.at_level(logging.INFO):
        assert find_audio(tmp_path) == ["ann/1.wav"]
    assert caplog.messages == [f"{tmp_path}: passed over: 13 .txt, 2 .cfg, 2 .h5, 2 .jpg, 2 .md, 3 others"]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        find_audio(lay_out(tmp_path / "few", ["1.wav", "LICENSE"]))
        find_audio(lay_out(tmp_path / "none", ["1.wav"]))
    assert caplog.messages == [f"{tmp_path / 'few'}: passed over: 1 without a suffix"]


def test_folder_without_audio_is_refused_with_what_it_has(tmp_path: Path) -> None:
    lay_out(tmp_path, ["1.txt", "2.txt", "3.jpg"])
    for load in (load_corpus, find_recordings):
        with pytest.raises(CorpusError, match=r"there is no audio in this folder, only 2 \.txt, 1 \.jpg\. Give"):
            load(tmp_path)


# Links


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    lay_out(tmp_path / "elsewhere", ["ann/1.wav", "2.wav"])
    (tmp_path / "root").mkdir()
    (tmp_path / "root/ann").symlink_to(tmp_path / "elsewhere/ann")
    (tmp_path / "root/two.wav").symlink_to("../elsewhere/2.wav")
    assert find_audio(tmp_path / "root") == ["ann/1.wav", "two.wav"]


def test_links_to_parent_folders_are_visited_once(tmp_path: Path) -> None:
    lay_out(tmp_path, ["ann/monday/1.wav"])
    (tmp_path / "ann/monday/self").symlink_to(".")
    (tmp_path / "ann/up").symlink_to("..")
    (tmp_path / "ann/monday/root").symlink_to(tmp_path)
    assert find_audio(tmp_path) == ["ann/monday/1.wav"]


def test_links_between_two_folders_are_visited_once(tmp_path: Path) -> None:
    lay_out(tmp_path / "root", ["ann/1.wav"])
    lay_out(tmp_path / "other", ["bob/2.wav"])
    (tmp_path / "root/other").symlink_to(tmp_path / "other")
    (tmp_path / "other/back").symlink_to(tmp_path / "root")
    assert find_audio(tmp_path / "root") == ["ann/1.wav", "other/bob/2.wav"]


def test_dangling_link_with_audio_suffix_is_listed(tmp_path: Path) -> None:
    lay_out(tmp_path, ["ann/1.wav"])
    (tmp_path / "ann/2.wav").symlink_to("gone.wav")
    (tmp_path / "ann/notes.txt").symlink_to("gone.txt")
    assert find_audio(tmp_path) == ["ann/1.wav", "ann/2.wav"]
    assert [problem.kind for problem in load_corpus(tmp_path).validate() if problem.subject == "ann/2.wav"] == [
        "missing"
    ]


def test_folder_that_cannot_be_opened_is_skipped_with_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lay_out(tmp_path, ["ann/1.wav", "locked/2.wav", "zoë/3.wav"])
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_audio(tmp_path) == ["ann/1.wav", "zoë/3.wav"]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert str(tmp_path / "locked") in record.getMessage()
    assert "Permission denied" in record.getMessage()


def test_link_to_itself_is_skipped(tmp_path: Path) -> None:
    lay_out(tmp_path, ["ann/1.wav"])
    (tmp_path / "ann/knot").symlink_to("knot")
    assert find_audio(tmp_path) == ["ann/1.wav"]


def test_result_does_not_depend_on_order_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, ["ann/1.wav"])
    (tmp_path / "bob").symlink_to("ann")
    scandir = os.scandir
    found = []
    for backwards in (False, True):

        @contextmanager
        def ordered(path: str, backwards: bool = backwards) -> Iterator[Iterator[os.DirEntry[str]]]:
            with scandir(path) as entries:
                yield iter(sorted(entries, key=lambda entry: entry.name, reverse=backwards))

        monkeypatch.setattr(os, "scandir", ordered)
        found.append(find_audio(tmp_path))
    assert found[0] == found[1]


# File names and pipes of POSIX


@posix_only
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses names that are not UTF-8")
def test_file_names_that_are_not_utf8_are_listed(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    lay_out(tmp_path, [f"ann/{name}", "ann/é.wav"])
    assert sorted(find_audio(tmp_path)) == sorted([f"ann/{name}", "ann/é.wav"])
    assert all((tmp_path / path).is_file() for path in find_audio(tmp_path))


@posix_only
def test_pipe_is_skipped_without_waiting(tmp_path: Path) -> None:
    lay_out(tmp_path, ["ann/1.wav"])
    os.mkfifo(tmp_path / "ann/pipe.wav")
    os.mkfifo(tmp_path / "ann/pipe")
    assert find_audio(tmp_path) == ["ann/1.wav"]


# find_recordings


def test_recordings_of_a_file_or_a_folder(tmp_path: Path) -> None:
    lay_out(tmp_path, ["ann/1.wav", "ann/notes.txt", "2.wav"])
    assert find_recordings([tmp_path / "ann/notes.txt"]) == [tmp_path / "ann/notes.txt"]
    assert find_recordings([tmp_path]) == [tmp_path / "2.wav", tmp_path / "ann/1.wav"]


def test_recordings_of_several_paths_are_listed_once_in_their_order(tmp_path: Path) -> None:
    lay_out(tmp_path, ["ann/1.wav", "ann/2.wav", "3.wav"])
    given = [tmp_path / "ann/2.wav", tmp_path / "gone.wav", tmp_path]
    # A missing file is kept, so that it is reported as failed.
    assert find_recordings(given) == [
        tmp_path / "ann/2.wav", tmp_path / "gone.wav", tmp_path / "3.wav", tmp_path / "ann/1.wav"
    ]  # fmt: skip


def test_recordings_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="No recording is given"):
        find_recordings([])
    with pytest.raises(CorpusError, match=r"gone\.wav: no such file or folder"):
        find_recordings([tmp_path / "gone.wav"])
    with pytest.raises(CorpusError, match="there is no audio in this folder"):
        find_recordings([tmp_path])
