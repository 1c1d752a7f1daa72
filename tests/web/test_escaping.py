"""Names and sentences from outside are escaped wherever the page draws them."""

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verification import Turn
from web.elements import bar, notes, paragraph, player, table, text
from web.enrol_tab import enrolled_html
from web.identify_tab import identified_html
from web.timeline_view import timeline_html
from web.workspace import refused

ATTACKS = (
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "' onfocus='alert(1)",
    "</section></audio><iframe src=//a.b>",
    "&lt;b&gt; &amp;",
    "javascript:alert(1)",
    "\ud800\x00\u202e",
)
OUTSIDE = st.one_of(st.sampled_from(ATTACKS), st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
# Names of elements and attributes that the drawing functions use; no other one may come from a name.
TAGS = frozenset(
    [
        "a",
        "audio",
        "b",
        "bdi",
        "button",
        "caption",
        "details",
        "div",
        "h1",
        "h2",
        "h3",
        "li",
        "ol",
        "p",
        "path",
        "section",
        "span",
        "summary",
        "svg",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
ATTRIBUTES = frozenset(
    [
        "aria-hidden",
        "aria-label",
        "aria-pressed",
        "class",
        "controls",
        "d",
        "data-end",
        "data-seconds",
        "data-start",
        "data-turn",
        "data-upload",
        "data-zoom",
        "download",
        "href",
        "preload",
        "preserveaspectratio",
        "role",
        "scope",
        "style",
        "tabindex",
        "title",
        "type",
        "viewbox",
    ]
)


class Elements(HTMLParser):
    """Collects elements, attributes and text as a browser does."""

    def __init__(self, drawn: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.shown = ""
        self.feed(drawn)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.shown += data


def check(drawn: str) -> Elements:
    """Check that HTML has the elements and attributes of the page only, and can be sent."""
    drawn.encode()
    found = Elements(drawn)
    assert set(found.tags) <= TAGS
    assert {name for name, _ in found.attributes} <= ATTRIBUTES
    assert all(value.startswith("data:") for name, value in found.attributes if name == "href")
    return found


def identified(names: list[str]) -> dict[str, Any]:
    predictions = [{"speaker": name, "probability": 0.5} for name in names]
    recordings = [
        {"file": name, "upload": name, "predictions": predictions, "score": 0.5, "threshold": 0.25, "error": error}
        for name in names
        for error in (None, name)
    ]
    return {"recordings": recordings, "against": "enrolled speakers", "warnings": names}


def enrolled(name: str) -> dict[str, Any]:
    line = {"file": name, "upload": name, "digest": None, "seconds": 1.0, "enrolled": False, "warnings": [name]}
    recordings = [{**line, "error": None}, {**line, "error": name}, {**line, "error": None, "enrolled": True}]
    return {"name": name, "n_enrolled": 1, "recordings": recordings, "warnings": [name]}


@settings(max_examples=30)
@given(OUTSIDE, OUTSIDE)
def test_elements_contain_names_as_text(name: str, other: str) -> None:
    for drawn in (paragraph(name), notes([name, other]), bar(name, 0.5), table([name], [[text(other)]])):
        check(drawn)
    found = check(player(name, other))
    assert set(found.tags) == {"audio", "span"}
    check(text(name))


@settings(max_examples=30)
@given(OUTSIDE, OUTSIDE)
def test_answers_contain_names_as_text(name: str, other: str) -> None:
    check(identified_html(identified([name])))
    check(identified_html(identified([name, other])))
    check(enrolled_html(enrolled(name)))
    turns = [
        Turn(start=0.0, end=1.0, speaker=name, probability=0.5),
        Turn(start=1.0, end=2.0, speaker=other, probability=0.5),
    ]
    check(timeline_html(turns, np.zeros((4, 2), np.float32), 2.0, name=name, upload=other))


@pytest.mark.parametrize("name", ATTACKS[:5])
def test_names_are_shown_as_they_are(name: str) -> None:
    assert name in check(enrolled_html(enrolled(name))).shown
    assert name in check(identified_html(identified([name]))).shown


@settings(max_examples=30)
@given(OUTSIDE)
def test_sentences_of_errors_are_escaped(sentence: str) -> None:
    message = str(refused(sentence).message)
    message.encode()
    assert Elements(message).tags == []
