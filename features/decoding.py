"""Files to waveforms, in worker processes, ahead of who needs them and in order."""

import logging
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice

from torch import Tensor

from audio import AudioError
from corpora import Utterance
from features.worker import Arena, FileState, Heard, Hearing, Request, begin, read_all

logger = logging.getLogger(__name__)

# Pieces of one task, tasks under way for each worker, and pieces from which on processes are worth their start.
TOGETHER = 4
AHEAD = 4
MANY = 64
# Times that a piece is read alone, if its process is killed.
ATTEMPTS = 2
# Workers that `auto` starts at most.
MOST_WORKERS = 16
# A waveform longer than this (seconds) is sent through a pipe instead of shared memory.
LONGEST_SHARED = 30.0


@dataclass(frozen=True, eq=False)
class Piece:
    """What is to be heard: an utterance, or a window of it.

    Attributes
    ----------
    utterance : Utterance
    window : (int, int) or None
        First sample of the window in the utterance, and their number, at the encoder's rate.
    seconds : float
        Length of the utterance, where `window` is given; else it is found.
    is_last : bool
        It is the last window of its utterance, or all of it.
    with_state : bool
        Whether the file is digested.
    waveform : Tensor (samples,) or None
        What was heard; valid until as many pieces more have been given as `decode` was told are held.
    fault : AudioError or None
        Why nothing was.
    file : FileState or None
    """

    utterance: Utterance
    window: tuple[int, int] | None = None
    seconds: float = 0.0
    is_last: bool = True
    with_state: bool = False
    waveform: Tensor | None = None
    fault: AudioError | None = None
    file: FileState | None = None


def n_workers_of(asked: int | None) -> int:
    """Return how many processes decode: by default one for each core that this process may use, at most 16."""
    if asked is not None:
        return asked
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(n_cores, MOST_WORKERS)


def decode(
    pieces: Iterable[Piece], n_pieces: int, hearing: Hearing, held: int, num_workers: int | None = None
) -> Iterator[Piece]:
    """Read the waveforms of pieces, in order, ahead of the caller.

    Many pieces are read by processes; one that is killed, as for want of memory, costs no more than the piece that
    kills it each time. A few are read by threads, which need no start.

    Parameters
    ----------
    pieces : iterable of Piece
    n_pieces : int
        About how many they are.
    hearing : Hearing
    held : int
        Waveforms that the caller keeps at most.
    num_workers : int, optional
        Processes; 0 reads in threads however many there are.
    """
    n_workers = n_workers_of(num_workers)
    ahead = AHEAD * TOGETHER * max(n_workers, 1)
    use_processes = n_workers > 0 and n_pieces >= MANY
    arena = None
    if use_processes and multiprocessing.get_start_method() == "fork":
        seconds = min(hearing.crop or LONGEST_SHARED, LONGEST_SHARED)
        arena = Arena.make(ahead + held + TOGETHER, round(seconds * hearing.sample_rate) + 1)
    pool = _Pool(n_workers if use_processes else 0, hearing, arena)
    numbered = enumerate(pieces)
    under_way: deque[tuple[list[tuple[int, Piece]], Future[list[Heard]]]] = deque()
    try:
        while True:
            while len(under_way) * TOGETHER < ahead and (task := list(islice(numbered, TOGETHER))):
                under_way.append((task, pool.submit(task)))
            if not under_way:
                return
            task, future = under_way.popleft()
            try:
                heard = future.result()
            except BrokenProcessPool:
                tasks = [task, *(each for each, _ in under_way)]
                under_way.clear()
                yield from pool.one_by_one([each for task in tasks for each in task])
                continue
            for (number, piece), answer in zip(task, heard, strict=True):
                yield pool.received(number, piece, answer)
    finally:
        pool.close()


class _Pool:
    """Processes that are started anew when one of them was killed; or, for none, threads."""

    def __init__(self, n_workers: int, hearing: Hearing, arena: Arena | None) -> None:
        self._n_workers, self._hearing, self._arena = n_workers, hearing, arena
        self._executor = self._start()

    def _start(self) -> Executor:
        if not self._n_workers:
            return ThreadPoolExecutor(n_workers_of(None))
        return ProcessPoolExecutor(self._n_workers, initializer=begin, initargs=(self._arena, os.getpid()))

    def submit(self, task: Sequence[tuple[int, Piece]]) -> Future[list[Heard]]:
        requests = []
        for number, piece in task:
            utterance = piece.utterance
            span = utterance.start, utterance.duration, piece.window, piece.seconds, piece.with_state
            requests.append(None if piece.fault else Request(number, os.fspath(utterance.path), *span))
        try:
            return self._executor.submit(read_all, requests, self._hearing)
        except BrokenProcessPool as error:  # a worker was killed while nobody waited for it
            broken: Future[list[Heard]] = Future()
            broken.set_exception(error)
            return broken

    def received(self, number: int, piece: Piece, heard: Heard) -> Piece:
        """Put what was heard into the piece; a waveform that lies in the arena stays there."""
        if piece.fault is not None:
            return piece
        waveform = heard.waveform
        if self._arena is not None and heard.n_shared is not None:
            waveform = self._arena.place(number, heard.n_shared)
        return replace(piece, waveform=waveform, seconds=heard.seconds, fault=heard.fault, file=heard.file)

    def one_by_one(self, pieces: Sequence[tuple[int, Piece]]) -> Iterator[Piece]:
        """Read what was under way when a process was killed, so that a second death tells which piece it was."""
        logger.warning(
            "A process that decodes was killed, perhaps for want of memory; what it had is decoded one by one. Fewer "
            "--num_workers take less memory."
        )
        self._restart()
        for number, piece in pieces:
            heard = self._read_alone(number, piece)
            if heard is None:
                reason = "the process that decodes it is killed each time; it is damaged, or needs more memory"
                heard = Heard(fault=AudioError(piece.utterance.path, "unreadable", reason))
            yield self.received(number, piece, heard)

    def _read_alone(self, number: int, piece: Piece) -> Heard | None:
        """Read a piece while nothing else is read, again if a process was killed meanwhile; None if it was again."""
        for _ in range(ATTEMPTS):
            try:
                return self.submit([(number, piece)]).result()[0]
            except BrokenProcessPool:
                self._restart()
        return None

    def _restart(self) -> None:
        self._executor.shutdown(wait=False)
        self._executor = self._start()

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)
