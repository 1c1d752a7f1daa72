"""Files in, vectors out: decode in threads ahead of the encoder, in order, and let no bad file stop the others."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from stat import S_ISREG

import torch
from torch import Tensor

from audio import AudioError, read_audio
from corpora import Utterance
from encoders import Encoder, LazyEncoder
from features.provenance import StoredRows, file_digest

# Waveforms decoded ahead of the encoder, for each thread: enough to bridge a slow file; 10 s at 48 kHz are 2 MB.
READ_AHEAD = 4
# Waveforms handed to the encoder together, for it to sort and batch as suits its device.
CHUNK = 32


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
    file : FileState or None
        The file that was read, where the caller keeps a cache.
    reused : bool
        The vector was stored before.
    """

    utterance: Utterance
    vector: Tensor | None = None
    seconds: float = 0.0
    error: str | None = None
    file: FileState | None = None
    reused: bool = False


@dataclass(frozen=True, eq=False)
class _Prepared:
    """An utterance on its way: done already, or with the waveform that the encoder still has to see."""

    row: Row
    waveform: Tensor | None = None


def embed_utterances(
    utterances: Sequence[Utterance],
    encoder: Encoder | LazyEncoder,
    max_duration: float | None = None,
    stored: StoredRows | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
) -> Iterator[Row]:
    """Embed utterances, one row for each, in their order.

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
        Utterances per forward; by default what suits the encoder's device.
    num_workers : int, optional
        Threads that digest, decode and resample; by default one for each core but the encoder's, at most 8.

    Yields
    ------
    Row
    """
    num_workers = num_workers or min(max((os.cpu_count() or 1) - 1, 1), 8)

    def prepare(utterance: Utterance) -> _Prepared:
        return _prepare(utterance, encoder.sample_rate, max_duration, stored)

    waiting: list[_Prepared] = []
    n_waveforms = 0
    for prepared in _ordered(prepare, utterances, num_workers, ahead=num_workers * READ_AHEAD + CHUNK):
        waiting.append(prepared)
        n_waveforms += prepared.waveform is not None
        # Rows keep their order, so what is done waits for the chunk before it, but not for ever.
        if n_waveforms in (0, CHUNK) or len(waiting) >= 4 * CHUNK:
            yield from _encode(waiting, encoder, batch_size)
            waiting, n_waveforms = [], 0
    yield from _encode(waiting, encoder, batch_size)


def _ordered(
    prepare: Callable[[Utterance], _Prepared], utterances: Iterable[Utterance], num_workers: int, ahead: int
) -> Iterator[_Prepared]:
    """Map over the utterances in threads, in order, with no more than `ahead` results held."""
    source = iter(utterances)
    with ThreadPoolExecutor(num_workers) as pool:
        queue: deque[Future[_Prepared]] = deque(pool.submit(prepare, item) for item in islice(source, ahead))
        try:
            while queue:
                done = queue.popleft().result()
                queue.extend(pool.submit(prepare, item) for item in islice(source, 1))
                yield done
        finally:
            for future in queue:  # the caller stopped early: what has not begun need not
                future.cancel()


def _prepare(
    utterance: Utterance, sample_rate: int, max_duration: float | None, stored: StoredRows | None
) -> _Prepared:
    """Find the stored vector of an utterance, or decode its waveform; a file that fails becomes a row that says why."""
    file = None
    try:
        if stored is not None:
            file = _file_state(utterance, stored)
            found = stored.vector(file.digest, utterance)
            if found is not None:
                return _Prepared(Row(utterance, found[0], found[1], file=file, reused=True))
        waveform = read_audio(utterance.path, sample_rate, utterance.start, utterance.duration, max_duration)
    except AudioError as error:
        return _Prepared(Row(utterance, error=error.reason))
    return _Prepared(Row(utterance, seconds=len(waveform) / sample_rate, file=file), waveform)


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


def _encode(waiting: Sequence[_Prepared], encoder: Encoder | LazyEncoder, batch_size: int | None) -> Iterator[Row]:
    waveforms = [item.waveform for item in waiting if item.waveform is not None]
    vectors = iter(encoder.encode(waveforms, batch_size) if waveforms else ())
    for item in waiting:
        if item.waveform is None:
            yield item.row
            continue
        vector = next(vectors)
        if bool(torch.isfinite(vector).all()):
            yield replace(item.row, vector=vector)
        else:
            yield replace(item.row, error="the encoder gave NaN or infinity for it")
