"""Progress of long work: a bar on a terminal; otherwise a line a minute in the log, and none for short work.

A program without a terminal, such as a server, observes the progress instead.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds between two lines.
INTERVAL = 60.0
# Seconds after which work without a count is logged for the first time.
DELAY = 2.0
# Minimum number of seconds between two reports to an observer, other than the first and the last one of a task.
OBSERVED_INTERVAL = 0.25

Observer = Callable[[str, int, int | None], object]
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observe_progress(callback: Observer) -> Iterator[None]:
    """Report all `Progress` that begins in this context to a function, instead of on the terminal and in the log.

    Work that is hidden (``visible=False``) is reported too. Other threads are not affected.

    Parameters
    ----------
    callback : callable
        Called in the thread of the work with the task, the number of steps done, and the total (int, or None if it is
        not known): when a task begins, a few times a second while it advances, and when its last step is done. An
        error that it raises ends the work.
    """
    token = _observer.set(callback)
    try:
        yield
    finally:
        _observer.reset(token)


class Progress:
    """Progress of work whose steps are counted; use it as a context manager.

    Parameters
    ----------
    task : str
        What is done, such as ``Extracting``.
    total : int or None
        Number of steps; None if it is not known.
    unit : str
        Name of one step, such as ``file``; bytes (``B``) are shown in MB.
    visible : bool
        Whether to show anything.
    done : int
        Number of steps that an earlier run has done.
    steady : bool
        Whether a line is logged each minute even if no step ends, for steps of more than a minute. This starts a
        thread, so it must not be used around a fork.
    """

    def __init__(
        self, task: str, total: int | None, *, unit: str, visible: bool = True, done: int = 0, steady: bool = False
    ) -> None:
        self.task, self.total, self.unit, self.done = task, total, unit, done
        self._started, self._done_before = time.monotonic(), done
        self._logged = self._started
        self._observer, self._observed = _observer.get(), -1
        self._next_report = self._started
        is_shown = visible and self._observer is None
        self._is_logged = is_shown and not sys.stderr.isatty()
        self._is_steady = steady and self._is_logged
        self._is_drawn = is_shown and sys.stderr.isatty()
        self._stack = ExitStack()
        self._note = ""

    def __enter__(self) -> "Progress":
        if self._is_drawn:
            from tqdm import tqdm  # here, since the scripts import `files` for --help

            in_bytes = self.unit == "B"
            self._bar = self._stack.enter_context(
                tqdm(
                    total=self.total, initial=self.done, desc=self.task, unit=self.unit, unit_scale=in_bytes, leave=None
                )
            )
        if self._is_steady:
            self._stack.enter_context(_repeated(self._log, INTERVAL))
        self._report()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self._stack.close()
        if kind is None and self.done != self._observed:
            self._report()

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count `n` more steps; `note` is shown after the counts, such as the current loss."""
        self.done += n
        self._note = note
        if self._is_drawn:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(n)
        elif self._is_logged and not self._is_steady and time.monotonic() - self._logged >= INTERVAL:
            self._log()
        elif self._observer is not None and time.monotonic() >= self._next_report:
            self._report()

    def _report(self) -> None:
        if self._observer is not None:
            self._observed, self._next_report = self.done, time.monotonic() + OBSERVED_INTERVAL
            self._observer(self.task, self.done, self.total)

    def _log(self) -> None:
        self._logged = time.monotonic()
        logger.info("%s", self.line(self._logged - self._started))

    def line(self, seconds: float) -> str:
        """Describe the progress after `seconds` of work.

        Examples
        --------
        >>> Progress("Extracting", 10_000, unit="file", done=0).line(60)
        'Extracting: 0 of 10,000 files, running for 1 min'
        """
        in_bytes = self.unit == "B"
        scale, things = (1e6, "MB") if in_bytes else (1, f"{self.unit}s")
        counts = f"{self.done / scale:,.0f}"
        if self.total is not None:
            counts += f" of {self.total / scale:,.0f}"
        new = self.done - self._done_before
        if self.total is None or not new:
            time_text = f"running for {format_duration(seconds)}"
        else:
            time_text = f"{format_duration(seconds / new * max(self.total - self.done, 0))} left"
        return ", ".join(filter(None, [f"{self.task}: {counts} {things}", time_text, self._note]))


def track(items: Iterable[T], task: str, total: int, *, unit: str, visible: bool = True) -> Iterator[T]:
    """Yield the items, and show the `Progress`: an item is a step, which ends when the next item is asked for."""
    with Progress(task, total, unit=unit, visible=visible) as progress:
        for item in items:
            yield item
            progress.advance()


@contextmanager
def announce(task: str) -> Iterator[None]:
    """Log a task without a count if it takes noticeable time, and then once a minute how long it has been running.

    This starts a thread, so it must not be used around a fork.
    """
    started = time.monotonic()

    def report() -> None:
        seconds = time.monotonic() - started
        logger.info("%s", task if seconds < INTERVAL else f"{task}: running for {format_duration(seconds)}")

    with _repeated(report, DELAY):
        yield


@contextmanager
def _repeated(report: Callable[[], None], delay: float) -> Iterator[None]:
    """Call a function after `delay` seconds and then every `INTERVAL`, in a thread, until the context ends."""
    stopped = threading.Event()

    def run() -> None:
        wait = delay
        while not stopped.wait(wait):
            report()
            wait = INTERVAL

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def format_duration(seconds: float) -> str:
    """Format a duration for a reader: seconds, minutes or hours.

    Examples
    --------
    >>> format_duration(45), format_duration(1500), format_duration(9000)
    ('45 s', '25 min', '2.5 h')
    """
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
