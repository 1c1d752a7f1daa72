"""The page in a real browser: Chromium, driven by Playwright."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audio import read_audio
from corpora import Utterance
from encoders import Encoder
from features import FeatureSet
from files import UNKNOWN
from verification import Recording, SpeakerStore, SpeakerVerifier, find_turns, to_csv, to_rttm

api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: see requirements-dev.txt")

SAMPLE = Path(__file__).resolve().parents[2] / "sample"
VOICES = SAMPLE / "LibriSpeech" / "synthetic"
TABS = ("Who is it?", "Enrol", "Same speaker?", "Who spoke when?", "Results")
# Longest time that anything may take (seconds): the tests may share a slow machine.
PATIENCE = 30
# A name that runs a script where it is taken for HTML.
HOSTILE = '<img src=x onerror="window.hacked=1">'

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Open = Callable[..., Any]


def recordings_of(speaker: str, count: int = 3) -> list[Path]:
    """Return the first recordings of a voice of the sample, for its enrolment."""
    return sorted(VOICES.glob(f"{speaker}/*/*.flac"))[:count]


def held_out(speaker: str, number: int = 1) -> Path:
    return SAMPLE / "held_out" / f"{speaker}_{number}.flac"


@pytest.fixture(scope="module")
def conversation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording in which two voices of the sample take turns, with pauses; a microphone can play it too."""
    parts = []
    for path in islice(cycle([held_out("9001"), held_out("9004")]), 6):
        parts += [read_audio(path, 16_000).numpy(), np.zeros(8_000, np.float32)]
    path = tmp_path_factory.mktemp("conversation") / "two voices.wav"
    soundfile.write(path, np.concatenate(parts), 16_000)
    return path


@pytest.fixture(scope="module")
def browser(conversation: Path) -> Iterator[Any]:
    """Return a context of Chromium whose microphone plays the conversation; its pages share their cache."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    microphone = f"--use-file-for-fake-audio-capture={conversation}"
    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", microphone]
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=flags)
        context = chromium.new_context()
        context.set_default_timeout(1000 * PATIENCE)
        api.expect.set_options(timeout=1000 * PATIENCE)
        yield context
        chromium.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def server(start_page: Callable[..., Any], speech_weights: Path, results: Path) -> Iterator[Any]:
    with start_page("--results_dir", results) as server:
        yield server


# What Gradio writes if a page is loaded again while an event is running.
ENDED = re.compile("^AbortError|Connection errored out")


@contextmanager
def pages_of(browser: Any, server: Any) -> Iterator[Open]:
    """Open pages of a server whose store is empty; nothing may be wrong in their consoles and requests."""
    for path in server.store.parent.glob(f"{server.store.name}*"):
        path.unlink()
    problems: list[str] = []
    pages, contexts = [], []

    def note_request(request: Any) -> None:
        if not request.url.startswith((server.address, "data:", "blob:")):
            problems.append(f"a request to another host: {request.url}")

    def note_failure(request: Any) -> None:
        # The browser itself ends the connection by which answers arrive, and those of players that are removed.
        if request.failure != "net::ERR_ABORTED":
            problems.append(f"{request.url}: {request.failure}")

    def note_problem(message: str) -> None:
        problems.extend([message] * (not ENDED.search(message)))

    def open_page(width: int = 1100, *, another: bool = False) -> Any:
        if another:
            contexts.append(browser.browser.new_context())
        page = (contexts[-1] if another else browser).new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": 900})
        page.on("console", lambda each: note_problem(each.text) if each.type == "error" else None)
        page.on("pageerror", lambda error: note_problem(str(error)))
        page.on("request", note_request)
        page.on("requestfailed", note_failure)
        page.on("response", lambda each: problems.append(f"{each.url}: {each.status}") if each.status >= 400 else None)
        page.goto(server.address)
        api.expect(page.locator("#top")).to_contain_text("enrolled speaker")
        return page

    yield open_page
    hacked = [page.evaluate("window.hacked") for page in pages]
    noted = list(problems)  # before the pages are closed, which interrupts their connections
    for each in (*pages, *contexts):
        each.close()
    assert noted == []
    assert hacked == [None] * len(pages)


@pytest.fixture
def open_page(browser: Any, server: Any) -> Iterator[Open]:
    with pages_of(browser, server) as opened:
        yield opened


@pytest.fixture
def page(open_page: Open) -> Any:
    return open_page()


@pytest.fixture
def fill_store(server: Any, verifier_file: Path, spectral: Encoder, open_page: Open) -> Callable[..., SpeakerStore]:
    """Return a function that enrols voices of the sample without the page: ``fill_store("9001", "9004")``."""

    def fill(*voices: str) -> SpeakerStore:
        store = SpeakerStore.create(server.store, SpeakerVerifier.load(verifier_file))
        utterances = [Utterance(path, voice, "") for voice in voices for path in recordings_of(voice)]
        for row in store.verifier.embed(utterances, spectral):
            store.enroll(row.utterance.speaker, [Recording.of(row)], existing="add")
        return store

    return fill


def show_tab(page: Any, name: str) -> Any:
    """Choose a tab, which a narrow page has in a menu; return its panel."""
    tab = page.get_by_role("tab", name=name)
    if not tab.is_visible():
        page.get_by_role("button", name="More tabs").click()
        tab = page.locator(".overflow-dropdown").get_by_role("button", name=name)
    tab.click()
    return page.locator("[role=tabpanel]:visible")


def give_files(page: Any, label: str, files: list[Path]) -> None:
    """Upload files to an input of the visible tab, and wait until they are there."""
    title = page.get_by_test_id("block-label").filter(has_text=re.compile(rf"^\s*{label}"))
    block = page.locator("[role=tabpanel]:visible .block", has=title)
    block.locator("input[type=file]").first.set_input_files(files)
    api.expect(block.locator(".file-preview tr")).to_have_count(len(files))


def ask(page: Any, name: str) -> Any:
    """Press the button of an action, and return its answer, which differs from the one before."""
    page.evaluate("""() => {
        window.answered = false;
        for (const place of document.querySelectorAll("#identified, #enrolled, #compared, #timeline-answer")) {
            const content = place.querySelector(".html-container");
            new MutationObserver(() => { window.answered = true; })
                .observe(content, { childList: true, characterData: true, attributes: true, subtree: true });
        }
    }""")
    page.locator("[role=tabpanel]:visible").get_by_role("button", name=name, exact=True).click()
    page.wait_for_function("window.answered")
    answer = page.locator(".answer:visible")
    answer.wait_for()
    return answer


def enrol(page: Any, name: str, files: list[Path], *, with_warnings: bool = True) -> Any:
    panel = show_tab(page, "Enrol")
    panel.get_by_role("textbox", name="Name of the speaker").fill(name)
    panel.get_by_role("checkbox", name="Also enrol recordings with warnings").set_checked(with_warnings)
    give_files(page, "Recordings of this speaker", files)
    return ask(page, "Check and enrol")


def assert_players_play(within: Any, count: int) -> None:
    """Check that there are this many players of recordings, and that each of them plays."""
    api.expect(within.locator("audio[src]")).to_have_count(count)
    for player in within.locator("audio").all():
        play = """async audio => {
            await audio.play();
            await new Promise(done => audio.addEventListener("timeupdate", done, { once: true }));
            audio.pause();
            return Number.isFinite(audio.duration) && audio.duration > 0.5 && !audio.error;
        }"""
        assert player.evaluate(play)


def rows_of(within: Any) -> list[list[str]]:
    """Return the texts in the cells of a table."""
    return [row.locator("td").all_inner_texts() for row in within.locator("tbody tr").all()]


def test_first_start_explains_steps_and_offers_the_sample(page: Any) -> None:
    api.expect(page.locator("#top")).to_contain_text("speakers.db: 0 enrolled speakers")
    api.expect(page.locator("#steps li")).to_have_count(3)
    page.get_by_role("button", name="Try it with the synthetic voices").click()
    page.get_by_role("button", name="Enrol three voices").click()
    api.expect(page.locator("#top")).to_contain_text("3 enrolled speakers")
    api.expect(page.locator("#steps")).not_to_contain_text("Nobody is enrolled")
    page.get_by_role("button", name="Take recordings").click()
    api.expect(page.get_by_role("button", name="Remove this file")).to_have_count(3)
    answer = ask(page, "Identify")
    assert [file for file, *_ in rows_of(answer)] == ["9001_1.flac", "9004_2.flac", "9006_1.flac"]
    assert_players_play(answer, 3)
    assert [row[0] for row in rows_of(show_tab(page, "Enrol").locator("#speakers"))] == [
        "sample 9001", "sample 9002", "sample 9004"
    ]  # fmt: skip


def test_enrolled_voices_are_identified_and_removed(
    page: Any, server: Any, verifier_file: Path, spectral: Encoder
) -> None:
    voices = {"Ada": "9001", "Ben": "9004", "Cleo": "9008"}
    for place, (name, voice) in enumerate(voices.items(), start=1):
        answer = enrol(page, name, recordings_of(voice))
        api.expect(answer.get_by_role("heading")).to_have_text(f"3 recordings of {name} enrolled")
        api.expect(page.locator("#top")).to_contain_text(f"speakers.db: {place} enrolled speaker")
    assert_players_play(answer, 3)

    show_tab(page, "Who is it?")
    asked = [held_out("9001"), held_out("9004"), held_out("9006")]
    give_files(page, "Recordings to identify", asked)
    answer = ask(page, "Identify")
    with SpeakerStore.open(server.store) as store:
        found = store.identify_files(asked, spectral, top_k=5, p_known=0.5)
    best = ["Unknown speaker" if each.speakers[0] == UNKNOWN else each.speakers[0] for each in found]
    assert [row[:2] for row in rows_of(answer)] == [
        [f"{path.name}", name] for path, name in zip(asked, best, strict=True)
    ]
    assert_players_play(answer, 3)
    give_files(page, "Recordings to identify", asked[:1])
    answer = ask(page, "Identify")
    api.expect(answer.get_by_role("heading")).to_have_text(best[0])
    assert answer.locator(".bar-name").all_inner_texts() == list(found[0].speakers)
    assert_players_play(answer, 1)

    panel = show_tab(page, "Enrol")
    shown = panel.locator("#speaker-recordings")
    api.expect(shown.locator("tbody tr")).to_have_count(3)
    assert_players_play(shown, 3)
    panel.get_by_role("button", name="Remove this recording").click()
    api.expect(shown.locator("tbody tr")).to_have_count(2)
    asked_before: list[str] = []

    def refuse(dialog: Any) -> None:
        asked_before.append(dialog.message)
        dialog.dismiss()

    page.once("dialog", refuse)
    panel.get_by_role("button", name="Remove this speaker").click()
    assert asked_before == ["Remove Cleo with all recordings? This cannot be undone."]
    page.once("dialog", lambda dialog: dialog.accept())
    panel.get_by_role("button", name="Remove this speaker").click()
    api.expect(page.locator("#top")).to_contain_text("speakers.db: 2 enrolled speakers")
    assert [row[0] for row in rows_of(panel.locator("#speakers"))] == ["Ada", "Ben"]
    api.expect(shown).to_contain_text("recording of Ada")
    with SpeakerStore.open(server.store) as store:
        assert [speaker.name for speaker in store.speakers()] == ["Ada", "Ben"]


@pytest.mark.timeout(300)
def test_ready_verifier_distinguishes_the_voices_of_the_sample(
    browser: Any, start_page: Callable[..., Any], real_campplus_weights: Path
) -> None:
    options = ("--verifier", "ready", "--encoder_weights", real_campplus_weights)
    with start_page(*options) as server, pages_of(browser, server) as open_page:
        page = open_page()
        for voice in ("9001", "9004"):
            enrol(page, voice, recordings_of(voice))
        show_tab(page, "Who is it?")
        give_files(page, "Recordings to identify", [held_out(voice) for voice in ("9001", "9004", "9006")])
        assert [row[1] for row in rows_of(ask(page, "Identify"))] == ["9001", "9004", "Unknown speaker"]


def test_microphone_gives_a_recording_to_identify(page: Any, fill_store: Callable[..., SpeakerStore]) -> None:
    fill_store("9001", "9004").close()
    panel = show_tab(page, "Who is it?")
    for number in (1, 2):
        panel.get_by_role("button", name="Record", exact=True).click()
        page.wait_for_timeout(1500)
        panel.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
        api.expect(panel.locator(f'[aria-label="microphone {number}.wav"]')).to_be_visible()
    answer = ask(page, "Identify")
    assert [row[0] for row in rows_of(answer)] == ["microphone 1.wav", "microphone 2.wav"]
    assert_players_play(answer, 2)


def test_two_recordings_are_compared(page: Any, verifier_file: Path, spectral: Encoder) -> None:
    show_tab(page, "Same speaker?")
    pair = [held_out("9001", 1), held_out("9001", 2)]
    for label, path in zip(("First recording", "Second recording"), pair, strict=True):
        give_files(page, label, [path])
    answer = ask(page, "Compare")
    found = SpeakerVerifier.load(verifier_file).verify(*pair, p_target=0.5, encoder=spectral)
    headlines = {"same": "The same speaker", "different": "Two different speakers", "unsure": "Not decided"}
    api.expect(answer.get_by_role("heading").first).to_have_text(headlines[found.decision])
    api.expect(answer).to_contain_text(f"Log-likelihood ratio {found.llr:+.2f}")
    assert_players_play(answer, 2)


def test_conversation_has_a_timeline_that_plays_and_downloads(
    page: Any, conversation: Path, fill_store: Callable[..., SpeakerStore], spectral: Encoder, tmp_path: Path
) -> None:
    store = fill_store("9001", "9004")
    panel = show_tab(page, "Who spoke when?")
    panel.get_by_role("checkbox", name="Find the speech first").uncheck()
    give_files(page, "A conversation", [conversation])
    answer = ask(page, "Find who spoke when")
    turns = find_turns(store, conversation, spectral)
    store.close()
    segments = answer.locator(".timeline-segment")
    api.expect(segments).to_have_count(len(turns))
    assert_players_play(answer, 1)
    segments.first.click()
    api.expect(segments.first).to_have_attribute("aria-pressed", "true")
    page.wait_for_function("!document.querySelector('.timeline audio').paused")
    segments.first.click()
    api.expect(segments.first).to_have_attribute("aria-pressed", "false")
    for kind, expected in (("RTTM", to_rttm(turns, conversation)), ("CSV", to_csv(turns))):
        with page.expect_download() as saved:
            answer.get_by_role("link", name=kind).click()
        assert saved.value.suggested_filename == f"two voices.{kind.lower()}"
        saved.value.save_as(tmp_path / kind)
        assert (tmp_path / kind).read_bytes() == expected.encode()


def test_report_of_a_comparison_is_shown(page: Any, results: Path, call_script: Run) -> None:
    labels = np.arange(4).repeat(10)
    vectors = np.random.default_rng(0).standard_normal((40, 5)) + 4 * np.eye(4, 5)[labels]
    path = FeatureSet.from_arrays(vectors, labels).save(results / "features.pt")
    options = ("--features_path", path, "--heads", "lda", "cosine", "--output_dir", results / "heads")
    done = call_script("speaker_recognition_librispeech.py", *options)
    assert done.returncode == 0, done.stderr
    panel = show_tab(page, "Results")
    panel.get_by_role("button", name="Search again").click()
    panel.get_by_role("combobox").click()
    page.get_by_role("option").filter(has_text="heads/report.html").click()
    report = page.frame_locator("iframe.results")
    sort = report.locator("th button").first
    api.expect(sort).to_be_visible()
    column = report.locator("table").first.locator("tbody tr td:first-child")
    sort.click()
    first = column.all_inner_texts()
    sort.click()
    assert column.all_inner_texts() == first[::-1] != first
    with page.expect_download() as saved:
        report.get_by_role("link", name="metrics.csv").click()
    assert Path(saved.value.path()).read_bytes() == (results / "heads" / "metrics.csv").read_bytes()


def test_recordings_with_warnings_wait_for_a_confirmation(page: Any, tmp_path: Path, server: Any) -> None:
    quiet = tmp_path / "quiet.wav"
    signal = read_audio(held_out("9001"), 16_000).numpy()
    soundfile.write(quiet, 0.003 * signal, 16_000, subtype="FLOAT")
    answer = enrol(page, "Ada", [*recordings_of("9001"), quiet], with_warnings=False)
    api.expect(answer.get_by_role("heading")).to_have_text("3 recordings of Ada enrolled")
    assert "not enrolled" in rows_of(answer)[3][2]
    page.get_by_role("button", name="Enrol the recordings with warnings too").click()
    api.expect(answer.get_by_role("heading")).to_have_text("4 recordings of Ada enrolled")
    api.expect(page.locator("#confirm-button")).to_be_hidden()
    with SpeakerStore.open(server.store) as store:
        assert [speaker.n_recordings for speaker in store.speakers()] == [4]


def test_errors_are_sentences_and_leave_with_the_next_action(page: Any, tmp_path: Path) -> None:
    panel = show_tab(page, "Enrol")
    toast = page.get_by_test_id("toast-text")
    panel.get_by_role("button", name="Check and enrol").click()
    api.expect(toast).to_have_text("Give the speaker a name.")
    panel.get_by_role("textbox", name="Name of the speaker").fill("Ada")
    panel.get_by_role("button", name="Check and enrol").click()
    api.expect(toast).to_have_text("There is no recording. Record something, or choose one or more files.")
    text = tmp_path / "text.wav"
    text.write_text("This is no audio.")
    panel.get_by_role("textbox", name="Name of the speaker").fill("")
    give_files(page, "Recordings of this speaker", [text])
    panel.get_by_role("button", name="Check and enrol").click()
    api.expect(toast).to_have_text("Give the speaker a name.")
    api.expect(panel.locator(".file-preview tr")).to_have_count(1)  # nothing was used up
    panel.get_by_role("textbox", name="Name of the speaker").fill("Ada")
    panel.get_by_role("button", name="Check and enrol").click()
    answer = page.locator("#enrolled")
    api.expect(answer.get_by_role("heading")).to_have_text("Nothing was enrolled")
    api.expect(answer).to_contain_text("this is not audio")
    api.expect(answer).to_contain_text("(this browser cannot play it)")
    api.expect(toast).to_have_count(0)


def test_names_are_shown_as_typed_and_run_nothing(page: Any, tmp_path: Path) -> None:
    hostile = tmp_path / f"{HOSTILE}.flac"
    shutil.copy(recordings_of("9001")[0], hostile)
    text = tmp_path / f"{HOSTILE}.txt.wav"
    text.write_text("This is no audio.")
    answer = enrol(page, HOSTILE, [hostile, text])
    api.expect(answer.get_by_role("heading")).to_have_text(f"1 recording of {HOSTILE} enrolled")
    panel = page.locator("[role=tabpanel]:visible")
    api.expect(panel.locator("#speakers td").first).to_have_text(HOSTILE)
    api.expect(panel.locator("#speaker-recordings td").first).to_have_text(hostile.name)
    show_tab(page, "Who is it?")
    give_files(page, "Recordings to identify", [hostile, text])
    api.expect(ask(page, "Identify").locator(".file")).to_have_text([hostile.name, text.name])
    show_tab(page, "Who spoke when?")
    give_files(page, "A conversation", [text])
    page.get_by_role("button", name="Find who spoke when").click()
    api.expect(page.get_by_test_id("toast-text")).to_contain_text(f"{text.name}: this is not audio")
    page.locator("[role=tabpanel]:visible").get_by_role("checkbox").uncheck()
    give_files(page, "A conversation", [hostile])
    api.expect(ask(page, "Find who spoke when").get_by_role("heading").first).to_contain_text(hostile.name)
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None


def test_two_browsers_enrol_at_the_same_time(open_page: Open) -> None:
    pages = [open_page(), open_page(another=True)]
    for number, (page, voice) in enumerate(zip(pages, ("9001", "9010"), strict=True)):
        panel = show_tab(page, "Enrol")
        panel.get_by_role("textbox", name="Name of the speaker").fill(f"browser {number}")
        panel.get_by_role("checkbox", name="Also enrol recordings with warnings").check()
        give_files(page, "Recordings of this speaker", recordings_of(voice))
    for page in pages:
        page.get_by_role("button", name="Check and enrol").click()
    for page in pages:
        page.locator("#enrolled .answer").wait_for()
        api.expect(page.locator("#enrolled h2")).to_contain_text("3 recordings of browser")
    for page in pages:
        page.reload()
        api.expect(page.locator("#top")).to_contain_text("speakers.db: 2 enrolled speakers")
        panel = show_tab(page, "Enrol")
        assert [row[:2] for row in rows_of(panel.locator("#speakers"))] == [["browser 0", "3"], ["browser 1", "3"]]


def test_narrow_page_needs_no_sideways_scrolling(
    open_page: Open, conversation: Path, fill_store: Callable[..., SpeakerStore]
) -> None:
    fill_store("9001", "9004").close()
    page = open_page(width=390)
    asked = {
        "Who is it?": ("Identify", {"Recordings to identify": [held_out("9001"), held_out("9006")]}),
        "Enrol": ("Check and enrol", {"Recordings of this speaker": recordings_of("9008")}),
        "Same speaker?": ("Compare", {"First recording": [held_out("9001")], "Second recording": [held_out("9006")]}),
        "Who spoke when?": ("Find who spoke when", {"A conversation": [conversation]}),
    }
    for tab in TABS:
        panel = show_tab(page, tab)
        if tab == "Enrol":
            panel.get_by_role("textbox", name="Name of the speaker").fill("a long name, " * 15)
        button, given = asked.get(tab, ("", {}))
        for label, files in given.items():
            give_files(page, label, files)
        if button:
            ask(page, button)
        assert page.evaluate("document.documentElement.scrollWidth") == 390, tab


def press_to(page: Any, role: str, name: str | re.Pattern[str]) -> None:
    """Press the tab key until an element has the focus, which must be visible."""
    wanted = page.locator("body").get_by_role(role, name=name).locator("visible=true").first
    for _ in range(60):
        page.keyboard.press("Tab")
        if wanted.evaluate("each => each === document.activeElement || each.contains(document.activeElement)"):
            style = wanted.evaluate(
                """each => { const style = getComputedStyle(each);
                return [style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0, style.boxShadow]; }"""
            )
            assert style[0] or style[1] != "none", f"the focus of {name} is not visible"
            return
    raise AssertionError(f"the tab key does not reach {name}")


def test_keyboard_alone_enrols_and_identifies(page: Any) -> None:
    choosers: list[Any] = []
    # From the start: a dialogue would be missed while Playwright prepares for it.
    page.on("filechooser", lambda chooser: choosers.append(chooser))

    def choose_by_key(key: str, files: list[Path]) -> None:
        page.keyboard.press(key)
        for _ in range(100):
            if choosers:
                break
            page.wait_for_timeout(100)
        choosers.pop().set_files(files)

    press_to(page, "tab", "Enrol")
    page.keyboard.press("Enter")
    press_to(page, "textbox", "Name of the speaker")
    page.keyboard.type("Ada")
    press_to(page, "button", "Recordings of this speaker")
    choose_by_key("Enter", recordings_of("9001"))
    api.expect(page.get_by_role("button", name="Remove this file")).to_have_count(3)
    press_to(page, "button", "Check and enrol")
    page.keyboard.press("Space")
    api.expect(page.locator("#enrolled h2")).to_have_text("3 recordings of Ada enrolled")
    page.reload()
    api.expect(page.locator("#top")).to_contain_text("1 enrolled speaker")
    press_to(page, "button", "Recordings to identify")
    choose_by_key("Space", [held_out("9001")])
    api.expect(page.locator(".file-preview tr")).to_have_count(1)
    press_to(page, "button", re.compile("^Identify$"))
    page.keyboard.press("Enter")
    api.expect(page.locator("#identified .bars")).to_be_visible()
    api.expect(page.locator("#announced")).to_have_text(page.locator("#identified h2").inner_text())


def test_page_is_accessible(page: Any, fill_store: Callable[..., SpeakerStore]) -> None:
    """Each control has a name, headings are in order, and the language is given."""
    fill_store("9001").close()
    page.reload()
    api.expect(page.locator("#top")).to_contain_text("1 enrolled speaker")
    assert page.evaluate("document.documentElement.lang") == "en"
    names = set()
    for tab in TABS:
        panel = show_tab(page, tab)
        page.wait_for_timeout(200)
        snapshot = panel.aria_snapshot()
        assert not re.findall(r"- (?:button|textbox|combobox|checkbox|slider|spinbutton)(?::|$| \[)", snapshot, re.M)
        assert "common." not in snapshot
        names |= {name for name in re.findall(r'button "(.*?)"', snapshot) if "upload" in name.lower()}
        levels = page.evaluate(
            """[...document.querySelectorAll("h1, h2, h3, h4")]
            .filter(each => each.offsetParent).map(each => +each.tagName[1])"""
        )
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(names) == 5, names
