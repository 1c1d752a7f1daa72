"""Files in, vectors out: decode in threads ahead of the encoder, in order, and let no bad file stop the others."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from stat import S_ISREG
from typing import TypeVar

import torch
from torch import Tensor

from audio import AudioError, AudioFault, read_audio, read_window, span_seconds, window_starts
from corpora import Utterance
from encoders import Encoder, LazyEncoder, windows_of
from features.provenance import StoredRows, file_digest

# Waveforms decoded ahead of the encoder, for each thread: enough to bridge a slow file; 10 s at 48 kHz are 2 MB.
READ_AHEAD = 4
# Waveforms held for the encoder at most; how many it is given together is its own choice.
HELD = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class FileState:
    """A file's content and the marks by which to see that it has not changed."""

    digest: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True, eq=False)
class Row:
    """What became of one utterance: a vector, or the reason why there is none.

    Attributes
    ----------
    utterance : Utterance
    vector : Tensor (dim,) or (layers, dim), or None
    seconds : float
        Length of the audio that went into the vector.
    error : str or None
        Why there is no vector, without the path.
    fault : AudioFault or None
        What kind of reason that is, where it is the audio's.
    file : FileState or None
        The file that was read, where the caller keeps a cache.
    reused : bool
        The vector was stored before.
    """

    utterance: Utterance
    vector: Tensor | None = None
    seconds: float = 0.0
    error: str | None = None
    fault: AudioFault | None = None
    file: FileState | None = None
    reused: bool = False


@dataclass(frozen=True, eq=False)
class _Piece:
    """A part of an utterance on its way to the encoder: all of it, or one of its windows.

    `row` is the utterance's, `fault` says why there is no waveform; of a window that is yet to be read `window` tells
    the first sample and their number.
    """

    row: Row
    waveform: Tensor | None = None
    fault: AudioError | None = None
    window: tuple[int, int] | None = None
    is_last: bool = True


def embed_utterances(
    utterances: Sequence[Utterance],
    encoder: Encoder | LazyEncoder,
    max_duration: float | None = None,
    stored: StoredRows | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
) -> Iterator[Row]:
    """Embed utterances, one row for each, in their order.

    No more than some dozens of clips are in memory, however many and however long the files are: an encoder with
    windows is given them as they are read.

    Parameters
    ----------
    utterances : sequence of Utterance
    encoder : Encoder or LazyEncoder
        A lazy one is built when the first waveform needs it.
    max_duration : float, optional
        Crop (seconds).
    stored : StoredRows, optional
        Vectors that need not be computed again. Without it the files are not digested.
    batch_size : int, optional
        Clips per forward; by default what suits the encoder's device.
    num_workers : int, optional
        Threads that digest, decode and resample; by default one for each core but the encoder's, at most 8.

    Yields
    ------
    Row
    """
    num_workers = num_workers or min(max((os.cpu_count() or 1) - 1, 1), 8)
    ahead = num_workers * READ_AHEAD + HELD
    spec, rate = encoder.spec, encoder.sample_rate
    windows = windows_of(spec)
    lengths = [length for length in (max_duration, spec.get("clip_seconds")) if length is not None]
    crop = min(lengths, default=None)

    def prepare(utterance: Utterance) -> list[_Piece]:
        row = _look_up(utterance, stored)
        if isinstance(row, AudioError):
            return [_Piece(Row(utterance), fault=row)]
        if row.reused:
            return [_Piece(row)]
        if windows is None:
            return [_read(_Piece(row), rate, crop)]
        return _cut(row, rate, windows, max_duration)

    pool = ThreadPoolExecutor(num_workers)
    try:
        pieces: Iterator[_Piece] = chain.from_iterable(_ordered(prepare, utterances, pool, ahead))
        if windows is not None:
            pieces = _ordered(lambda piece: _read(piece, rate), pieces, pool, ahead)
        vectors: list[Tensor] = []
        faults: list[AudioError] = []
        for piece, vector in _encoded(pieces, encoder, batch_size):
            vectors += [] if vector is None else [vector]
            faults += [] if piece.fault is None else [piece.fault]
            if piece.is_last:
                yield _assemble(piece.row, vectors, faults, encoder)
                vectors, faults = [], []
    finally:
        pool.shutdown(cancel_futures=True)  # if the caller stops early, what has not begun need not


def _ordered(
    work: Callable[[Item], Result], items: Iterable[Item], pool: ThreadPoolExecutor, ahead: int
) -> Iterator[Result]:
    """Map over the items in the threads of a pool, in order, with no more than `ahead` results held."""
    source = iter(items)
    queue = deque(pool.submit(work, item) for item in islice(source, ahead))
    while queue:
        done = queue.popleft().result()
        queue.extend(pool.submit(work, item) for item in islice(source, 1))
        yield done


def _look_up(utterance: Utterance, stored: StoredRows | None) -> Row | AudioError:
    """Return the stored row of an utterance, or one that is still without a vector, or why its file cannot be used."""
    if stored is None:
        return Row(utterance)
    try:
        file = _file_state(utterance, stored)
    except AudioError as error:
        return error
    found = stored.vector(file.digest, utterance)
    return Row(utterance, file=file) if found is None else Row(utterance, *found, file=file, reused=True)


def _file_state(utterance: Utterance, stored: StoredRows) -> FileState:
    try:
        status = utterance.path.stat()
        if not S_ISREG(status.st_mode):
            raise OSError("not a file")
        digest = stored.digest(utterance.id, status.st_size, status.st_mtime_ns)
        digest = digest or file_digest(utterance.path, status.st_size, status.st_mtime_ns)
    except (OSError, ValueError):
        read_audio(utterance.path, None)  # raises the AudioError that says what is wrong
        raise
    return FileState(digest, status.st_size, status.st_mtime_ns)


def _read(piece: _Piece, sample_rate: int, crop: float | None = None) -> _Piece:
    """Add the waveform to a piece, or why there is none."""
    row, utterance = piece.row, piece.row.utterance
    if piece.fault is not None or row.reused:
        return piece
    try:
        if piece.window is not None:
            window = read_window(utterance.path, sample_rate, *piece.window, utterance.start, row.seconds)
            return replace(piece, waveform=window)
        waveform = read_audio(utterance.path, sample_rate, utterance.start, utterance.duration, crop)
    except AudioError as error:
        return replace(piece, fault=error)
    return replace(piece, row=replace(row, seconds=len(waveform) / sample_rate), waveform=waveform)


def _cut(row: Row, sample_rate: int, windows: tuple[int, int], max_duration: float | None) -> list[_Piece]:
    """Cut an utterance into windows that are yet to be read."""
    utterance = row.utterance
    try:
        seconds = span_seconds(utterance.path, utterance.start, utterance.duration)
    except AudioError as error:
        return [_Piece(row, fault=error)]
    seconds = min(seconds, max_duration or seconds)
    row = replace(row, seconds=seconds)
    size, hop = windows
    starts = window_starts(round(seconds * sample_rate), size, hop)
    return [_Piece(row, window=(start, size), is_last=start == starts[-1]) for start in starts]


def _encoded(
    pieces: Iterable[_Piece], encoder: Encoder | LazyEncoder, batch_size: int | None
) -> Iterator[tuple[_Piece, Tensor | None]]:
    """Hand the waveforms to the encoder in chunks, and give each piece back with its vector, in order."""
    waiting: list[_Piece] = []

    def encode() -> Iterator[tuple[_Piece, Tensor | None]]:
        waveforms = [piece.waveform for piece in waiting if piece.waveform is not None]
        vectors = iter(encoder.encode(waveforms, batch_size) if waveforms else ())
        for piece in waiting:
            yield replace(piece, waveform=None), None if piece.waveform is None else next(vectors)

    n_waveforms = 0
    for piece in pieces:
        waiting.append(piece)
        n_waveforms += piece.waveform is not None
        # Rows keep their order, so what is done waits for the chunk before it, but not for ever.
        if n_waveforms == 0 or n_waveforms >= max(encoder.clips_per_call, batch_size or 0) or len(waiting) >= 4 * HELD:
            yield from encode()
            waiting, n_waveforms = [], 0
    yield from encode()


def _assemble(row: Row, vectors: list[Tensor], faults: list[AudioError], encoder: Encoder | LazyEncoder) -> Row:
    """Make the row of an utterance from what became of its pieces; silent windows count only if all are silent."""
    if row.reused:
        return row
    broken = [fault for fault in faults if fault.fault != "silent" or not vectors]
    if broken:
        return Row(row.utterance, error=broken[0].reason, fault=broken[0].fault)
    vector = vectors[0] if len(vectors) == 1 else encoder.merge(torch.stack(vectors))
    if not bool(torch.isfinite(vector).all()):
        return Row(row.utterance, error="the encoder gave NaN or infinity for it")
    return replace(row, vector=vector)
