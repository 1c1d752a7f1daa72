"""Tables and lines of text for a terminal."""

import math
from collections.abc import Mapping, Sequence


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], align: str, *, sections: Mapping[int, str] | None = None
) -> str:
    """Format cells as columns below a header and a rule.

    Parameters
    ----------
    header : sequence of str
        Name of each column.
    rows : sequence of sequences of str
        Cells of each row.
    align : str
        ``<`` (left) or ``>`` (right) for each column.
    sections : mapping, optional
        Headings: row number -> line that is placed before the row.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(f"{cell:{to}{width}}" for cell, to, width in zip(cells, align, widths, strict=True)).rstrip()

    lines = [line(header), "  ".join("-" * width for width in widths)]
    for number, row in enumerate(rows):
        if sections and number in sections:
            lines.append(printable(sections[number]))
        lines.append(line(row))
    return "\n".join(lines)


def format_percent(share: float | None, digits: int = 1, missing: str = "-") -> str:
    """Format a share in percent, without the sign; None and NaN give `missing`.

    Examples
    --------
    >>> format_percent(0.9167)
    '91.7'
    """
    return missing if share is None or math.isnan(share) else f"{100 * share:.{digits}f}"


def count_of(number: int, thing: str) -> str:
    """Format a count with its noun.

    Examples
    --------
    >>> count_of(1, "speaker"), count_of(3, "speaker")
    ('1 speaker', '3 speakers')
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def printable(text: str) -> str:
    """Replace characters that a terminal cannot show or would act on; names can contain any character."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
