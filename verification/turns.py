"""`Turn`: a segment of a recording in which one speaker speaks; files and tables of turns."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from files import PathLike, format_percent, format_table, write_atomically
from heads import UNKNOWN

COLUMNS = ("start", "end", "speaker", "probability", "label")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A segment of a recording in which one speaker speaks.

    Attributes
    ----------
    start, end : float
        Start and end (seconds).
    speaker : str
        Name of an enrolled speaker, or `UNKNOWN`.
    probability : float
        Mean probability of the speaker over the windows of the turn; NaN if it is not known.
    label : str
        Label of the speaker in the RTTM file that the turn is from; empty if it is not from a file.
    """

    start: float
    end: float
    speaker: str
    probability: float
    label: str = ""


def turns_by_speaker(turns: Sequence[Turn]) -> dict[str, list[Turn]]:
    """Return the turns of each speaker in order of the time that they speak, longest first; unknown speakers are last.

    Ties are broken by name.
    """
    own: dict[str, list[Turn]] = {}
    for turn in turns:
        own.setdefault(turn.speaker, []).append(turn)
    return dict(sorted(own.items(), key=lambda item: (item[0] == UNKNOWN, -speaking_time(item[1]), item[0])))


def speaking_time(turns: Sequence[Turn]) -> float:
    """Return the total length of turns (seconds)."""
    return sum(turn.end - turn.start for turn in turns)


def turns_table(turns: Sequence[Turn]) -> str:
    """Format a table of turns."""
    lines = [[f"{turn.start:.2f}", f"{turn.end:.2f}", turn.speaker, format_percent(turn.probability)] for turn in turns]
    return format_table(["from", "to", "speaker", "percent"], lines, ">><>")


def to_rttm(turns: Sequence[Turn], path: PathLike, channel: int | None = None) -> str:
    """Return the turns of enrolled speakers in NIST's Rich Transcription Time Marked (RTTM) format.

    This format separates fields by spaces, so spaces in names are replaced by underscores. An unknown speaker with a
    label is ``unknown_`` and the label; other turns of unknown speakers are left out, because they may be of several
    people. The format counts channels from 1, which here also stands for the mean of all.
    """
    lines, number = [], 1 + (channel or 0)
    for turn in turns:
        name = turn.speaker
        if name == UNKNOWN and turn.label:
            name = f"{UNKNOWN}_{turn.label}"
        if name != UNKNOWN:
            times = f"{turn.start:.3f} {turn.end - turn.start:.3f}"
            lines.append(f"SPEAKER {_field(Path(path).stem)} {number} {times} <NA> <NA> {_field(name)} <NA> <NA>\n")
    return "".join(lines)


def to_csv(turns: Sequence[Turn]) -> str:
    """Return all turns as a table with the columns of `COLUMNS`: times in seconds, probabilities as fractions.

    A probability that is not known is an empty cell.
    """
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    for turn in turns:
        share = "" if math.isnan(turn.probability) else f"{turn.probability:.4f}"
        writer.writerow([f"{turn.start:.3f}", f"{turn.end:.3f}", turn.speaker, share, turn.label])
    return table.getvalue()


def write_turns(
    path: PathLike, turns: Sequence[Turn], recording: PathLike, *, channel: int | None = None
) -> tuple[Path, Path]:
    """Write the turns of a recording as an RTTM file, and as a CSV file beside it; return the paths of both.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    rttm = Path(path)
    # Names of files and speakers need not be valid UTF-8: their undecodable bytes are written unchanged.
    for target, text in ((rttm, to_rttm(turns, recording, channel)), (rttm.with_suffix(".csv"), to_csv(turns))):
        content = text.encode("utf-8", "surrogateescape")
        write_atomically(target, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return rttm, rttm.with_suffix(".csv")


def _field(name: str) -> str:
    """Return a name without spaces, for one field of a line."""
    return "_".join(name.split()) or "_"
