"""`describe_corpus`: what is in a corpus, from the headers of its files."""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio import AudioError, read_header, span_seconds
from corpora.corpus import Corpus, Utterance
from corpora.split_names import SPLITS
from files import PathLike, Record, check_writable, count_of, timestamp, track, versions, write_csv, write_json

# Number of headers that are read at a time: a list of all futures would be larger than the corpus.
HEADERS = 1000
TABLE, ABOUT = "corpus.csv", "corpus.json"


@dataclass(frozen=True)
class CorpusDescription:
    """What is in a corpus.

    Attributes
    ----------
    corpus : str
        Name of the corpus.
    root : Path
        Its folder.
    rows : list of dict
        A row for each utterance: ``id``, ``speaker``, ``session``, ``split`` (if the corpus gives one), ``start`` and
        ``duration`` (seconds), ``rate`` (Hz), ``channels`` and ``format`` of its file, and ``problem``, the reason why
        it cannot be read, which is empty for most; the figures are then None.
    n_files : int
        Number of files that the utterances are in.
    """

    corpus: str
    root: Path
    rows: list[Record]
    n_files: int

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Ids of the utterances that cannot be read, and why."""
        return [(row["id"], row["problem"]) for row in self.rows if row["problem"]]

    @property
    def summary(self) -> Record:
        """Figures over all utterances: counts, hours, and ranges as (smallest, median, largest)."""
        durations = [row["duration"] for row in self.rows if row["duration"] is not None]
        sessions = {(row["speaker"], row["session"]) for row in self.rows}
        of_speakers = Counter(row["speaker"] for row in self.rows)
        sessions_of = Counter(speaker for speaker, _ in sessions)
        summary: Record = {
            "speakers": len(of_speakers),
            "sessions": len({row["session"] for row in self.rows}),
            "speaker_sessions": len(sessions),
            "utterances": len(self.rows),
            "files": self.n_files,
            "unreadable": len(self.failures),
            "hours": sum(durations) / 3600,
            "duration": _range(durations),
            "utterances_per_speaker": _range(list(of_speakers.values())),
            "sessions_per_speaker": _range(list(sessions_of.values())),
            "speakers_with_one_session": sum(count == 1 for count in sessions_of.values()),
        }
        for name, column in (("rates", "rate"), ("channels", "channels"), ("formats", "format")):
            counts = Counter(str(row[column]) for row in self.rows if row[column] is not None)
            summary[name] = dict(counts.most_common())
        splits = Counter(row["split"] or "none" for row in self.rows)
        summary["splits"] = {} if set(splits) == {"none"} else {
            split: splits[split] for split in (*SPLITS, "none") if splits[split]
        }  # fmt: skip
        return summary

    @property
    def table(self) -> list[tuple[str, str]]:
        """The summary as names and texts, for a table."""
        return summary_table(self.summary)

    def save(self, folder: PathLike, command: str = "") -> list[Path]:
        """Write ``corpus.csv`` (the rows) and ``corpus.json`` (the summary) into a folder, and return their paths.

        Raises
        ------
        OutputError
            The files cannot be written.
        """
        folder = Path(folder)
        check_writable(folder)
        about = {
            "corpus": self.corpus,
            "root": str(self.root),
            "summary": self.summary,
            "command": command,
            "created": timestamp(),
            "versions": versions(),
        }
        return [write_csv(folder / TABLE, self.rows), write_json(folder / ABOUT, about)]


def describe_corpus(corpus: Corpus, *, progress: bool = True) -> CorpusDescription:
    """Describe the utterances of a corpus; only the headers of their files are read, in threads.

    Parameters
    ----------
    corpus : Corpus
    progress : bool
        Whether to show the progress.
    """
    found = track(_read_headers(corpus.utterances), "Reading headers", len(corpus), unit="file", visible=progress)
    rows = [
        {
            "id": utterance.id,
            "speaker": utterance.speaker,
            "session": utterance.session,
            "split": utterance.split,
            "start": utterance.start,
            **columns,
        }
        for utterance, columns in zip(corpus, found, strict=True)
    ]
    n_files = len({utterance.path for utterance in corpus})
    return CorpusDescription(corpus.name, corpus.root, rows, n_files=n_files)


def summary_table(summary: Record) -> list[tuple[str, str]]:
    """Return the summary of a description as names and texts.

    Parameters
    ----------
    summary : dict
        As `CorpusDescription.summary`, or as read from ``corpus.json``.
    """
    one_session, sessions = summary["speakers_with_one_session"], str(summary["sessions"])
    if summary["speaker_sessions"] != summary["sessions"]:
        sessions += f" names, {summary['speaker_sessions']} pairs of speaker and session"
    lines = [
        ("speakers", str(summary["speakers"])),
        ("sessions", sessions),
        ("utterances", f"{summary['utterances']} in {count_of(summary['files'], 'file')}"),
        ("unreadable", str(summary["unreadable"])),
        ("hours", f"{summary['hours']:.2f}"),
        ("duration of an utterance (s)", _range_text(summary["duration"], ".2f")),
        ("utterances of a speaker", _range_text(summary["utterances_per_speaker"], "g")),
        ("sessions of a speaker", _range_text(summary["sessions_per_speaker"], "g")),
        ("speakers with one session", f"{one_session} of {summary['speakers']}"),
        ("sampling rate (Hz)", _counts_text(summary["rates"])),
        ("channels", _counts_text(summary["channels"])),
        ("format", _counts_text(summary["formats"])),
    ]
    return lines + ([("split", _counts_text(summary["splits"]))] if summary["splits"] else [])


def _read_headers(utterances: Sequence[Utterance]) -> Iterator[Record]:
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(utterances), HEADERS):
            yield from pool.map(_columns, utterances[first : first + HEADERS])


def _columns(utterance: Utterance) -> Record:
    """Return the columns of a row that come from the header of the file."""
    columns: Record = dict.fromkeys(("duration", "rate", "channels", "format"))
    try:
        header = read_header(utterance.path)
        columns |= {
            "rate": header.sample_rate,
            "channels": header.channels,
            "format": f"{header.format} {header.subtype}",
        }
        seconds = span_seconds(utterance.path, utterance.start, utterance.duration, channel=utterance.channel)
        columns["duration"] = round(seconds, 6)
    except AudioError as error:
        return {**columns, "problem": error.reason}
    return {**columns, "problem": ""}


def _range(values: Sequence[float]) -> list[float] | None:
    """Return the smallest, the median and the largest value; None if there are none."""
    return [min(values), statistics.median(values), max(values)] if values else None


def _range_text(values: Sequence[float] | None, form: str) -> str:
    if values is None:
        return "-"
    smallest, median, largest = (format(value, form) for value in values)
    return smallest if smallest == largest else f"{smallest} to {largest}, median {median}"


def _counts_text(counts: Any) -> str:
    """Return the values with the number of utterances of each; the only value alone."""
    if len(counts) == 1:
        return str(next(iter(counts)))
    return ", ".join(f"{value} ({number})" for value, number in counts.items()) or "-"
