"""The timeline in Chromium: segments play from their start to their end, by mouse and by keyboard."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from verification import Turn
from web import timeline_html

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install -r requirements-dev.txt"
)
WEB = Path(__file__).parents[2] / "web"
SECONDS = 30.0
TURNS = [
    Turn(start=start, end=end, speaker=speaker, probability=0.9)
    for start, end, speaker in [(1, 9, "anna"), (10, 10.6, "ben"), (12, 20, "anna"), (21, 29, "unknown")]
]
# Whoever waits for the page waits this long at most (milliseconds).
LIMIT = 30_000
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return a browser without windows."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not on this machine: apt-get install chromium")
    arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


def timeline(source: str = "", name: str = "day.wav", upload: str = "one") -> str:
    envelope = np.tile(np.array([[-0.2, 0.2]], np.float32), (100, 1))
    html: str = timeline_html(TURNS, envelope, SECONDS, name=name, upload=upload)
    return html.replace("<audio ", f'<audio src="{source}" ') if source else html


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens a page with a timeline; an error in the page fails the test."""
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, int(SECONDS * 8_000))
    soundfile.write(tmp_path / "day.wav", samples, 8_000)
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    context.set_default_timeout(LIMIT)

    def open_page(source: str = "day.wav", width: int = 1000) -> Any:
        style, script = ((WEB / f"timeline.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
        head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><style>{style}</style>'
        html = f"<!DOCTYPE html><html><head>{head}<script>{script}</script></head><body><main></main></body></html>"
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto((tmp_path / "page.html").as_uri())
        # An answer arrives after the script.
        page.evaluate("html => { document.querySelector('main').innerHTML = html; }", timeline(source))
        if source:
            page.wait_for_function("document.querySelector('audio').readyState >= 1")
        return page

    yield open_page
    context.close()
    assert errors == []


def player(page: Any) -> tuple[float, bool]:
    """Return the time of the player, and whether it is paused."""
    second, is_paused = page.evaluate(
        "(() => { const a = document.querySelector('audio'); return [a.currentTime, a.paused]; })()"
    )
    return second, is_paused


def wait(page: Any, condition: str) -> None:
    """Wait for a condition about the player, which is named `a`."""
    page.wait_for_function(f"(() => {{ const a = document.querySelector('audio'); return {condition}; }})()")


def pressed(page: Any) -> list[str]:
    """Return the numbers of the turns that are marked, in the drawing and in the table."""
    marks = page.evaluate("[...document.querySelectorAll('[aria-pressed=true]')].map(each => each.dataset.turn)")
    return list(marks)


@pytest.mark.parametrize("kind", ["segment", "play"])
def test_segment_plays_from_its_start_and_stops_at_its_end(open_page: Open, kind: str) -> None:
    page = open_page()
    page.evaluate("window.first = null; document.querySelector('audio').addEventListener('playing', event => "
                  "{ window.first ??= event.target.currentTime; })")  # fmt: skip
    page.click(f".timeline-{kind}[data-turn='1']")
    wait(page, "window.first !== null && a.paused && !a.seeking")
    assert page.evaluate("window.first") == pytest.approx(10.0, abs=0.5)
    assert player(page) == pytest.approx((10.6, True), abs=0.01)
    assert pressed(page) == []
    place = page.evaluate("parseFloat(document.querySelector('.timeline-playhead').style.left)")
    assert place == pytest.approx(100 * 10.6 / SECONDS, abs=0.1)


def test_same_segment_pauses_and_another_one_is_played(open_page: Open) -> None:
    page = open_page()
    page.click(".timeline-segment[data-turn='2']")
    wait(page, "!a.paused && a.currentTime > 12.1")
    assert pressed(page) == ["2", "2"]
    page.click(".timeline-segment[data-turn='3']")
    wait(page, "!a.paused && a.currentTime > 21.1")
    assert pressed(page) == ["3", "3"]
    page.click(".timeline-play[data-turn='3']")
    wait(page, "a.paused")
    page.wait_for_function("!document.querySelector('[aria-pressed=true]')")
    assert 21 < player(page)[0] < 29


def test_segments_are_played_by_keyboard(open_page: Open) -> None:
    page = open_page()
    page.focus("[data-zoom='2']")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    wait(page, "!a.paused && a.currentTime > 12.1")
    page.keyboard.press("Space")
    wait(page, "a.paused")
    assert 12 < player(page)[0] < 20
    # The next step of the tab key is the next speaker, and the way back leads to the segment.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.turn") == "1"
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.dataset.turn") == "2"


def test_waveform_moves_the_player(open_page: Open) -> None:
    page = open_page()
    lane = page.locator(".timeline-waveform .timeline-lane")
    lane.click(position={"x": lane.bounding_box()["width"] / 2, "y": 20})
    assert player(page) == pytest.approx((15, True), abs=0.1)
    # Outside the segment that plays, it does not stop at the end of that segment.
    page.click(".timeline-segment[data-turn='2']")
    wait(page, "!a.paused && a.currentTime > 12.1")
    lane.click(position={"x": lane.bounding_box()["width"] * 0.8, "y": 20})
    wait(page, "a.currentTime > 24.1")
    assert pressed(page) == []
    assert not player(page)[1]


def test_zoom_widens_the_drawing_and_refines_the_ticks(open_page: Open) -> None:
    page = open_page()
    sizes = (
        "[document.querySelector('.timeline-inner').offsetWidth, document.querySelectorAll('.timeline-tick').length]"
    )
    width, n_ticks = page.evaluate(sizes)
    page.click("[data-zoom='2']")
    page.click("[data-zoom='2']")
    wider, more_ticks = page.evaluate(sizes)
    assert wider == pytest.approx(4 * width, abs=4)
    assert more_ticks > n_ticks
    for _ in range(2):
        page.click("[data-zoom='0.5']")
    assert page.evaluate(sizes)[0] == pytest.approx(width, abs=1)
    assert page.get_attribute("[data-zoom='0.5']", "aria-disabled") == "true"


def test_player_without_audio_is_explained(open_page: Open) -> None:
    page = open_page(source="")
    page.click(".timeline-segment[data-turn='1']")
    assert page.inner_text(".timeline-note") == "The recording is no longer in this page."
    assert pressed(page) == []


def test_answer_that_keeps_the_elements_stops_the_recording_before_it(open_page: Open) -> None:
    """Gradio may change the attributes of the elements that are there, instead of replacing these."""
    page = open_page()
    page.click(".timeline-segment[data-turn='2']")
    wait(page, "!a.paused && a.currentTime > 12.1")
    page.evaluate(
        "(() => { const a = document.querySelector('audio'); a.dataset.upload = 'two'; a.removeAttribute('src'); })()"
    )
    wait(page, "a.paused && a.currentTime === 0")
    assert pressed(page) == []
    page.click(".timeline-segment[data-turn='1']")
    assert page.inner_text(".timeline-note") == "The recording is no longer in this page."


@pytest.mark.parametrize("width", [390, 1000])
def test_page_does_not_scroll_sideways(open_page: Open, width: int) -> None:
    page = open_page(width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    label = page.locator(".timeline-speaker .timeline-label").first
    before = label.bounding_box()["x"]
    page.click("[data-zoom='2']")
    page.evaluate("document.querySelector('.timeline-scroll').scrollLeft = 10_000")
    assert label.bounding_box()["x"] == before  # still visible
    assert page.evaluate("document.documentElement.scrollWidth") == width
