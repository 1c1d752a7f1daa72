"""Atomic writing, the checks before it, and digests of what was written."""

import errno
import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from files import (
    OutputError,
    check_not_input,
    check_not_other_kind,
    check_suffix,
    check_writable,
    file_digest,
    write_atomically,
)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_file_and_its_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    assert write_atomically(path, lambda file: file.write(b"new")) == path
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["c.bin"]


@pytest.mark.parametrize("error", [ValueError("bad value"), KeyboardInterrupt()])
def test_failed_write_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "c.bin"
    path.write_bytes(b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"partly written")
        file.flush()
        assert path.read_bytes() == b"old"
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["c.bin"]


def test_full_disk_is_an_output_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "c.bin"
    path.write_bytes(b"old")

    def fail(file: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match=r"c\.bin: cannot be written \(No space left on device\)\. Check"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["c.bin"]


def test_check_writable_makes_the_folder_and_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "deep")
    assert names(tmp_path / "new" / "deep") == []


def test_check_writable_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError) as refusal:
            check_writable(folder)
        assert str(refusal.value).startswith(f"{folder}: nothing can be written into this folder (")


@pytest.mark.parametrize("name", ["out.csv", "OUT.CSV", "a.rttm.csv", ".x.csv"])
def test_check_suffix_accepts_the_suffix(name: str) -> None:
    check_suffix(Path(name), ".csv")


@pytest.mark.parametrize("name", ["out", "out.json", "out.csv.db", ".csv", "csv", "speakers.db"])
def test_check_suffix_refuses_other_names(name: str) -> None:
    with pytest.raises(OutputError, match=r": the output is a \.csv file; give --output a name that ends in \.csv\."):
        check_suffix(Path("folder.csv", name), ".csv")


def test_digest_is_that_of_the_content_while_the_file_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    assert file_digest(path, 3, 1) == hashlib.sha256(b"one").digest()
    path.write_bytes(b"two")
    assert file_digest(path, 3, 1) == hashlib.sha256(b"one").digest()  # cached: same size and modification time
    assert file_digest(path, 3, 2) == hashlib.sha256(b"two").digest()
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "none.wav", 3, 1)


def test_check_not_input_compares_the_files(tmp_path: Path) -> None:
    one, link, other = tmp_path / "one.csv", tmp_path / "link.csv", tmp_path / "other.csv"
    one.write_text("path,speaker\n")
    link.symlink_to(one)
    check_not_input(other, [one, link])
    for output in (one, link, tmp_path / "folder" / ".." / "one.csv"):
        with pytest.raises(OutputError, match=r"\.csv: this is an input, .*; give another --output\."):
            check_not_input(output, [other, one])


def test_check_not_other_kind_keeps_files_of_other_kinds(tmp_path: Path) -> None:
    manifest, unknown = tmp_path / "manifest.csv", tmp_path / "unknown"
    manifest.write_text("path,speaker\n")
    unknown.write_bytes(b"\x00")
    check_not_other_kind(tmp_path / "new", "a speaker verifier")
    check_not_other_kind(manifest, "a manifest of a corpus")
    kinds = {manifest: "a manifest of a corpus", unknown: "a file of an unknown kind", tmp_path: "a folder"}
    for path, kind in kinds.items():
        with pytest.raises(OutputError, match=f"this is {kind}.* The output is a speaker verifier and would overwrite"):
            check_not_other_kind(path, "a speaker verifier")
