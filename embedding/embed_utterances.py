"""Embed utterances: decode ahead of the encoder, and return a reason for each file that cannot be used."""

import logging
import math
import os
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from audio import AudioError, AudioFault, SpeechSettings, span_seconds, window_starts
from corpora import Utterance
from embedding.decode import MIN_PIECES_FOR_PROCESSES, Piece, decode
from embedding.worker import CHANGED, DecodeSettings, FileState
from encoders import Encoder, LazyEncoder, pieces_of, windows_of
from files import count_of, short_repr

logger = logging.getLogger(__name__)

# Number of files that a warning names.
N_NAMED = 3


@dataclass(frozen=True, eq=False)
class Row:
    """Result for one utterance: a vector, or the reason why there is no vector.

    Attributes
    ----------
    utterance : Utterance
    vector : Tensor (dim,) or (layers, dim), or None
    seconds : float
        Length of the audio that went into the vector.
    offset : float
        Mean of the samples of this audio (full scale is 1), which is removed where it is above `MAX_OFFSET`; the
        largest of all windows, positive or negative. NaN if it is not known.
    bandwidth : float
        Highest frequency at which this audio has energy (Hz; `audio.measure_bandwidth`); the highest of all windows.
        NaN if it is not known.
    file_rate : int
        Sampling rate of the file (Hz), 0 if it is not known.
    full_scale : float
        Full scale of the file (`audio.full_scale_of`), by which its samples were divided.
    error : str or None
        Reason why there is no vector, without the path.
    fault : AudioFault or None
        Kind of fault, if the audio is the reason.
    file : FileState or None
        State of the file that was read, if the caller requested it.
    """

    utterance: Utterance
    vector: Tensor | None = None
    seconds: float = 0.0
    offset: float = math.nan
    bandwidth: float = math.nan
    file_rate: int = 0
    full_scale: float = 1.0
    error: str | None = None
    fault: AudioFault | None = None
    file: FileState | None = None

    def __repr__(self) -> str:
        shape = "" if self.vector is None else f"vector {tuple(self.vector.shape)} of {self.seconds:.2f} s"
        return short_repr(self, f"{self.utterance.id}: {self.error or shape}")


@dataclass
class Timing:
    """Time spent waiting for waveforms, and in the encoder's forward pass (seconds)."""

    waiting: float = 0.0
    forward: float = 0.0


def embed_utterances(
    utterances: Sequence[Utterance],
    encoder: Encoder | LazyEncoder,
    max_duration: float | None = None,
    *,
    batch_size: int | None = None,
    num_workers: int | None = None,
    with_state: bool = False,
    timing: Timing | None = None,
) -> Generator[Row]:
    """Embed utterances, and yield one row for each, in their order.

    Memory use does not depend on the number and the lengths of the files: only some dozens of clips are in memory at a
    time, and an encoder with windows receives them as they are read.

    Parameters
    ----------
    utterances : sequence of Utterance
        Batches need less padding if utterances of similar length are adjacent.
    encoder : Encoder or LazyEncoder
        A lazy encoder is built at its first use.
    max_duration : float, optional
        Crop (seconds); None reads whole utterances.
    batch_size : int, optional
        Maximum number of clips per forward pass; the default depends on the encoder's device.
    num_workers : int, optional
        Number of processes that decode and resample, by default one per core, at most 16. A few files are read by
        threads.
    with_state : bool
        Whether to return the state of each file, which includes its digest.
    timing : Timing, optional
        The time spent is added to its fields.

    Yields
    ------
    Row
    """
    if not utterances:
        return
    # `_pieces_per_call` builds the encoder. A few files are read by threads, which need no `max_held`; if all of them
    # are unreadable, no encoder is built.
    max_held = 0 if len(utterances) < MIN_PIECES_FOR_PROCESSES else _pieces_per_call(encoder, batch_size)
    pieces = _decoded(
        utterances, encoder, max_duration, max_held=max_held, num_workers=num_workers, with_state=with_state
    )
    parts = _Parts()
    missing, scaled = dict[str, float](), dict[Path, float]()
    for piece, vector in _encoded(pieces, encoder, batch_size, timing=timing or Timing()):
        parts.add(piece, vector)
        if piece.full_scale != 1:
            scaled[piece.utterance.path] = piece.full_scale
        if piece.is_last:
            row = parts.assemble(piece, encoder)
            if row.vector is not None and (longest := max(each.missing for each in parts.decoded)):
                missing[os.fspath(row.utterance.path)] = longest
            yield row
            parts = _Parts()
    _warn_of_missing_ends(missing)
    _warn_of_scales(scaled)


def measure_utterances(
    utterances: Sequence[Utterance],
    encoder: Encoder | LazyEncoder,
    max_duration: float | None = None,
    *,
    num_workers: int | None = None,
) -> Generator[Row]:
    """Decode utterances as `embed_utterances` does, and yield a row without a vector for each, in their order.

    A lazy encoder is not built. The row has what decoding measures, such as the offset, or the error.

    Parameters
    ----------
    utterances, encoder, max_duration, num_workers
        As in `embed_utterances`.

    Yields
    ------
    Row
    """
    if not utterances:
        return
    parts = _Parts()
    for piece in _decoded(utterances, encoder, max_duration, max_held=1, num_workers=num_workers):
        parts.add(piece, None)
        if piece.is_last:
            yield parts.row(piece)
            parts = _Parts()


def _decoded(
    utterances: Sequence[Utterance],
    encoder: Encoder | LazyEncoder,
    max_duration: float | None,
    *,
    max_held: int,
    num_workers: int | None,
    with_state: bool = False,
) -> Iterator[Piece]:
    """Yield the decoded pieces of utterances."""
    lengths = [length for length in (max_duration, encoder.spec.get("clip_seconds")) if length is not None]
    detection = encoder.spec.get("speech_detection")
    return decode(
        (Piece(utterance, with_state=with_state) for utterance in utterances),
        len(utterances),
        DecodeSettings(
            sample_rate=encoder.sample_rate,
            crop=min(lengths, default=None),
            min_seconds=encoder.spec.get("min_seconds", 0.0),
            max_bandwidth=encoder.spec.get("max_bandwidth"),
            speech=None if detection is None else SpeechSettings.from_spec(detection),
        ),
        max_held=max_held,
        cut=partial(_cut, encoder=encoder, max_duration=max_duration),
        num_workers=num_workers,
    )


def _warn_of_missing_ends(missing: Mapping[str, float]) -> None:
    """Warn once of the files that are a little shorter than their headers declare, with the missing lengths (s)."""
    if missing:
        longest = max(missing, key=missing.__getitem__)
        logger.warning(
            "%s, such as %s, %s up to %.2g s shorter than the header declares; all that is in the file is used",
            count_of(len(missing), "recording"), longest, "is" if len(missing) == 1 else "are", missing[longest],
        )  # fmt: skip


def _warn_of_scales(scaled: Mapping[Path, float]) -> None:
    """Warn of files whose samples were divided by their full scale."""
    if scaled:
        named = ", ".join(map(str, list(scaled)[:N_NAMED])) + (", ..." if len(scaled) > N_NAMED else "")
        scales = " or ".join(f"{scale:,.0f}" for scale in sorted(set(scaled.values())))
        logger.warning(
            "Floating-point samples on the scale of integers: %s (%s). They are divided by %s.",
            count_of(len(scaled), "file"), named, scales,
        )  # fmt: skip


def _cut(wholes: Iterable[Piece], encoder: Encoder | LazyEncoder, max_duration: float | None) -> Iterator[Piece]:
    """Cut whole utterances into windows if the encoder takes windows; yield them as they are otherwise."""
    uses_windows, rate = windows_of(encoder.spec) is not None, encoder.sample_rate
    for whole in wholes:
        if whole.fault is not None or (not uses_windows and "whole_seconds" not in encoder.spec):
            yield whole
            continue
        try:
            seconds = _length(whole, rate)
        except AudioError as error:
            # A file that is embedded whole may have a header without a length; if it has a fault, reading finds it.
            yield replace(whole, fault=error) if uses_windows else whole
            continue
        seconds = min(seconds, max_duration or seconds)
        pieces = pieces_of(encoder.spec, round(seconds * rate))
        if pieces is None:
            yield whole
            continue
        size, hop = pieces
        starts = window_starts(round(seconds * rate), size, hop)
        for start in starts:
            yield replace(whole, window=(start, size), seconds=seconds, is_last=start == starts[-1])


def _length(whole: Piece, sample_rate: int) -> float:
    """Return the length of the audio of an utterance (seconds), without pauses if its speech was found."""
    if whole.speech is not None:
        return whole.speech.n_samples(sample_rate) / sample_rate
    utterance = whole.utterance
    return span_seconds(utterance.path, utterance.start, utterance.duration, channel=utterance.channel)


def _encoded(
    pieces: Iterator[Piece], encoder: Encoder | LazyEncoder, batch_size: int | None, *, timing: Timing
) -> Iterator[tuple[Piece, Tensor | None]]:
    """Pass the waveforms to the encoder in chunks, and yield each piece with its vector, in order."""
    more = True
    while more:
        started = time.perf_counter()
        chunk = list(islice(pieces, 1))
        if chunk and chunk[0].waveform is not None:
            chunk += islice(pieces, _pieces_per_call(encoder, batch_size) - 1)
        more = bool(chunk)
        decoded = time.perf_counter()
        waveforms = [piece.waveform for piece in chunk if piece.waveform is not None]
        vectors = iter(encoder.encode(waveforms, batch_size) if waveforms else ())
        timing.waiting += decoded - started
        timing.forward += time.perf_counter() - decoded
        for piece in chunk:
            yield replace(piece, waveform=None), None if piece.waveform is None else next(vectors)


def _pieces_per_call(encoder: Encoder | LazyEncoder, batch_size: int | None) -> int:
    """Return the number of pieces that the encoder receives at a time."""
    return max(encoder.clips_per_call, batch_size or 0)


class _Parts:
    """Results for the pieces of one utterance."""

    def __init__(self) -> None:
        self.vectors: list[Tensor] = []
        self.faults: list[AudioError] = []
        self.files: list[FileState] = []
        self.decoded: list[Piece] = []

    def add(self, piece: Piece, vector: Tensor | None) -> None:
        """Add the result for a piece."""
        if vector is not None:
            self.vectors.append(vector)
        if piece.fault is not None:
            self.faults.append(piece.fault)
        else:
            self.decoded.append(replace(piece, waveform=None))
        if piece.file is not None:
            self.files.append(piece.file)

    def assemble(self, last: Piece, encoder: Encoder | LazyEncoder) -> Row:
        """Return the row of the utterance, with its vector or the reason why there is none."""
        row = self.row(last)
        if row.error is not None:
            return row
        vector = self.vectors[0] if len(self.vectors) == 1 else encoder.merge(torch.stack(self.vectors))
        if not bool(torch.isfinite(vector).all()):
            return Row(last.utterance, error="the encoder returned NaN or infinity")
        return replace(row, vector=vector)

    def row(self, last: Piece) -> Row:
        """Return the row without its vector; silent windows are a fault only if all windows are silent."""
        serious = [fault for fault in self.faults if fault.fault != "silent" or not self.decoded]
        if serious and serious[0].fault == "silent" and len(self.faults) > 1:
            reason = f"each of the {len(self.faults)} windows is silent; the first: {serious[0].reason}"
            return Row(last.utterance, error=reason, fault="silent")
        if serious:
            return Row(last.utterance, error=serious[0].reason, fault=serious[0].fault)
        if len(set(self.files)) > 1:
            return Row(last.utterance, error=CHANGED)
        widths = [piece.bandwidth for piece in self.decoded if not math.isnan(piece.bandwidth)]
        return Row(
            last.utterance,
            seconds=last.seconds,
            offset=max((piece.offset for piece in self.decoded), key=abs),
            bandwidth=max(widths, default=math.nan),
            file_rate=self.decoded[0].file_rate,
            full_scale=self.decoded[0].full_scale,
            file=self.files[0] if self.files else None,
        )
