"""Read text files and tables that other programs wrote: encodings, line ends, and separators of cells."""

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from files.errors import InputError
from files.file_kinds import other_kind

# The longer marks come first, because the mark of UTF-32 begins as that of UTF-16 does.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
SAMPLE_BYTES = 4096
ADVICE = "Save it as UTF-8: as 'CSV UTF-8' in a spreadsheet program, or with the encoding UTF-8 in a text editor."


def read_text(
    path: Path, kind: str, error_class: type[InputError], *, errors: Literal["strict", "surrogateescape"] = "strict"
) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark.

    Parameters
    ----------
    path : Path
    kind : str
        Expected kind of file, as `other_kind` takes it.
    error_class : type
        Class of the error.
    errors : str
        Treatment of bytes that are not valid UTF-8, as `bytes.decode` has it. ``surrogateescape`` keeps the names of
        files, which can have any bytes.

    Raises
    ------
    error_class
        The file cannot be read, or is not a text in UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise error_class(f"{path}: this file cannot be read ({error.strerror}).") from error
    encoding = _other_encoding(content)
    if encoding is not None:
        raise error_class(
            other_kind(path, kind) or f"{path}: this text is in {encoding}; expected a text in UTF-8. {ADVICE}"
        )
    if b"\x00" in content:
        raise error_class(other_kind(path, kind) or f"{path}: this is not a text file; expected {kind}.")
    try:
        return content.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"{path}, line {line}: the byte 0x{content[error.start]:02x} is not valid UTF-8, so the text is in "
        raise error_class(
            other_kind(path, kind) or f"{found}another encoding, such as Windows-1252. {ADVICE}"
        ) from error


def read_lines(path: Path, kind: str, error_class: type[InputError]) -> list[str]:
    """Read the lines of a text file as `read_text` does, without their ends, of whatever system.

    Bytes that are not valid UTF-8 are kept, because lines can have names of files.

    Raises
    ------
    error_class
        As in `read_text`.
    """
    text = read_text(path, kind, error_class, errors="surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def table_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells, without spaces around them, of each row that is not empty.

    The number is that of the last line of a row.

    Raises
    ------
    csv.Error
        A row cannot be split into cells, such as after a quotation mark that is not closed.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    begin = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(f"in the row that begins in line {begin}: {error}") from error


def _other_encoding(content: bytes) -> str | None:
    """Return the encoding of a text in UTF-16 or UTF-32, which may lack the byte-order mark; otherwise None."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return encoding
    # In UTF-16, every second byte of Latin letters is 0, and no other byte.
    first, second = content[:SAMPLE_BYTES:2], content[1:SAMPLE_BYTES:2]
    halves = sorted([first.count(0), second.count(0)])
    return "UTF-16" if halves[0] == 0 and halves[1] > len(second) / 2 else None
