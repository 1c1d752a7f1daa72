"""Records in CSV and JSON files."""

import json
import math
from pathlib import Path

import pytest

from files import OutputError, Record, read_csv, without_nan, write_csv, write_json

# The name of a file whose bytes are not valid UTF-8, as Python represents it.
UNDECODABLE = b"caf\xe9.wav".decode("utf-8", "surrogateescape")


def test_csv_round_trip_keeps_names_and_empties_nan(tmp_path: Path) -> None:
    records: list[Record] = [
        {"path": UNDECODABLE, "speaker": 'Ω, "quoted"\nand broken', "score": 0.1},
        {"path": "b.wav", "speaker": "", "score": math.nan},
        {"path": "c.wav", "speaker": None, "score": -math.inf},
    ]
    path = write_csv(tmp_path / "new" / "table.csv", records)
    assert b"caf\xe9.wav" in path.read_bytes()
    assert read_csv(path) == [
        {"path": UNDECODABLE, "speaker": 'Ω, "quoted"\nand broken', "score": "0.1"},
        {"path": "b.wav", "speaker": "", "score": ""},
        {"path": "c.wav", "speaker": "", "score": ""},
    ]
    assert float(read_csv(path)[0]["score"]) == 0.1


def test_csv_of_a_missing_file_has_no_rows(tmp_path: Path) -> None:
    assert read_csv(tmp_path / "none.csv") == []


def test_csv_keeps_the_order_of_columns(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "table.csv", [{"b": 1, "a": 2}, {"a": 4, "b": 3}])
    assert path.read_text().splitlines() == ["b,a", "1,2", "3,4"]


def test_csv_with_other_keys_is_refused_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "table.csv", [{"a": 1}])
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        write_csv(path, [{"a": 2}, {"b": 3}])
    assert read_csv(path) == [{"a": "1"}]


def test_json_has_null_for_nan_at_any_depth(tmp_path: Path) -> None:
    content = {"rows": [{"eer": math.nan, "n": 3}, {"eer": 0.5, "n": [math.inf, -math.inf]}], "name": UNDECODABLE}
    path = write_json(tmp_path / "metrics.json", content)
    expected = {"rows": [{"eer": None, "n": 3}, {"eer": 0.5, "n": [None, None]}], "name": UNDECODABLE}
    assert json.loads(path.read_text(encoding="utf-8")) == expected


def test_without_nan_leaves_its_argument_unchanged() -> None:
    content = {"values": [1.5, math.nan, "nan", True, None]}
    assert without_nan(content) == {"values": [1.5, None, "nan", True, None]}
    assert math.isnan(content["values"][1])  # type: ignore[arg-type]


def test_records_that_cannot_be_written_are_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_csv(tmp_path / "file" / "table.csv", [{"a": 1}])
    with pytest.raises(OutputError, match="cannot be written"):
        write_json(tmp_path / "file" / "table.json", {"a": 1})
