"""Write the page that shows what is in a corpus, from the files of `CorpusDescription.save` alone."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from corpora import SPLITS, summary_table
from files import PathLike, Record, count_of, read_csv, write_atomically
from reports.corpus_pictures import draw_durations
from reports.drawing import PictureFormat
from reports.html_page import html_page
from reports.page import (
    Pictures,
    downloads_section,
    glossary_link,
    heading,
    paragraph,
    provenance_section,
    section,
    table,
    terms_section,
)
from reports.training_pictures import draw_count_histogram, draw_speaker_counts

# Files beside the page that it links.
TABLES = {"corpus.csv": "a row for each utterance", "corpus.json": "all figures, with the command and the versions"}
# Maximum number of unreadable utterances, and of speakers, in a table of the page; corpus.csv has all.
MAX_ROWS = 1000


def write_corpus_page(folder: PathLike, picture_formats: Sequence[PictureFormat] = ("png",)) -> Path:
    """Write ``corpus.html`` and its pictures into the folder of a description, and return the path of the page.

    Parameters
    ----------
    folder : path-like
        Folder that `CorpusDescription.save` wrote.
    picture_formats : sequence of {"png", "pdf", "svg"}
        Formats in which the pictures are written beside the page, which contains them itself.

    Raises
    ------
    OutputError
        The page or a picture cannot be written.
    """
    folder = Path(folder)
    about, rows = json.loads((folder / "corpus.json").read_text(encoding="utf-8")), read_csv(folder / "corpus.csv")
    pictures = Pictures(folder, picture_formats)
    parts = [
        _summary_section(about),
        _speakers_section(pictures, rows),
        *_durations_section(pictures, rows),
        *_problems_section(rows),
        glossary_link(),
        downloads_section(pictures, TABLES),
        provenance_section(about),
        terms_section(),
    ]
    page = html_page(f"{about['corpus']}: speakers", parts)
    # Names of speakers and files may not be valid Unicode.
    return write_atomically(folder / "corpus.html", lambda file: file.write(page.encode("utf-8", "backslashreplace")))


def _summary_section(about: Record) -> str:
    summary = about["summary"]
    counts = f"{count_of(summary['utterances'], 'utterance')} of {count_of(summary['speakers'], 'speaker')}"
    title = f"{about['corpus']}: {counts}, {summary['hours']:.2f} hours"
    notes = [paragraph(f"The folder of the corpus is {about['root']}. Figures are from the headers of the files.")]
    if summary["unreadable"]:
        notes.append(
            paragraph(f"{count_of(summary['unreadable'], 'utterance')} cannot be read; they are listed below.")
        )
    return heading(title) + "".join(notes) + table(["quantity", "value"], summary_table(summary), text=(0, 1))


def _speakers_section(pictures: Pictures, rows: Sequence[Record]) -> str:
    """Make the section with the utterances, sessions and minutes of each speaker."""
    records = _speaker_records(rows)
    parts = [split for split in (*SPLITS, "none") if any(record[split] for record in records)]
    if parts == ["none"]:
        parts = ["utterances"]
    by_split = "" if parts == ["utterances"] else ", by the split that the corpus gives"
    caption = f"Utterances of each of {count_of(len(records), 'speaker')}{by_split}."
    drawn = [
        pictures.add("corpus_speakers", draw_speaker_counts(records, parts), caption=caption),
        pictures.add(
            "corpus_counts",
            draw_count_histogram(records, ("utterances",)),
            caption="How many speakers have how many utterances.",
        ),
    ]
    lines = [
        [
            record["speaker"],
            *((str(record[name]), record[name]) for name in ("utterances", "sessions")),
            (f"{record['minutes']:.2f}", record["minutes"]),
        ]
        for record in records[:MAX_ROWS]
    ]
    listed = table(["speaker", "utterances", "sessions", "minutes"], lines)
    note = [paragraph(f"The first {MAX_ROWS} speakers are listed.", "faint")] if len(records) > MAX_ROWS else []
    return section("Speakers", *drawn, listed, *note)


def _speaker_records(rows: Sequence[Record]) -> list[Record]:
    """Return the numbers of utterances, in all and by split, and of sessions, and the minutes, of each speaker."""
    by_speaker: dict[str, list[Record]] = {}
    for row in rows:
        by_speaker.setdefault(row["speaker"], []).append(row)
    records = []
    for speaker, own in sorted(by_speaker.items()):
        splits = Counter(row["split"] or "none" for row in own)
        records.append(
            {
                "speaker": speaker,
                "utterances": len(own),
                "sessions": len({row["session"] for row in own}),
                "minutes": sum(float(row["duration"] or 0) for row in own) / 60,
                **{split: splits[split] for split in (*SPLITS, "none")},
            }
        )
    return records


def _durations_section(pictures: Pictures, rows: Sequence[Record]) -> list[str]:
    durations = [float(row["duration"]) for row in rows if row["duration"]]
    if not durations:
        return []
    caption = "How many utterances last how long."
    return [section("Durations", pictures.add("corpus_durations", draw_durations(durations), caption=caption))]


def _problems_section(rows: Sequence[Record]) -> list[str]:
    """Make the section with the utterances that cannot be read, if there are any."""
    problems = [[row["id"], row["problem"]] for row in rows if row["problem"]]
    if not problems:
        return []
    listed = table(["utterance", "problem"], problems[:MAX_ROWS], text=(0, 1), long=1)
    note = [paragraph(f"The first {MAX_ROWS} are listed.", "faint")] if len(problems) > MAX_ROWS else []
    return [section("Utterances that cannot be read", listed, *note)]
