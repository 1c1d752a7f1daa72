"""How objects are shown in a notebook: one line of text, and small HTML tables."""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import Any

from files.tables import count_of, printable

# Maximum length of one line (characters).
MAX_CHARACTERS = 200


class _ShortRepr(reprlib.Repr):
    """`repr` of a value, in which tensors and arrays are shown by their type and shape."""

    def repr_Tensor(self, value: Any, level: int) -> str:  # noqa: N802  (reprlib looks methods up by the type's name)
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"

    repr_ndarray = repr_Tensor


_short = _ShortRepr()
_short.maxother = _short.maxstring = 60


def short_repr(instance: object, text: str) -> str:
    """Return ``<Class text>``, in one line of at most `MAX_CHARACTERS`.

    Examples
    --------
    >>> short_repr(Exception(), "of 3 recordings")
    '<Exception of 3 recordings>'
    """
    return f"<{_shorten(f'{type(instance).__name__} {text}', MAX_CHARACTERS - 2)}>"


def fields_repr(instance: Any) -> str:
    """Return the fields of a dataclass in one line of at most `MAX_CHARACTERS`, tensors by their type and shape.

    A dataclass that holds tensors or arrays uses it as its ``__repr__``.
    """
    shown = ", ".join(f"{field.name}={_short.repr(getattr(instance, field.name))}" for field in fields(instance))
    return _shorten(f"{type(instance).__name__}({shown})", MAX_CHARACTERS)


def html_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    align: str,
    *,
    title: str = "",
    notes: Sequence[str] = (),
    sections: Mapping[int, str] | None = None,
) -> str:
    """Make a small HTML table with a title above and notes below it; all text is escaped.

    It has no colours, so it suits light and dark pages.

    Parameters
    ----------
    header, rows, align, sections
        As in `format_table`.
    title : str
        Line above the table.
    notes : sequence of str
        Lines below the table.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        styled = zip(cells, align, strict=True)
        parts = [f'<{tag} style="text-align: {_SIDES[to]}">{_text(cell)}</{tag}>' for cell, to in styled]
        return f"<tr>{''.join(parts)}</tr>\n"

    body = []
    for number, row in enumerate(rows):
        if sections and number in sections:
            heading = _text(sections[number])
            body.append(f'<tr><th colspan="{len(header)}" style="text-align: left">{heading}</th></tr>\n')
        body.append(line(row, "td"))
    above = f"<p>{_text(title)}</p>\n" if title else ""
    listed = "".join(f"<li>{_text(note)}</li>\n" for note in notes)
    below = f"<ul>\n{listed}</ul>\n" if notes else ""
    return f"{above}<table>\n<thead>{line(header, 'th')}</thead>\n<tbody>\n{''.join(body)}</tbody>\n</table>\n{below}"


def note_of_rest(n_shown: int, n_all: int, thing: str) -> list[str]:
    """Return the note of a table that shows only the first rows; no note if it shows all.

    Examples
    --------
    >>> note_of_rest(10, 40, "speaker"), note_of_rest(3, 3, "speaker")
    (['the first 10 of 40 speakers'], [])
    """
    return [f"the first {n_shown} of {count_of(n_all, thing)}"] if n_shown < n_all else []


def _shorten(text: str, width: int) -> str:
    """Return a text as one line of at most `width` characters."""
    text = printable(text)
    return text if len(text) <= width else f"{text[: width - 3]}..."


_SIDES = {"<": "left", ">": "right"}


def _text(text: str) -> str:
    return escape(printable(text))
