"""Read a manifest: a CSV file that lists the utterances of a corpus."""

import csv
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from corpora.corpus import CorpusError, Utterance
from corpora.layout_registry import layout
from corpora.manifest_columns import Columns, columns_without_header, find_columns
from corpora.split_names import split_of
from files import existing_path, is_missing, listing, other_kind, read_text, table_rows

logger = logging.getLogger(__name__)

MANIFEST = "manifest.csv"
FILE_KIND = "a manifest of a corpus (a CSV file with the columns path and speaker)"
EXPECTED = "path,speaker[,session,start,duration|end,channel,name,split]"
DELIMITERS = ",;\t|"
# The columns of a table of predictions of this project, whose speakers are not labels.
PREDICTIONS = {"path", "speaker", "probability", "error"}
# A number, or a time of day such as 00:01:02.5.
TIME = re.compile(r"[-+]?[\d.,:]*\d[\d.,:]*(?:e[-+]?\d+)?", re.IGNORECASE)
# A number with a comma that can separate thousands or decimals.
AMBIGUOUS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
# Maximum difference of the duration from the end minus the start, if all are given (seconds): they may be rounded.
TOLERANCE = 0.01 + 1e-9
# The word for the mean of all channels.
MEAN = "mean"

Row = tuple[int, list[str]]


@dataclass(frozen=True)
class _Table:
    """The columns of a manifest, and its rows with their line numbers."""

    columns: Columns
    rows: Sequence[Row]
    delimiter: str


@layout("manifest")
def read_manifest(root: Path, files: Sequence[str]) -> Iterator[Utterance]:
    """Read a CSV file ``path,speaker[,session,start,duration|end,channel,name,split]``.

    Paths are relative to its folder. Times are in seconds. Channels are numbered from 0; an empty cell or ``mean`` is
    the mean of all. Names of segments are for people, and not used. Cells may be separated by commas, semicolons, tabs
    or ``|``; other usual names of the columns are read too (`manifest_columns.NAMES`), and each column that is not used
    is logged.
    """
    manifest = root if root.is_file() else root / MANIFEST
    if not manifest.exists():
        raise CorpusError(f"{root}: there is no {MANIFEST} in this folder; the layout 'manifest' needs one.")
    table = _read_table(manifest, read_text(manifest, FILE_KIND, CorpusError))
    if not table.rows:
        raise CorpusError(f"{manifest}: the manifest lists no utterance.")
    _check_names(manifest, table)
    _warn_of_other_splits(manifest, table)
    for line, cells in table.rows:
        values = {column: cells[place] for column, place in table.columns.places.items() if place < len(cells)}
        yield _utterance(manifest, line, values, table=table)


def _read_table(manifest: Path, text: str) -> _Table:
    """Split the text into cells by the delimiter with which its first line is a header, or by that of two columns."""
    found = re.search(r"[^\r\n]*\S[^\r\n]*", text)  # the first line that is not empty
    first = found[0] if found else ""
    header = {delimiter: _cells(first, delimiter) for delimiter in DELIMITERS}
    for delimiter, names in header.items():
        columns = find_columns(names)
        if columns.are_complete and not set(names) >= PREDICTIONS:
            if columns.problem is not None:
                raise CorpusError(f"{manifest}: {columns.problem}.")
            table = _Table(columns, _rows(manifest, text, delimiter)[1:], delimiter)
            _check_widths(manifest, table, len(names))
            _log_columns(manifest, table)
            return table
    for delimiter, names in header.items():
        rows = _rows(manifest, text, delimiter) if len(names) == 2 else []
        without_header = columns_without_header([cells for _, cells in rows])
        if without_header is not None:
            order = ",".join(sorted(without_header.places, key=without_header.places.__getitem__))
            logger.info("%s: the first line is no header; the columns are read as %s", manifest, order)
            return _Table(without_header, rows, delimiter)
    raise CorpusError(
        other_kind(manifest, FILE_KIND) or f"{manifest}: its first line is {first[:200]!r}; expected {EXPECTED}."
    )


def _cells(line: str, delimiter: str) -> list[str]:
    """Return the cells of the first line; none if it is not a row with this delimiter."""
    try:
        return next((cells for _, cells in table_rows(line, delimiter)), [])
    except csv.Error:
        return []


def _rows(manifest: Path, text: str, delimiter: str) -> list[Row]:
    try:
        return list(table_rows(text, delimiter))
    except csv.Error as error:
        raise CorpusError(
            f"{manifest}: this cannot be read as a CSV file ({error}). Look for a quotation mark that is not closed, "
            "or not at the end of its cell."
        ) from error


def _check_widths(manifest: Path, table: _Table, n_columns: int) -> None:
    """Refuse a row with more cells than the header, because it is not known which cell belongs to which column."""
    for line, cells in table.rows:
        if any(cells[n_columns:]):
            raise CorpusError(
                f"{manifest}, line {line}: this row has {len(cells)} cells, but the header has {n_columns}. Put a cell "
                f"that contains {table.delimiter!r} between quotation marks, and write numbers with a decimal point."
            )


def _log_columns(manifest: Path, table: _Table) -> None:
    """Log which columns have other names, and warn of those that are not used."""
    columns = table.columns
    names = {column: columns.header[place] for column, place in columns.places.items()}
    renamed = [f"{name!r} as {column}" for column, name in names.items() if name.casefold() != column]
    if renamed:
        logger.info("%s: reads the column %s", manifest, ", ".join(renamed))
    unused = [
        place
        for place in columns.unused
        if columns.header[place] or any("".join(cells[place : place + 1]) for _, cells in table.rows)
    ]
    _check_times(manifest, table, unused)
    if unused:
        noun, verb = ("column", "is") if len(unused) == 1 else ("columns", "are")
        logger.warning("%s: the %s %s %s not used", manifest, noun, columns.describe(unused), verb)


def _check_times(manifest: Path, table: _Table, unused: Sequence[int]) -> None:
    """Refuse a column of numbers that is not used, but is probably a time: without it, whole files would be read."""
    for place in unused:
        column = table.columns.probable_time(place)
        cells = [cell for _, row in table.rows for cell in row[place : place + 1] if not is_missing(cell)]
        if column is not None and cells and all(TIME.fullmatch(cell) for cell in cells):
            raise CorpusError(
                f"{manifest}: the column {table.columns.header[place]!r} is probably the {column} of segments. Call it "
                f"{column!r} if it is (in seconds), or delete it if it is not."
            )


def _check_names(manifest: Path, table: _Table) -> None:
    """Refuse rows without a path or a speaker, with their lines."""
    for column in ("path", "speaker"):
        place = table.columns.places[column]
        cells = {line: "".join(row[place : place + 1]) for line, row in table.rows}
        empty = [line for line, cell in cells.items() if not cell or (column == "speaker" and is_missing(cell))]
        if empty:
            where = f"line {empty[0]}" if len(empty) == 1 else f"lines {listing(empty)}"
            found = f"{cells[empty[0]]!r}, which stands for a missing name" if cells[empty[0]] else "empty"
            raise CorpusError(f"{manifest}, {where}: the {column} is {found}; give a path and a speaker in each row.")


def _warn_of_other_splits(manifest: Path, table: _Table) -> None:
    """Warn of words in the column of the split that are the name of none."""
    place = table.columns.places.get("split")
    if place is None:
        return
    cells = [cell for _, row in table.rows for cell in row[place : place + 1]]
    others = sorted({cell for cell in cells if not is_missing(cell) and split_of(cell) is None})
    if others:
        logger.warning(
            "%s: the column %r has other words than train, validation (or dev) and test: %s; rows with them are in no "
            "split",
            manifest, table.columns.header[place], listing([repr(other) for other in others]),
        )  # fmt: skip


def _utterance(manifest: Path, line: int, values: dict[str, str], *, table: _Table) -> Utterance:
    """Make an utterance from the values of a row, or refuse the row."""
    where = f"{manifest}, line {line}"
    start, duration, end = (
        _seconds(where, column, values.get(column, ""), table=table) for column in ("start", "duration", "end")
    )
    start = start or 0.0
    if end is not None:
        if end <= start:
            raise CorpusError(f"{where}: end is {end:g}, and start is {start:g}; expected an end after the start.")
        if duration is not None and abs(end - start - duration) > TOLERANCE:
            raise CorpusError(
                f"{where}: duration is {duration:g}, but from start to end are {end - start:g} s; delete the wrong one."
            )
        duration = round(end - start, 6) if duration is None else duration
    folder, session = manifest.parent, values.get("session", "")
    return Utterance(
        _audio_path(folder, values["path"]),
        values["speaker"],
        values["speaker"] if is_missing(session) else session,
        start=start,
        duration=duration,
        split=split_of(values.get("split", "")),
        root=folder,
        channel=_channel(where, values.get("channel", "")),
    )


def _channel(where: str, text: str) -> int | None:
    """Return the number of a channel, or None for the mean of all."""
    if is_missing(text) or text.casefold() == MEAN:
        return None
    if not re.fullmatch(r"\d+(?:\.0)?", text, re.ASCII):  # programs that read missing numbers write 1 as 1.0
        raise CorpusError(
            f"{where}: channel is {text!r}; expected the number of a channel, from 0, or {MEAN} (as an empty cell)."
        )
    return int(text.removesuffix(".0"))


def _seconds(where: str, column: str, text: str, *, table: _Table) -> float | None:
    """Return a time in seconds, or None for an empty cell."""
    if not text:
        return None
    if table.delimiter != "," and AMBIGUOUS.fullmatch(text):
        raise CorpusError(
            f"{where}: {column} is {text!r}, where the comma can separate decimals or thousands; write "
            f"{text.replace(',', '.')} or {text.replace(',', '')}."
        )
    # Without a comma between cells, one in a number is a decimal comma; otherwise it may also separate thousands.
    number = text.replace(",", ".") if table.delimiter != "," and text.count(",") == 1 else text
    try:
        value = float(number) * table.columns.units[column]
    except ValueError:
        advice = "; write a decimal point" if "," in text else ""
        raise CorpusError(f"{where}: {column} is {text!r}; expected a number of seconds{advice}.") from None
    if not (0 <= value < float("inf") and (value or column == "start")):
        allowed = "0 or more" if column == "start" else "above 0"
        raise CorpusError(f"{where}: {column} is {text}; expected a number of seconds {allowed}.")
    return value if table.columns.units[column] == 1 else round(value, 6)


def _audio_path(folder: Path, path: str) -> Path:
    """Return the path of a file: as it is written if that exists, otherwise with the names that the disk has."""
    found = existing_path(folder / path)
    if "\\" in path and not found.exists():  # written on Windows
        other = existing_path(folder / path.replace("\\", "/"))
        return other if other.exists() else found
    return found
