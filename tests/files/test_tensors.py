"""Files of tensors: what is loaded, what is refused, and that nothing in them is run."""

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from files import (
    InputError,
    OutputError,
    describe_file,
    file_kinds,
    load_checked,
    load_tensors,
    read_checked,
    tensors_from_bytes,
    tensors_to_bytes,
    write_tensors,
)

CONTENT = {"format": 1, "rows": torch.arange(6.0).reshape(2, 3), "names": ["a", "b"], "options": {"lr": 0.5}}


class ToyError(InputError):
    """Error of the toy room."""


class Hostile:
    """An object whose loading makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def load(path: Path) -> Any:
    """Load the rows of a toy file, of format 1 or 3."""
    readers = {1: lambda content, _: content["rows"], 3: lambda content, _: content["rows"] * 3}
    return load_checked(path, readers, kind="a toy file", error_class=ToyError, advice="Make it again.")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a path whose folder does not exist yet."""
    return tmp_path / "new" / "toy.pt"


def test_tensors_are_read_as_they_were_written(path: Path) -> None:
    assert write_tensors(path, CONTENT) == path
    loaded = load_tensors(path, "a toy file", ToyError)
    assert {**loaded, "rows": None} == {**CONTENT, "rows": None}
    assert torch.equal(loaded["rows"], CONTENT["rows"])  # type: ignore[arg-type]
    assert [entry.name for entry in path.parent.iterdir()] == ["toy.pt"]


def test_files_in_a_folder_whose_name_is_not_utf8_are_read(tmp_path: Path) -> None:
    path = write_tensors(tmp_path / "caf\udce9" / "toy.pt", {**CONTENT, "features": CONTENT["rows"], "labels": [0, 1]})
    assert torch.equal(load_tensors(path, "a toy file", ToyError)["rows"], CONTENT["rows"])  # type: ignore[arg-type]
    assert describe_file(path) == file_kinds.FEATURES


def test_bytes_are_those_of_the_file(path: Path) -> None:
    loaded = tensors_from_bytes(tensors_to_bytes(CONTENT), path, "a toy file", error_class=ToyError)
    assert torch.equal(loaded["rows"], CONTENT["rows"])  # type: ignore[arg-type]
    with pytest.raises(ToyError, match=re.escape(f"{path}: this is not a toy file")):
        tensors_from_bytes(b"text", path, "a toy file", error_class=ToyError)


def test_each_format_has_its_own_reader(path: Path) -> None:
    assert load(write_tensors(path, CONTENT)).sum() == 15
    assert load(write_tensors(path, {**CONTENT, "format": 3})).sum() == 45


@pytest.mark.parametrize("number", [0, 2, -1, True, 1.0, "1", None, [1], torch.tensor(1)])
def test_unknown_formats_are_refused(path: Path, number: object) -> None:
    write_tensors(path, {**CONTENT, "format": number})
    with pytest.raises(ToyError) as refusal:
        load(path)
    assert str(refusal.value) == (
        f"{path}: this is not a toy file of format 1, 3; its format is {number!r}. Make it again."
    )


def test_newer_formats_ask_for_an_update(path: Path) -> None:
    write_tensors(path, {**CONTENT, "format": 99})
    with pytest.raises(ToyError) as refusal:
        load(path)
    assert str(refusal.value) == (
        f"{path}: its format is 99, but this version of Voxprobe reads up to 3. Update Voxprobe, or make it again."
    )


def test_content_of_another_kind_is_refused(path: Path) -> None:
    write_tensors(path, {"state_dict": {}})
    with pytest.raises(ToyError) as refusal:
        load(path)
    assert str(refusal.value) == (
        f"{path}: this is not a toy file of format 1, 3; it has no format number. Make it again."
    )


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), "text", 3])
def test_files_without_a_dict_are_refused(path: Path, content: object) -> None:
    path.parent.mkdir()
    torch.save(content, path)
    with pytest.raises(ToyError, match=f"not a toy file; it holds a {type(content).__name__}, expected a dict"):
        load(path)


@pytest.mark.parametrize("rows", [None, "text", [torch.zeros(2)]])
def test_damaged_content_is_refused_with_the_reason(path: Path, rows: object) -> None:
    write_tensors(path, {"format": 3, "rows": rows} if rows is not None else {"format": 3})
    readers = {3: lambda content, _: content["rows"].sum()}
    with pytest.raises(ToyError, match=r"not a toy file, or it is damaged \((Key|Attribute)Error.*\). Make"):
        load_checked(path, readers, kind="a toy file", error_class=ToyError, advice="Make it again.")


def test_errors_of_a_reader_keep_their_message() -> None:
    def refuse(content: dict[str, Any], path: Path) -> None:
        raise ToyError(f"{path} has {content['rows']} rows.")

    with pytest.raises(ToyError, match=r"^toy.pt has 3 rows\.$"):
        read_checked(
            {"format": 1, "rows": 3}, Path("toy.pt"), {1: refuse}, kind="toy", error_class=ToyError, advice="None."
        )


@pytest.mark.parametrize("is_zip", [True, False])
def test_hostile_file_is_refused_and_runs_nothing(path: Path, is_zip: bool) -> None:
    path.parent.mkdir()
    made = path.with_name("made")
    content = {"format": 1, "rows": Hostile(made)}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ToyError, match=r"this is not a toy file\. .*could run code"):
        load(path)
    assert not made.exists()
    # Without these checks the file does harm.
    torch.load(path, weights_only=False)
    assert made.exists()


def test_pickle_of_another_program_is_refused(path: Path) -> None:
    path.parent.mkdir()
    made = path.with_name("made")
    path.write_bytes(pickle.dumps({"format": 1, "rows": Hostile(made)}, protocol=2))
    with pytest.raises(ToyError, match="this is not a toy file"):
        load(path)
    assert not made.exists()


def test_text_and_cut_files_are_refused(path: Path) -> None:
    data = write_tensors(path, CONTENT).read_bytes()
    for content in (b"", b"text", data[:100], data[: len(data) // 2], data[:-30]):
        path.write_bytes(content)
        with pytest.raises(ToyError, match=r"toy\.pt: this is not a toy file"):
            load(path)


def test_missing_file_and_folder_are_refused(path: Path) -> None:
    with pytest.raises(ToyError, match=r"toy\.pt: no such file\. Expected a toy file\."):
        load(path)
    path.mkdir(parents=True)
    with pytest.raises(ToyError, match=r"toy\.pt: this is a folder\. Expected a toy file\."):
        load(path)


def test_file_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_tensors(tmp_path / "file" / "toy.pt", CONTENT)
