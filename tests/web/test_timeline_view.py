"""`timeline_html`: positions of segments, tables, downloads, and names from outside."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reports import COLOURS
from verification import Turn, to_csv, to_rttm
from web import timeline_html, waveform_points

NO_END = {"img", "br", "input", "path"}
ENVELOPE = np.array([[-0.5, 0.25], [0.0, 0.0], [-0.1, 0.1]], np.float32)


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())

    @property
    def styles(self) -> dict[str, str]:
        pairs = (each.split(":", 1) for each in self.attributes.get("style", "").split(";") if each.strip())
        return {name.strip(): value.strip() for name, value in pairs}


@dataclass
class Parsed(HTMLParser):
    """The elements of a piece of HTML; it must close each one."""

    html: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[Element] = []
        self.feed(self.html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in NO_END:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag not in NO_END:
            assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def of_class(self, name: str) -> list[Element]:
        return [each for each in self.elements if name in each.classes]

    def of_tag(self, tag: str) -> list[Element]:
        return [each for each in self.elements if each.tag == tag]

    @property
    def links(self) -> dict[str, str]:
        """Content of each download, by the name of its file."""
        found = {}
        for link in self.of_tag("a"):
            kind, content = link.attributes["href"].split(",", 1)
            assert kind in {"data:text/plain;charset=utf-8", "data:text/csv;charset=utf-8"}
            found[link.attributes["download"]] = unquote_to_bytes(content).decode("utf-8", "surrogateescape")
        return found


def turn(start: float, end: float, speaker: str, probability: float = 0.97) -> Turn:
    return Turn(start=start, end=end, speaker=speaker, probability=probability)


def parse(
    turns: list[Turn],
    seconds: float = 100.0,
    *,
    name: str = "day.wav",
    upload: str = "k3y",
    envelope: NDArray[np.float32] = ENVELOPE,
) -> Parsed:
    html = timeline_html(turns, envelope, seconds, name=name, upload=upload)
    html.encode()  # valid Unicode
    return Parsed(html)


# Elements of a timeline, and nothing else.
TAGS = {
    "a", "audio", "bdi", "button", "caption", "div", "h2", "p", "path", "span", "svg", "table", "tbody", "td", "th",
    "thead", "tr",
}  # fmt: skip
TURNS = [turn(0, 10, "ben"), turn(10, 65, "anna"), turn(65, 90, "unknown"), turn(90.25, 100, "anna", float("nan"))]


def test_each_speaker_has_a_row_of_segments_with_unknown_last() -> None:
    page = parse(TURNS)
    assert "day.wav: 2 enrolled speakers in 1:40" in page.of_class("timeline-title")[0].text
    rows = page.of_class("timeline-speaker")
    assert [row.attributes["aria-label"] for row in rows] == ["anna", "ben", "unknown"]
    assert [row.styles["--colour"] for row in rows[:2]] == list(COLOURS[:2])
    assert rows[2].styles["--colour"] not in COLOURS
    segments = page.of_class("timeline-segment")
    assert [each.tag for each in segments] == ["button"] * 4
    places = [(each.styles["left"], each.styles["width"]) for each in segments]
    assert places == [
        ("10.0000%", "55.0000%"), ("90.2500%", "9.7500%"), ("0.0000%", "10.0000%"), ("65.0000%", "25.0000%"),
    ]  # fmt: skip
    assert [each.attributes["data-start"] for each in segments] == ["10.000", "90.250", "0.000", "65.000"]
    assert [each.attributes["data-end"] for each in segments] == ["65.000", "100.000", "10.000", "90.000"]
    labels = [each.attributes["aria-label"] for each in segments]
    assert labels[:2] == ["anna, 0:10.0 to 1:05.0, 97 %", "anna, 1:30.2 to 1:40.0"]
    assert [each.attributes["title"] for each in segments] == labels
    assert all(each.attributes["aria-pressed"] == "false" for each in segments)
    # One step of the tab key for each row.
    assert [each.attributes["tabindex"] for each in segments] == ["0", "-1", "0", "0"]


def test_tables_have_the_totals_and_a_button_for_each_turn() -> None:
    page = parse(TURNS)
    cells = [each.text for each in page.of_tag("td")]
    assert cells[:12] == ["anna", "2", "64.8", "64.8", "ben", "1", "10.0", "10.0", "unknown", "1", "25.0", "25.0"]
    assert cells[12:22] == ["ben", "0:00.0", "0:10.0", "10.0", "97.0", "anna", "0:10.0", "1:05.0", "55.0", "97.0"]
    assert cells[-1] == "-"
    buttons = page.of_class("timeline-play")
    segments = {each.attributes["data-turn"]: each for each in page.of_class("timeline-segment")}
    for number, button in enumerate(buttons):
        segment = segments[str(number)]
        assert button.attributes["aria-label"] == f"Play {segment.attributes['aria-label']}"
        for key in ("data-turn", "data-start", "data-end"):
            assert button.attributes[key] == segment.attributes[key]
    assert any("may be of several people" in each.text for each in page.of_tag("p"))


def test_player_has_the_key_of_the_upload_and_no_source() -> None:
    [player] = parse(TURNS, upload='a"><script>').of_tag("audio")
    assert player.attributes["data-upload"] == 'a"><script>'
    assert "src" not in player.attributes
    assert player.attributes["preload"] == "metadata"


def test_recording_without_turns_has_a_sentence() -> None:
    page = parse([])
    assert "day.wav: no speech in 1:40" in page.of_class("timeline-title")[0].text
    assert "No speech was found in this recording." in page.of_tag("div")[0].text
    assert page.of_tag("button") == page.of_tag("table") == page.of_tag("a") == []
    assert len(page.of_tag("audio")) == 1


def test_many_turns_are_all_drawn_and_downloaded_but_not_all_listed() -> None:
    turns = [turn(3 * number, 3 * number + 2, f"speaker {number % 12}") for number in range(1_200)]
    page = parse(turns, 3_600.0)
    assert len(page.of_class("timeline-segment")) == 1_200
    assert len(page.of_class("timeline-play")) == 1_000
    assert "The first 1,000 turns are listed; the CSV file has all." in page.of_tag("div")[0].text
    assert page.links["day.csv"] == to_csv(turns)
    # The width grows with the length, and so does the number of ticks.
    assert page.of_class("timeline-inner")[0].styles["--minutes"] == "60.000"
    assert [each.text for each in page.of_class("timeline-tick")][:3] == ["0:00", "1:00", "2:00"]


@pytest.mark.parametrize(("seconds", "last"), [(0.4, "0:00.3"), (7.0, "0:06"), (60.0, "0:45"), (3_600.0, "59:00")])
def test_ticks_are_within_the_recording(seconds: float, last: str) -> None:
    ticks = parse([turn(0, seconds, "anna")], seconds).of_class("timeline-tick")
    places = [float(each.styles["left"].rstrip("%")) for each in ticks]
    assert places[0] == 0
    assert places[-1] < 100
    assert ticks[-1].text == last


def test_waveform_is_a_path_at_a_scale_that_fills_the_height() -> None:
    page = parse(TURNS)
    [drawn] = page.of_tag("path")
    assert drawn.attributes["d"] == "M0 -50L1 0L2 -20L2 20L1 0L0 100Z"
    [image] = page.of_tag("svg")
    assert image.attributes["viewbox"] == "-0.5 -100 3 200"  # the parser writes names in lower case
    assert parse(TURNS, envelope=np.zeros((0, 2), np.float32)).of_tag("svg") == []
    silent = parse(TURNS, envelope=np.zeros((2, 2), np.float32))
    assert silent.of_tag("path")[0].attributes["d"] == "M0 0L1 0L1 0L0 0Z"


def test_number_of_points_of_the_waveform_is_limited() -> None:
    assert waveform_points(0.5) == waveform_points(60) == 1_000
    assert waveform_points(3_600) == 7_200
    assert waveform_points(3 * 3_600) == 8_000


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("day.wav", "day"),
        ("../../etc/passwd", "passwd"),
        ("..", "timeline"),
        ("", "timeline"),
        ('a"><b>.wav', 'a"><b>'),
        ("a\\b\u202ecod.wav", "a_b\N{REPLACEMENT CHARACTER}cod"),
        ("caf\udce9.wav", "caf\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_names_of_downloads_are_safe(name: str, stem: str) -> None:
    page = parse(TURNS, name=name)
    assert page.links == {f"{stem}.rttm": to_rttm(TURNS, name), f"{stem}.csv": to_csv(TURNS)}


# Names that a store accepts, and others.
names = st.one_of(
    st.text(min_size=1),
    st.sampled_from(
        [
            "<img src=x onerror=alert(1)>",
            "\"' onmouseover='alert(1)",
            "</div></button>",
            "x" * 300,
            "דנה כהן",
            "&lt;",
            "\x00",
        ]
    ),
)


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[Turn], float]:
    """Draw the length of a recording, and turns in it, the last of which may end a little after it."""
    seconds = draw(st.floats(0.5, 20_000))
    bounds = st.floats(0, seconds + 0.01)
    turns = []
    for speaker in draw(st.lists(names, min_size=1, max_size=6)):
        start, end = sorted((draw(bounds), draw(bounds)))
        turns.append(turn(start, end, speaker, draw(st.one_of(st.floats(0, 1), st.just(float("nan"))))))
    return turns, seconds


@given(recordings(), names, names)
def test_any_name_is_shown_as_text(recording: tuple[list[Turn], float], name: str, upload: str) -> None:
    turns, seconds = recording
    page = parse(turns, seconds, name=name, upload=upload)
    assert {each.tag for each in page.elements} <= TAGS
    attributes = {key for each in page.elements for key in each.attributes}
    assert not [key for key in attributes if key.startswith("on")]
    for each in page.of_class("timeline-segment"):
        left, width = (float(each.styles[key].rstrip("%")) for key in ("left", "width"))
        assert 0 <= left <= 100
        assert width >= 0
        assert left + width <= 100 + 1e-3
        assert set(each.styles) == {"left", "width"}
    assert len(page.of_class("timeline-speaker")) == len({each.speaker for each in turns})
    files = page.links
    assert all("/" not in each and "\\" not in each for each in files)
    rttm, csv = to_rttm(turns, name), to_csv(turns)
    assert sorted(files.values()) == sorted([rttm, csv])


def test_code_of_the_page_has_no_inline_handlers() -> None:
    source = (Path(__file__).parents[2] / "web" / "timeline_view.py").read_text(encoding="utf-8")
    assert not [word for word in (" onclick=", " onkeydown=", "<script", "javascript:") if word in source]
