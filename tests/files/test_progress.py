"""Progress without a terminal: a line a minute in the log, none for short work; a bar on a terminal."""

import doctest
import importlib
import io
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from files import Progress, announce, observe_progress, track

MODULE = importlib.import_module("files.progress")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def tick(self, item: int) -> int:
        """Pass a second, and return the item."""
        self.now += 1
        return item


class Lines(logging.Handler):
    """Collects log lines; `arrived` is set by each line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.arrived = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.arrived.set()


@pytest.fixture
def log() -> Iterator[Lines]:
    logger, handler = logging.getLogger("files.progress"), Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(MODULE, "time", made)
    return made


def test_long_work_is_logged_once_a_minute(log: Lines, clock: Clock) -> None:
    for number in track(range(10_000), "Extracting", 10_000, unit="file"):
        assert number < 10_000
        clock.now += 1 / 16  # 625 s in all
    assert len(log.lines) == 10
    assert log.lines[0] == "Extracting: 960 of 10,000 files, 9 min left"
    assert log.lines[-1] == "Extracting: 9,600 of 10,000 files, 25 s left"


def test_short_work_is_not_logged(log: Lines, clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(59), "Extracting", 59, unit="file"):
        clock.now += 1
    assert log.lines == []
    assert capfd.readouterr() == ("", "")


def test_hidden_progress_is_not_logged(log: Lines, clock: Clock) -> None:
    for _ in track(range(5), "Extracting", 5, unit="file", visible=False):
        clock.now += 100
    assert log.lines == []


def test_resumed_download_is_timed_by_its_new_bytes(log: Lines, clock: Clock) -> None:
    with Progress("Downloading", 300_000_000, unit="B", done=100_000_000) as progress:
        clock.now = 100
        progress.advance(50_000_000)
    assert log.lines == ["Downloading: 150 of 300 MB, 5 min left"]


def test_download_of_unknown_size_is_logged(log: Lines, clock: Clock) -> None:
    with Progress("Downloading", None, unit="B") as progress:
        clock.now = 120
        progress.advance(2_000_000)
    assert log.lines == ["Downloading: 2 MB, running for 2 min"]


def test_long_steps_are_logged_while_they_run(log: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "INTERVAL", 0.01)
    with Progress("Comparing heads", 3, unit="split", steady=True) as progress:
        assert log.arrived.wait(30)
        progress.advance()
    assert log.lines[0] == "Comparing heads: 0 of 3 splits, running for 0 s"


def test_work_without_a_count_is_announced_if_it_takes_time(log: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    with announce("Drawing the report"):
        pass
    assert log.lines == []
    monkeypatch.setattr(MODULE, "DELAY", 0.01)
    with announce("Drawing the report"):
        assert log.arrived.wait(30)
    assert log.lines == ["Drawing the report"]


def test_work_without_a_count_is_logged_again(log: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "DELAY", 0.01)
    monkeypatch.setattr(MODULE, "INTERVAL", 0.01)
    with announce("Drawing the report"):
        while len(log.lines) < 2:
            assert log.arrived.wait(30)
            log.arrived.clear()
    assert log.lines[1].startswith("Drawing the report: running for ")


def test_terminal_has_a_bar_and_no_lines(log: Lines, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    for _ in track(range(3), "Extracting", 3, unit="file"):
        clock.now += 100
    assert "Extracting: 100%" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert log.lines == []


def test_note_follows_the_counts(log: Lines, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        with Progress("Epoch 1 of 2", 4, unit="step") as progress:
            for number in range(4):
                clock.now += 40
                progress.advance(note=f"loss {number}.00")

    work()
    assert log.lines == [
        "Epoch 1 of 2: 2 of 4 steps, 1 min left, loss 1.00",
        "Epoch 1 of 2: 4 of 4 steps, 0 s left, loss 3.00",
    ]
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    work()
    assert "loss 3.00" in terminal.getvalue()


Reports = list[tuple[str, int, int | None]]


def collect(reports: Reports) -> Callable[[str, int, int | None], None]:
    return lambda task, done, total: reports.append((task, done, total))


def test_observer_receives_a_few_reports_a_second(clock: Clock) -> None:
    reports: Reports = []
    with observe_progress(collect(reports)):
        for _ in track(range(1_000), "Extracting", 1_000, unit="file", visible=False):
            clock.now += 1 / 128  # 7.8 s in all
    assert reports[0] == ("Extracting", 0, 1_000)
    assert reports[1:-1] == [("Extracting", 32 * number, 1_000) for number in range(1, 32)]
    assert reports[-1] == ("Extracting", 1_000, 1_000)


def test_last_report_is_not_repeated(clock: Clock) -> None:
    reports: Reports = []
    with observe_progress(collect(reports)), Progress("Downloading", None, unit="B", done=5) as progress:
        clock.now += 1
        progress.advance(10)
    assert reports == [("Downloading", 5, None), ("Downloading", 15, None)]


def test_observed_work_is_neither_drawn_nor_logged(log: Lines, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: Reports = []
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr("sys.stderr", stream)
        with observe_progress(collect(reports)):
            for _ in track(range(3), "Extracting", 3, unit="file"):
                clock.now += 100
        assert stream.getvalue() == ""
    assert log.lines == []
    assert [done for _, done, _ in reports] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_observers_of_threads_are_separate() -> None:
    barrier = threading.Barrier(2, timeout=30)

    def work(task: str) -> Reports:
        reports: Reports = []
        with observe_progress(collect(reports)):
            for _ in track(range(4), task, 4, unit="file"):
                barrier.wait()  # both threads are in the middle of their work
        return reports

    with ThreadPoolExecutor(2) as pool:
        for task, reports in zip(("one", "two"), pool.map(work, ("one", "two")), strict=True):
            assert {each for each, _, _ in reports} == {task}
            assert (reports[0][1], reports[-1][1]) == (0, 4)


def test_work_after_the_context_is_not_observed() -> None:
    outer: Reports = []
    inner: Reports = []
    with observe_progress(collect(outer)):
        with observe_progress(collect(inner)):
            list(track(range(1), "inner", 1, unit="file"))
        list(track(range(1), "outer", 1, unit="file"))
    list(track(range(1), "none", 1, unit="file"))
    assert [inner[0][0], inner[-1]] == ["inner", ("inner", 1, 1)]
    assert {task for task, _, _ in outer} == {"outer"}


def test_error_of_an_observer_ends_the_work(clock: Clock) -> None:
    def cancel(task: str, done: int, total: int | None) -> None:
        if done:
            raise RuntimeError("cancelled")

    items = iter(range(10))
    with observe_progress(cancel), pytest.raises(RuntimeError, match="cancelled"):
        list(track(map(clock.tick, items), "Extracting", 10, unit="file"))
    assert list(items) == list(range(1, 10))


def test_early_end_closes_the_items() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    shown = track(items(), "Reading", 10, unit="file")
    assert next(iter(shown)) == 0
    del shown
    assert closed == [True]


def test_examples_in_docstrings_hold() -> None:
    results = doctest.testmod(MODULE)
    assert results.attempted > 0
    assert results.failed == 0
