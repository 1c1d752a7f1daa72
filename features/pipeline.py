"""Files in, vectors out: decode ahead of the encoder, and let no bad file stop the others."""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from audio import AudioError, AudioFault, span_seconds, window_starts
from corpora import Utterance
from encoders import Encoder, LazyEncoder, windows_of
from features.decoding import MANY, Piece, decode
from features.worker import FileState, Hearing


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
    """

    utterance: Utterance
    vector: Tensor | None = None
    seconds: float = 0.0
    error: str | None = None
    fault: AudioFault | None = None
    file: FileState | None = None


@dataclass
class Timing:
    """Where the time goes (seconds): waiting for waveforms, and the encoder's own."""

    waiting: float = 0.0
    forward: float = 0.0


def embed_utterances(
    utterances: Sequence[Utterance],
    encoder: Encoder | LazyEncoder,
    max_duration: float | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    with_state: bool = False,
    timing: Timing | None = None,
) -> Generator[Row]:
    """Embed utterances, one row for each, in their order.

    No more than some dozens of clips are in memory, however many and however long the files are: an encoder with
    windows is given them as they are read.

    Parameters
    ----------
    utterances : sequence of Utterance
        Of similar lengths together, a batch is padded little.
    encoder : Encoder or LazyEncoder
        A lazy one is built when the first waveforms are there.
    max_duration : float, optional
        Crop (seconds).
    batch_size : int, optional
        Clips per forward; by default what suits the encoder's device.
    num_workers : int, optional
        Processes that decode and resample (of a few files, threads); by default one for each core, at most 16.
    with_state : bool
        Digest the files too.
    timing : Timing, optional
        Is added to.

    Yields
    ------
    Row
    """
    if not utterances:
        return
    timing = timing or Timing()
    spec = encoder.spec
    lengths = [length for length in (max_duration, spec.get("clip_seconds")) if length is not None]
    # An encoder is not built for a few files that perhaps cannot be read.
    held = 0 if len(utterances) < MANY else _together(encoder, batch_size)
    hearing = Hearing(encoder.sample_rate, min(lengths, default=None))
    pieces = decode(_cut(utterances, encoder, max_duration, with_state), len(utterances), hearing, held, num_workers)
    vectors: list[Tensor] = []
    faults: list[AudioError] = []
    files: list[FileState] = []
    for piece, vector in _encoded(pieces, encoder, batch_size, timing):
        vectors += [] if vector is None else [vector]
        faults += [] if piece.fault is None else [piece.fault]
        files += [] if piece.file is None else [piece.file]
        if piece.is_last:
            yield _assemble(piece, vectors, faults, files, encoder)
            vectors, faults, files = [], [], []


def _cut(
    utterances: Iterable[Utterance], encoder: Encoder | LazyEncoder, max_duration: float | None, with_state: bool
) -> Iterator[Piece]:
    """Cut utterances into the windows of an encoder that takes windows."""
    windows, rate = windows_of(encoder.spec), encoder.sample_rate
    for utterance in utterances:
        if windows is None:
            yield Piece(utterance, with_state=with_state)
            continue
        try:
            seconds = span_seconds(utterance.path, utterance.start, utterance.duration)
        except AudioError as error:
            yield Piece(utterance, fault=error)
            continue
        seconds = min(seconds, max_duration or seconds)
        size, hop = windows
        starts = window_starts(round(seconds * rate), size, hop)
        for start in starts:
            yield Piece(utterance, (start, size), seconds, start == starts[-1], with_state)


def _encoded(
    pieces: Iterator[Piece], encoder: Encoder | LazyEncoder, batch_size: int | None, timing: Timing
) -> Iterator[tuple[Piece, Tensor | None]]:
    """Hand the waveforms to the encoder in chunks, and give each piece back with its vector, in order."""
    more = True
    while more:
        started = time.perf_counter()
        chunk = list(islice(pieces, 1))
        if chunk and chunk[0].waveform is not None:
            chunk += islice(pieces, _together(encoder, batch_size) - 1)
        more = bool(chunk)
        waited = time.perf_counter()
        waveforms = [piece.waveform for piece in chunk if piece.waveform is not None]
        vectors = iter(encoder.encode(waveforms, batch_size) if waveforms else ())
        timing.waiting += waited - started
        timing.forward += time.perf_counter() - waited
        for piece in chunk:
            yield replace(piece, waveform=None), None if piece.waveform is None else next(vectors)


def _together(encoder: Encoder | LazyEncoder, batch_size: int | None) -> int:
    """Return how many pieces the encoder is given at a time."""
    return max(encoder.clips_per_call, batch_size or 0)


def _assemble(
    last: Piece,
    vectors: list[Tensor],
    faults: list[AudioError],
    files: list[FileState],
    encoder: Encoder | LazyEncoder,
) -> Row:
    """Make the row of an utterance from what became of its pieces; silent windows count only if all are silent."""
    broken = [fault for fault in faults if fault.fault != "silent" or not vectors]
    if broken:
        return Row(last.utterance, error=broken[0].reason, fault=broken[0].fault)
    if len(set(files)) > 1:
        return Row(last.utterance, error="it was written to while it was read; it will be read again")
    vector = vectors[0] if len(vectors) == 1 else encoder.merge(torch.stack(vectors))
    if not bool(torch.isfinite(vector).all()):
        return Row(last.utterance, error="the encoder gave NaN or infinity for it")
    return Row(last.utterance, vector, last.seconds, file=files[0] if files else None)
