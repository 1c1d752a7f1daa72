"""Parts of the answers, as HTML. All text from outside is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

from files import format_percent
from heads import UNKNOWN


def text(value: object) -> str:
    """Escape text for HTML; lone surrogates and control characters, which a page cannot show, are replaced."""
    shown = "".join(
        each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in str(value)
    )
    return escape(shown)


def paragraph(content: object, kind: str = "") -> str:
    """Make a paragraph of plain text."""
    return f'<p class="{kind}">{text(content)}</p>' if kind else f"<p>{text(content)}</p>"


def notes(sentences: Iterable[str]) -> str:
    """Make a list of warnings; empty if there are none."""
    listed = list(sentences)
    items = "".join(f"<li>{text(each)}</li>" for each in listed)
    flags = paragraph("The flags that are named here are those of the scripts.", "faint")
    return f'<ul class="notes">{items}</ul>{flags if any(" --" in each for each in listed) else ""}' if items else ""


def player(key: str, name: str) -> str:
    """Make a player of an uploaded recording, whose audio the browser has kept under a key."""
    return (
        f'<audio controls preload="metadata" data-upload="{text(key)}" aria-label="play {text(name)}"></audio>'
        '<span class="no-player"></span>'
    )


def bar(label: str, share: float | None) -> str:
    """Make a row of a bar chart of probabilities; a probability that is not known has no bar."""
    kind = " unknown" if label == UNKNOWN else ""
    drawn = f'<span class="bar-name" title="{text(label)}">{text(label)}</span>'
    if share is not None:
        drawn += (
            f'<span class="bar-track"><span class="bar-fill" style="width:{100 * share:.2f}%"></span></span>'
            f'<span class="bar-number">{format_percent(share)} %</span>'
        )
    return f'<div class="bar{kind}">{drawn}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a table; the header is plain text, and the cells are HTML."""
    head = "".join(f'<th scope="col">{text(each)}</th>' for each in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
