"""Parts of a page, as HTML made from plain text. All text is escaped, so that names in it cannot run as scripts."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation import Column, shown
from files import Record
from reports.citation import citation_of
from reports.drawing import FORMATS, PictureFormat, save_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Files of a results folder that the page links, if they exist.
DOWNLOADS = {
    "metrics.csv": "all rows, as fractions",
    "metrics.json": "all figures, with the command and the versions",
    "table.md": "the table in Markdown",
    "table.tex": "the table in LaTeX",
    "per_speaker.csv": "accuracy of each speaker",
    "confusion.csv": "counts of true and predicted speakers",
    "answers.csv": "prediction for each test recording",
    "embedding_map.csv": "coordinates of the embeddings",
    "det_curve.csv": "points of the DET curves",
    "score_histogram.csv": "histograms of the scores",
    "trials.txt": "trials that were drawn",
    "training_speakers.csv": "utterances of each speaker in each part",
    "training_histograms.csv": "histograms of durations and of log-mel values",
}
GLOSSARY = Path(__file__).resolve().parents[1] / "docs" / "glossary.md"


def heading(text: str) -> str:
    """Make the page's heading from plain text."""
    return f"<h1>{escape(text)}</h1>\n"


def section(title: str, *parts: str) -> str:
    """Join the parts of a section under its title."""
    return f"<section><h2>{escape(title)}</h2>\n{''.join(parts)}</section>\n"


def paragraph(text: str, kind: str = "") -> str:
    """Make a paragraph from plain text, with a class of the page's style."""
    return f'<p class="{kind}">{escape(text)}</p>\n' if kind else f"<p>{escape(text)}</p>\n"


def listing(sentences: Sequence[str]) -> str:
    """Make a list from plain sentences."""
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>\n"


def glossary(columns: Sequence[Column]) -> str:
    """Explain the columns of a table."""
    terms = "".join(f"<dt>{escape(each.heading)}</dt><dd>{escape(each.meaning)}</dd>" for each in columns)
    return f'<dl class="faint">{terms}</dl>\n'


@dataclass(frozen=True)
class Pictures:
    """Pictures of a page, which are written to files too.

    Attributes
    ----------
    folder : Path
        Folder of the results.
    formats : sequence of {"png", "pdf", "svg"}
        Formats of the files.
    names : list of str
        Names of the pictures so far.
    """

    folder: Path
    formats: Sequence[PictureFormat] = ("png",)
    names: list[str] = field(default_factory=list)

    def add(
        self, name: str, figure: "Figure", *, caption: str, titles: Mapping[str, Sequence[str]] | None = None
    ) -> str:
        """Write a picture, and return it with its caption as a part of the page; `titles` is as in `to_svg`."""
        for form in self.formats:
            save_figure(self.folder / f"{name}.{form}", figure, form)
        self.names.append(name)
        svg = to_svg(figure, name, label=caption, titles=titles)
        return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>\n"


def columns_table(
    columns: Sequence[Column],
    records: Sequence[Record],
    *,
    best: int | None = None,
    text: Mapping[str, str],
) -> str:
    """Make a table of records.

    Parameters
    ----------
    columns : sequence of Column
        Figures to show; those with an interval are followed by its bounds.
    records : sequence of dict
    best : int, optional
        Index of the row to mark.
    text : mapping
        Keys and headings of the columns of text before the figures.
    """
    header = list(text.values())
    for column in shown(tuple(columns)):
        header += [column.heading, "from", "to"] if column.has_interval else [column.heading]
    rows = []
    for record in records:
        row: list[Any] = [record[key] for key in text]
        for column in shown(tuple(columns)):
            formatted = column.text_with_deviation if column.has_deviation else column.text
            row.append((formatted(record), record.get(column.key)))
            if column.has_interval:
                bounds = record.get(f"{column.key}_low"), record.get(f"{column.key}_high")
                row += zip(column.interval(record), bounds, strict=True)
        rows.append(row)
    return table(header, rows, best=best, text=tuple(range(len(text))))


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    best: int | None = None,
    text: Sequence[int] = (0,),
    long: int | None = None,
) -> str:
    """Make a table that the reader can sort by a click on the heading of a column.

    Parameters
    ----------
    header : sequence of str
    rows : sequences of str, or of (str, float)
        Cells: the text and, if the column is sorted by number, the number.
    best : int, optional
        Index of the row to mark.
    text : sequence of int
        Indices of the columns of text.
    long : int, optional
        Index of the column whose text may wrap.
    """
    names = [f"<th{_kind(place in text)}><button>{escape(name)}</button></th>" for place, name in enumerate(header)]
    lines = []
    for number, row in enumerate(rows):
        mark = ' class="best"' if number == best else ""
        kinds = [' class="long"' if place == long else _kind(place in text) for place in range(len(row))]
        cells = [_cell(value, kind) for value, kind in zip(row, kinds, strict=True)]
        lines.append(f"<tr{mark}>{''.join(cells)}</tr>\n")
    head, body = "".join(names), "".join(lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>\n'


def downloads_section(pictures: Pictures, tables: Mapping[str, str] = DOWNLOADS) -> str:
    """Make the section that links the tables (name -> content) and pictures in the folder of the page."""
    lines = []
    for name, content in tables.items():
        if (pictures.folder / name).is_file():
            lines.append(f"<li>{_download(name)}: {escape(content)}</li>")
    for name in pictures.names:
        links = [_download(f"{name}.{form}") for form in FORMATS if (pictures.folder / f"{name}.{form}").is_file()]
        lines += [f"<li>picture: {', '.join(links)}</li>"] if links else []
    return f"<section><h2>Files</h2>\n<ul>{''.join(lines)}</ul>\n</section>\n"


def _download(name: str) -> str:
    """Link a file beside the page."""
    return f'<a href="{escape(name)}" download>{escape(name)}</a>'


def provenance_section(metrics: Record) -> str:
    """Make the section with the command, date and versions of the results, how to cite them, and their encoders."""
    versions = ", ".join(f"{name} {version}" for name, version in metrics["versions"].items())
    created = metrics.get("created")  # results of earlier versions have no date
    date = [paragraph(f"Computed on {created.replace('T', ' ').replace('Z', ' UTC')}.")] if created else []
    sentence, bibtex = citation_of(metrics)
    parts = [f"<pre>{escape(metrics['command'])}</pre>\n", *date, paragraph(versions, kind="faint")]
    parts += [paragraph(f"To cite the software: {sentence}"), f"<pre>{escape(bibtex)}</pre>\n"]
    origins = metrics.get("origins", ())  # a training run has none
    parts += [f"<pre>{escape(json.dumps(about, indent=1, ensure_ascii=False))}</pre>\n" for about in origins]
    return section("Provenance", *parts)


def terms_section() -> str:
    """Make the section with all terms of the docs' glossary, which links on the page lead to."""
    lines = GLOSSARY.read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ", 1) for line in lines if line.startswith("| ")][1:]  # without the heading
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning.replace('`', ''))}</dd>" for term, meaning in rows)
    return f'<section id="glossary"><h2>Glossary</h2>\n<dl class="faint">{terms}</dl></section>\n'


def glossary_link() -> str:
    """Make a paragraph that links the glossary at the end of the page."""
    return '<p class="faint">Terms are explained in the <a href="#glossary">glossary</a> below.</p>\n'


def _kind(is_text: bool) -> str:
    """Return the attribute of cells of text."""
    return ' class="text"' if is_text else ""


def _cell(value: Any, kind: str) -> str:
    """Make a cell from its text or from its text and number, with the attribute `kind`."""
    shown, number = value if isinstance(value, tuple) else (value, None)
    data = "" if number is None or math.isnan(number) else f' data-value="{number!r}"'
    return f"<td{kind}{data}>{escape(str(shown))}</td>"
