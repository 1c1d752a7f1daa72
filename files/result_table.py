"""`Table`: cells with headings and notes, as plain text, Markdown or LaTeX."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from files.representations import html_table
from files.tables import format_table, printable
from files.writing import write_atomically

TableFormat = Literal["plain", "markdown", "latex"]

# Files that tables are written to; plain text is only printed.
TABLE_FILES = {"markdown": "table.md", "latex": "table.tex"}

MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")
# Besides LaTeX's special characters: [ and * after a line break would be read as its arguments.
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "*": "{*}", "±": r"$\pm$",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Table of results.

    Attributes
    ----------
    title : str
        Caption in LaTeX; not shown in the other formats.
    header : sequence of str
        Name of each column.
    rows : sequence of sequences of str
        Cells of each row.
    align : str
        ``<`` (left) or ``>`` (right) for each column.
    sections : mapping
        Headings: row number -> line that is placed before the row.
    notes : sequence of str
        Sentences below the table.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str
    sections: Mapping[int, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def text(self, form: TableFormat = "plain") -> str:
        """Return the table and its notes in a format; nothing is cut, however long the lines are."""
        if form == "markdown":
            return self._markdown()
        if form == "latex":
            return self._latex()
        return "\n".join(
            [format_table(self.header, self.rows, self.align, sections=self.sections), *map(printable, self.notes)]
        )

    def html(self) -> str:
        """Return the table and its notes in HTML, for notebooks."""
        return html_table(self.header, self.rows, self.align, notes=self.notes, sections=self.sections)

    def _markdown(self) -> str:
        """Return a table for each section, since Markdown has no headings within a table."""

        def line(cells: Sequence[str]) -> str:
            return f"| {' | '.join(map(escape_markdown, cells))} |"

        rule = "|".join("---" if to == "<" else "--:" for to in self.align)
        starts = sorted({0, *self.sections})
        parts = []
        for start, end in zip(starts, [*starts[1:], len(self.rows)], strict=True):
            heading = [f"**{escape_markdown(self.sections[start])}**"] if start in self.sections else []
            table = [line(self.header), f"|{rule}|", *map(line, self.rows[start:end])]
            parts += [*heading, "\n".join(table)]
        parts += ["\n".join(f"- {escape_markdown(note)}" for note in self.notes)] if self.notes else []
        return "\n\n".join(parts)

    def _latex(self) -> str:
        """Return a ``table`` environment with the rules of the package booktabs."""
        columns = "".join("l" if to == "<" else "r" for to in self.align)

        def line(cells: Sequence[str]) -> str:
            return rf"    {' & '.join(map(escape_latex, cells))} \\"

        body = []
        for number, row in enumerate(self.rows):
            if number in self.sections:
                body += [r"    \midrule"] if number else []
                body.append(rf"    \multicolumn{{{len(columns)}}}{{l}}{{{escape_latex(self.sections[number])}}} \\")
            body.append(line(row))
        lines = [
            r"% Needs \usepackage{booktabs}.", r"\begin{table}", r"  \centering", r"  \small",
            rf"  \caption{{{escape_latex(self.title)}}}", rf"  \begin{{tabular}}{{{columns}}}", r"    \toprule",
            line(self.header), r"    \midrule", *body, r"    \bottomrule", r"  \end{tabular}",
        ]  # fmt: skip
        if self.notes:
            notes = [rf"    {escape_latex(note)}\par" for note in self.notes]
            lines += ["", r"  \medskip", r"  \begin{minipage}{\linewidth}", r"    \footnotesize", *notes]
            lines.append(r"  \end{minipage}")
        return "\n".join([*lines, r"\end{table}"])


def write_tables(folder: Path, tables: Sequence[str], form: TableFormat) -> list[Path]:
    """Write tables in Markdown or LaTeX into a folder; return the paths, none for plain text.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    if form not in TABLE_FILES:
        return []
    text = "\n\n".join(tables) + "\n"
    return [write_atomically(folder / TABLE_FILES[form], lambda file: file.write(text.encode()))]


def escape_markdown(text: str) -> str:
    r"""Escape the characters that Markdown would interpret.

    Examples
    --------
    >>> print(escape_markdown("bn_mlp *"))
    bn\_mlp \*
    """
    return MARKDOWN_SPECIAL.sub(r"\\\1", printable(text)).replace("&", "&amp;")


def escape_latex(text: str) -> str:
    r"""Escape the characters that LaTeX would interpret; a dash between spaces becomes one of the length of a range.

    Examples
    --------
    >>> print(escape_latex("88.6 ±0.7 % of a_b, 80 - 89"))
    88.6 $\pm$0.7 \% of a\_b, 80 -- 89
    """
    return "".join(LATEX_SPECIAL.get(letter, letter) for letter in printable(text).replace(" - ", " -- "))
