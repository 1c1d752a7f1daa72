"""The parts of a page: plain text in, HTML out, in which nothing that was given can act."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.drawing import save_figure, to_svg
from evaluation.records import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heading(text: str) -> str:
    """Make the page's heading of plain text."""
    return f"<h1>{escape(text)}</h1>\n"


def section(title: str, *parts: str) -> str:
    """Join the parts of a section under its title."""
    return f"<section><h2>{escape(title)}</h2>\n{''.join(parts)}</section>\n"


def paragraph(text: str, kind: str = "") -> str:
    """Make a paragraph of plain text, of a class of the page's style."""
    return f'<p class="{kind}">{escape(text)}</p>\n' if kind else f"<p>{escape(text)}</p>\n"


def listing(sentences: Sequence[str]) -> str:
    """Make a list of plain sentences."""
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>\n"


def picture(
    folder: Path, name: str, figure: "Figure", caption: str, titles: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Put a figure into the page, and write it to a PNG file too; `titles` as `drawing.to_svg` takes them."""
    save_figure(folder / f"{name}.png", figure)
    svg = to_svg(figure, name, caption, titles)
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>\n"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    best: int | None = None,
    text: Sequence[int] = (0,),
    long: int | None = None,
) -> str:
    """Make a table that a click on a column's head sorts.

    Parameters
    ----------
    header : sequence of str
    rows : sequences of str, or of (str, float)
        What is shown and, where that differs, the number to sort by.
    best : int, optional
        The row to mark.
    text : sequence of int
        Columns of text.
    long : int, optional
        The column whose text may be broken into lines.
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


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share in percent."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.{digits}f}"


def number_of(value: float | None, form: str) -> tuple[str, float]:
    """Write a number, and give it to sort by."""
    return ("–", math.nan) if value is None or math.isnan(value) else (format(value, form), value)


def read_csv(path: Path) -> list[Record]:
    """Return the rows of a CSV file that a comparison wrote, none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def provenance_section(metrics: Record) -> str:
    """Say what made the results."""
    versions = ", ".join(f"{name} {version}" for name, version in metrics["versions"].items())
    parts = [f"<pre>{escape(metrics['command'])}</pre>\n", paragraph(versions, "faint")]
    parts += [f"<pre>{escape(json.dumps(about, indent=1, ensure_ascii=False))}</pre>\n" for about in metrics["origins"]]
    return section("What made this", *parts)


def _kind(is_text: bool) -> str:
    return ' class="text"' if is_text else ""


def _cell(value: Any, kind: str) -> str:
    shown, number = value if isinstance(value, tuple) else (value, None)
    data = "" if number is None or math.isnan(number) else f' data-value="{number!r}"'
    return f"<td{kind}{data}>{escape(str(shown))}</td>"
