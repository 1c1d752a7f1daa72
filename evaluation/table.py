"""Plain tables for a terminal."""

import textwrap
from collections.abc import Mapping, Sequence

# Columns that a terminal is taken to have.
WIDTH = 100


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], align: str, sections: Mapping[int, str] | None = None
) -> str:
    """Lay out cells in columns under a ruled header.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequences of str
    align : str
        ``<`` (left) or ``>`` (right) for each column.
    sections : mapping, optional
        Lines to put before rows, by the row's number.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(f"{cell:{to}{width}}" for cell, to, width in zip(cells, align, widths, strict=True)).rstrip()

    lines = [line(header), "  ".join("-" * width for width in widths)]
    for number, row in enumerate(rows):
        if sections and number in sections:
            lines.append(sections[number])
        lines.append(line(row))
    return "\n".join(lines)


def format_notes(notes: Sequence[str]) -> str:
    """Put each sentence on one line; one that names more than the line holds is cut short."""
    return "\n".join(textwrap.shorten(note, WIDTH, placeholder=" ...") for note in notes)
