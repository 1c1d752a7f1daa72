"""Read a manifest: a CSV file that lists the utterances of a corpus."""

import csv
import logging
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from corpora.corpus import CorpusError, Utterance
from files import other_kind

logger = logging.getLogger(__name__)

MANIFEST = "manifest.csv"
FILE_KIND = "a manifest of a corpus (a CSV file with the columns path and speaker)"
COLUMNS = ("path", "speaker", "session", "start", "duration")


def read_manifest(root: Path, files: Sequence[str]) -> Iterator[Utterance]:
    """Read a CSV file ``path,speaker[,session,start,duration]``; paths are relative to its folder, times in seconds."""
    manifest = root if root.is_file() else root / MANIFEST
    try:
        with open(manifest, encoding="utf-8-sig", newline="") as file:  # -sig: may start with a byte-order mark
            table = csv.DictReader(file, skipinitialspace=True)
            columns = table.fieldnames or ()
            if not {"path", "speaker"} <= set(columns):
                raise CorpusError(
                    other_kind(manifest, FILE_KIND)
                    or f"{manifest}: its first line is {','.join(columns)!r}; expected "
                    "path,speaker[,session,start,duration]."
                )
            for column in columns:
                near = get_close_matches(column, COLUMNS, n=1)
                if near and column not in COLUMNS:
                    logger.warning("%s: the column %r is ignored; perhaps you meant %r", manifest, column, near[0])
            rows = [(table.line_num, row) for row in table]
    except FileNotFoundError as error:
        raise CorpusError(f"{root}: there is no {MANIFEST} in this folder; the layout 'manifest' needs one.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(
            other_kind(manifest, FILE_KIND) or f"{manifest}: this cannot be read as a CSV file in UTF-8 ({error})."
        ) from error
    if not rows:
        raise CorpusError(f"{manifest}: the manifest lists no utterance.")
    for line, row in rows:
        yield _manifest_utterance(manifest, line, row)


def _manifest_utterance(manifest: Path, line: int, row: dict[str, str | None]) -> Utterance:
    """Make an utterance from a row of a manifest, or refuse the row."""
    where = f"{manifest}, line {line}"
    path, speaker = (row["path"] or "").strip(), (row["speaker"] or "").strip()
    if not path or not speaker:
        raise CorpusError(f"{where}: the {'speaker' if path else 'path'} is empty; give a path and a speaker.")

    def seconds(column: str) -> float | None:
        text = (row.get(column) or "").strip()
        try:
            value = float(text) if text else None
        except ValueError:
            raise CorpusError(f"{where}: {column} is {text!r}; expected a number of seconds.") from None
        if value is not None and not (0 <= value < float("inf") and (value or column == "start")):
            allowed = "0 or more" if column == "start" else "above 0"
            raise CorpusError(f"{where}: {column} is {text}; expected a number of seconds {allowed}.")
        return value

    session = (row.get("session") or "").strip() or speaker
    folder = manifest.parent
    start, duration = seconds("start") or 0.0, seconds("duration")
    return Utterance(folder / path, speaker, session, start=start, duration=duration, root=folder)
