"""Tables and lines of text for a terminal."""

import doctest
import math

import pytest

from files import choices, count_of, format_percent, format_table, printable, tables


def test_table_aligns_columns_below_a_rule() -> None:
    table = format_table(["head", "acc"], [["linear", "9.5"], ["lda", "100.0"]], "<>")
    assert table.splitlines() == [
        "head      acc",
        "------  -----",
        "linear    9.5",
        "lda     100.0",
    ]


def test_table_has_headings_before_rows() -> None:
    table = format_table(["a"], [["1"], ["2"]], "<", sections={0: "by utterance", 1: "x" * 200})
    lines = table.splitlines()
    assert lines[2:4] == ["by utterance", "1"]
    assert lines[4:] == ["x" * 200, "2"]  # in full


def test_table_without_rows_has_a_header() -> None:
    assert format_table(["speaker", "n"], [], "<>") == "speaker  n\n-------  -"


def test_table_refuses_rows_of_another_length() -> None:
    with pytest.raises(ValueError, match="zip"):
        format_table(["a", "b"], [["1"]], "<>")


def test_control_characters_cannot_reach_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\udce9") == "a\ufffd[2Jb\ufffdc\ufffd"
    assert printable("Ω š — 李") == "Ω š — 李"
    assert "\x1b" not in format_table(["a"], [["\x1b[31m"]], "<")


def test_percent_has_a_place_for_missing_values() -> None:
    assert format_percent(0.9167) == "91.7"
    assert format_percent(1 / 3, 2) == "33.33"
    assert format_percent(None) == format_percent(math.nan) == "-"
    assert format_percent(None, missing="") == ""


def test_counts_have_a_plural() -> None:
    assert [count_of(number, "speaker") for number in (0, 1, 2)] == ["0 speakers", "1 speaker", "2 speakers"]


@pytest.mark.parametrize("module", [choices, tables])
def test_examples_in_docstrings_hold(module: object) -> None:
    results = doctest.testmod(module)  # type: ignore[arg-type]
    assert results.attempted > 0
    assert results.failed == 0
