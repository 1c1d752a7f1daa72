"""Plain tables for a terminal."""

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
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(f"{cell:{to}{width}}" for cell, to, width in zip(cells, align, widths, strict=True)).rstrip()

    lines = [line(header), "  ".join("-" * width for width in widths)]
    for number, row in enumerate(rows):
        if sections and number in sections:
            lines.append(shorten(sections[number]))
        lines.append(line(row))
    return "\n".join(lines)


def format_notes(notes: Sequence[str]) -> str:
    """Put each sentence on one line; one that names more than the line holds is cut short."""
    return "\n".join(map(shorten, notes))


def shorten(text: str, width: int = WIDTH) -> str:
    """Make any text one line of at most so many columns."""
    text = printable(text)
    return text if len(text) <= width else f"{text[: width - 3]}..."


def printable(text: str) -> str:
    """Replace what a terminal would act on: names may hold any character."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
