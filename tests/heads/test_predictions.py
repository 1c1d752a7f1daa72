"""Predictions as a table and as files."""

import csv
import json
from pathlib import Path

import pytest

from files import OutputError
from heads import Prediction, predictions_table, write_predictions

PREDICTIONS = [
    Prediction(Path("a, b.wav"), ("ann", "bob"), (0.75, 0.25)),
    Prediction(Path("café/x.wav"), error='no such file, "really"'),
]


def test_csv_has_one_row_per_file(tmp_path: Path) -> None:
    write_predictions(tmp_path / "new" / "p.csv", PREDICTIONS, top_k=3)
    with open(tmp_path / "new" / "p.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["path", "speaker", "probability", "speaker_2", "probability_2", "speaker_3", "probability_3", "error"],
        ["a, b.wav", "ann", "0.75", "bob", "0.25", "", "", ""],
        ["café/x.wav", "", "", "", "", "", "", 'no such file, "really"'],
    ]


def test_json_is_a_list_of_files(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.JSON", PREDICTIONS, top_k=3)
    assert json.loads((tmp_path / "p.JSON").read_text()) == [
        {
            "path": "a, b.wav",
            "predictions": [{"speaker": "ann", "probability": 0.75}, {"speaker": "bob", "probability": 0.25}],
            "error": None,
        },
        {"path": "café/x.wav", "predictions": [], "error": 'no such file, "really"'},
    ]


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.csv or \.json"):
        write_predictions(tmp_path / "p.txt", PREDICTIONS, top_k=3)


def test_table_lists_the_files_that_were_read() -> None:
    lines = predictions_table(PREDICTIONS).splitlines()
    assert len(lines) == 3
    assert lines[2].split() == ["a,", "b.wav", "ann", "75.0", "bob", "25.0"]
