"""Read waveforms from files, in worker processes, ahead of the caller and in order."""

import ctypes
import logging
import math
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice

from torch import Tensor

from audio import AudioError, Speech
from corpora import Utterance
from embedding.worker import (
    Arena,
    DecodedPiece,
    DecodeRequest,
    DecodeSettings,
    FileState,
    find_speech,
    init_worker,
    read_pieces,
)
from files import fields_repr

logger = logging.getLogger(__name__)

PIECES_PER_TASK = 4
# Tasks in progress per worker.
TASKS_AHEAD = 4
# Fewer pieces are read by threads, because starting processes takes longer than reading them.
MIN_PIECES_FOR_PROCESSES = 64
# Number of times that a piece is read alone, if its process is killed.
MAX_ATTEMPTS = 2
# Maximum number of workers that are started by default.
MAX_WORKERS = 16
# A waveform longer than this (seconds) is sent through a pipe instead of shared memory.
MAX_SHARED_SECONDS = 30.0
# Function of a worker: a result for each request.
Work = Callable[[Sequence[DecodeRequest | None], DecodeSettings], list[DecodedPiece]]


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of audio to decode: an utterance, or a window of it.

    Attributes
    ----------
    utterance : Utterance
    window : (int, int) or None
        First sample of the window in the utterance, and number of samples, at the encoder's rate.
    seconds : float
        Length of the utterance, without its pauses if they are left out. It is given together with `window`, otherwise
        decoding fills it in.
    is_last : bool
        Whether it is the last window of its utterance, or the whole utterance.
    with_state : bool
        Whether to return the state of the file, which includes its digest.
    speech : Speech or None
        The segments that are read, one after the other, if pauses are left out; a window is a part of them.
    offset : float
        Mean of the samples, which is removed from the decoded audio if it is above `MAX_OFFSET`; NaN if it is not
        decoded yet.
    bandwidth : float
        Highest frequency at which the decoded audio has energy (Hz); NaN if it is not known.
    file_rate : int
        Sampling rate of the file (Hz), 0 if it is not decoded yet.
    missing : float
        Length that the header of the file declares but the file lacks (seconds).
    full_scale : float
        Full scale of the file (`audio.full_scale_of`), by which the decoded audio was divided.
    waveform : Tensor (samples,) or None
        The decoded audio. Its memory may be used again after the next `max_held` pieces.
    fault : AudioError or None
        Reason why there is no waveform.
    file : FileState or None
        State of the file, if `with_state`.
    """

    utterance: Utterance
    window: tuple[int, int] | None = None
    seconds: float = 0.0
    is_last: bool = True
    with_state: bool = False
    speech: Speech | None = None
    offset: float = math.nan
    bandwidth: float = math.nan
    file_rate: int = 0
    missing: float = 0.0
    full_scale: float = 1.0
    waveform: Tensor | None = None
    fault: AudioError | None = None
    file: FileState | None = None

    __repr__ = fields_repr


def n_workers_of(asked: int | None) -> int:
    """Return the number of processes that decode; the default is one per available core, at most 16."""
    if asked is not None:
        return asked
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(n_cores, MAX_WORKERS)


def decode(
    pieces: Iterable[Piece],
    n_pieces: int,
    settings: DecodeSettings,
    *,
    max_held: int,
    cut: Callable[[Iterable[Piece]], Iterable[Piece]] | None = None,
    num_workers: int | None = None,
) -> Iterator[Piece]:
    """Read the waveforms of pieces, in order, ahead of the caller.

    Many pieces are read by processes. If a process is killed, for example because memory ran out, its pieces are read
    again one by one; only a piece that kills its process each time fails. A few pieces are read by threads, which start
    faster.

    Parameters
    ----------
    pieces : iterable of Piece
    n_pieces : int
        Approximate number of pieces.
    settings : DecodeSettings
        With ``speech``, the speech of each piece is found first, and only this is read.
    max_held : int
        Maximum number of waveforms that the caller keeps at a time.
    cut : callable, optional
        Function that cuts pieces, whose speech is known by then, into those to read.
    num_workers : int, optional
        Number of processes; 0 always reads in threads.
    """
    n_workers = n_workers_of(num_workers)
    ahead = TASKS_AHEAD * PIECES_PER_TASK * max(n_workers, 1)
    use_processes = n_workers > 0 and n_pieces >= MIN_PIECES_FOR_PROCESSES
    arena = None
    if use_processes and multiprocessing.get_start_method() == "fork":
        seconds = min(settings.crop or MAX_SHARED_SECONDS, MAX_SHARED_SECONDS)
        arena = Arena.make(ahead + max_held + PIECES_PER_TASK, round(seconds * settings.sample_rate) + 1)
    pool = _Pool(n_workers if use_processes else 0, settings, arena)
    try:
        if settings.speech is not None:
            pieces = pool.run(find_speech, pieces, ahead)
        yield from pool.run(read_pieces, pieces if cut is None else cut(pieces), ahead)
    finally:
        pool.close()


class _Pool:
    """Pool of processes, which is replaced if one of them is killed, or of threads if `n_workers` is 0."""

    def __init__(self, n_workers: int, settings: DecodeSettings, arena: Arena | None) -> None:
        self._n_workers, self._settings, self._arena = n_workers, settings, arena
        self._executor = self._start()

    def _start(self) -> Executor:
        if not self._n_workers:
            return ThreadPoolExecutor(n_workers_of(None))
        _release_free_memory()
        return ProcessPoolExecutor(self._n_workers, initializer=init_worker, initargs=(self._arena, os.getpid()))

    def run(self, work: Work, pieces: Iterable[Piece], ahead: int) -> Iterator[Piece]:
        """Yield pieces with the results of the work on each, in order; at most about `ahead` of them are in progress.

        The pieces may be those that another call yields: both use the same workers.
        """
        numbered = enumerate(pieces)
        in_progress: deque[tuple[list[tuple[int, Piece]], Future[list[DecodedPiece]]]] = deque()
        while True:
            while len(in_progress) * PIECES_PER_TASK < ahead and (task := list(islice(numbered, PIECES_PER_TASK))):
                in_progress.append((task, self.submit(work, task)))
            if not in_progress:
                return
            task, future = in_progress.popleft()
            try:
                decoded = future.result()
            except BrokenProcessPool:
                tasks = [task, *(each for each, _ in in_progress)]
                in_progress.clear()
                yield from self.run_one_by_one(work, [each for task in tasks for each in task])
                continue
            for (number, piece), result in zip(task, decoded, strict=True):
                yield self.fill(number, piece, result)

    def submit(self, work: Work, task: Sequence[tuple[int, Piece]]) -> Future[list[DecodedPiece]]:
        requests = [None if piece.fault else _request(number, piece) for number, piece in task]
        try:
            return self._executor.submit(work, requests, self._settings)
        except BrokenProcessPool as error:  # a worker was killed while nothing was waiting for it
            broken: Future[list[DecodedPiece]] = Future()
            broken.set_exception(error)
            return broken

    def fill(self, number: int, piece: Piece, decoded: DecodedPiece) -> Piece:
        """Return the piece with the decoded audio; a waveform in the arena is not copied."""
        if piece.fault is not None:
            return piece
        waveform = decoded.waveform
        if self._arena is not None and decoded.n_shared is not None:
            waveform = self._arena.place(number, decoded.n_shared)
        return replace(
            piece,
            waveform=waveform,
            seconds=decoded.seconds,
            offset=decoded.offset,
            bandwidth=decoded.bandwidth,
            file_rate=decoded.file_rate,
            missing=decoded.missing,
            full_scale=decoded.full_scale,
            speech=decoded.speech or piece.speech,
            fault=decoded.fault,
            file=decoded.file,
        )

    def run_one_by_one(self, work: Work, pieces: Sequence[tuple[int, Piece]]) -> Iterator[Piece]:
        """Read pieces one at a time after a process was killed, to find the piece that kills it."""
        logger.warning(
            "A decoding process was killed, perhaps because memory ran out. Its files are decoded one by one. With "
            "smaller --num_workers, less memory is needed."
        )
        self._restart()
        for number, piece in pieces:
            decoded = self._run_alone(work, number, piece)
            if decoded is None:
                reason = "its decoding process was killed each time; the file is damaged, or needs too much memory"
                decoded = DecodedPiece(fault=AudioError(piece.utterance.path, "unreadable", reason))
            yield self.fill(number, piece, decoded)

    def _run_alone(self, work: Work, number: int, piece: Piece) -> DecodedPiece | None:
        """Read a piece while nothing else is read; return None if the process is killed at each attempt."""
        for _ in range(MAX_ATTEMPTS):
            try:
                return self.submit(work, [(number, piece)]).result()[0]
            except BrokenProcessPool:
                self._restart()
        return None

    def _restart(self) -> None:
        self._executor.shutdown(wait=False)
        self._executor = self._start()

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


def _release_free_memory() -> None:
    """Return free memory to the system before a fork, after which each page that is written again is copied first.

    Repeated extractions in one process took up to 15 % longer without this, on virtual machines with slow page faults.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # glibc
        trim(0)


def _request(number: int, piece: Piece) -> DecodeRequest:
    utterance = piece.utterance
    return DecodeRequest(
        number=number,
        path=os.fspath(utterance.path),
        start=utterance.start,
        duration=utterance.duration,
        window=piece.window,
        seconds=piece.seconds,
        with_state=piece.with_state,
        channel=utterance.channel,
        speech=piece.speech,
    )
