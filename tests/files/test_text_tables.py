"""`read_text`, `read_lines` and `table_rows`: texts as other programs and other systems write them."""

import csv
from pathlib import Path

import pytest

from files import InputError, read_csv, read_lines, read_text, table_rows


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_all_systems_are_read(encoding: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(f"Zoë{end}{end}ann\t\u2028ben{end}".encode(encoding))
    assert read_lines(path, "a list", InputError) == ["Zoë", "", "ann\t\u2028ben", ""]


def test_bytes_of_file_names_are_kept_in_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"first\nZo\xeb\n")
    assert read_lines(path, "a list", InputError)[1].encode("utf-8", "surrogateescape") == b"Zo\xeb"
    with pytest.raises(InputError, match=r"list\.txt, line 2: the byte 0xeb is not valid UTF-8.*Save it as UTF-8"):
        read_text(path, "a list", InputError)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_named(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("1 a.wav b.wav\n".encode(encoding))
    with pytest.raises(InputError, match=rf"list\.txt: this text is in {encoding[:6].upper()}; expected .*Save it as"):
        read_lines(path, "a list", InputError)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\x00\x01\x00\x00ab")
    with pytest.raises(InputError, match=r"list\.txt: this is not a text file; expected a list\."):
        read_lines(path, "a list", InputError)
    with pytest.raises(InputError, match=r"gone\.txt: this file cannot be read \(No such file or directory\)"):
        read_lines(tmp_path / "gone.txt", "a list", InputError)


def test_rows_have_the_number_of_their_last_line() -> None:
    text = '\n"a\nb", c \n , \nd;e,f'
    assert list(table_rows(text, ",")) == [(3, ["a\nb", "c"]), (5, ["d;e", "f"])]
    with pytest.raises(csv.Error, match=r"in the row that begins in line 2: "):
        list(table_rows('a,b\n"c,d\ne,f\n', ","))


def test_a_table_that_a_spreadsheet_program_saved_again_is_read(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_bytes("name,value\r\nZoë,1\r\n".encode("utf-8-sig"))
    assert read_csv(path) == [{"name": "Zoë", "value": "1"}]
