"""The work of a decoding process: read pieces of audio, and leave their waveforms in shared memory."""

import math
import mmap
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from audio import (
    AudioError,
    Recording,
    Speech,
    SpeechDetector,
    SpeechSettings,
    measure_bandwidth,
    read_audio,
    read_recording,
    read_speech,
    read_window,
)
from files import file_digest

# Seconds between two checks of a worker whether its parent process is alive.
CHECK_INTERVAL = 1.0
# A mean of the samples above this (full scale is 1) is a DC offset, which is removed. Most recordings have less than a
# tenth of this.
MAX_OFFSET = 1e-3
# Samples are summed in rows of this length, which are added in order: 3 times as fast as a mean in float64, and as the
# mean of a tensor is not, independent of the number of threads.
ROW_LENGTH = 1024
# Reason why a file that was written to while it was read is not used.
CHANGED = "the file changed while it was read; run the same command again"


@dataclass(frozen=True)
class FileState:
    """Digest of a file, and its size (bytes) and modification time (ns), which show whether it has changed since."""

    digest: bytes
    size: int
    mtime_ns: int


class DecodeRequest(NamedTuple):
    """A piece to decode, as plain values that are cheap to send to a process.

    Attributes
    ----------
    number : int
        Number of the piece, which determines its place in the arena.
    path : str
    start : float
        Start of the span in the file (seconds).
    duration : float or None
        Length of the span (seconds); None means to the end of the file.
    window : (int, int) or None
        First sample of the window in the span, and number of samples, at the rate of the settings.
    seconds : float
        Length of the span, if `window` is given.
    with_state : bool
        Whether to return the state of the file, which includes its digest.
    channel : int or None
        Number of the channel, from 0; None is the mean of all.
    speech : Speech or None
        The segments that are read, one after the other, if pauses are left out; a window is a part of them.
    """

    number: int
    path: str
    start: float
    duration: float | None
    window: tuple[int, int] | None
    seconds: float
    with_state: bool
    channel: int | None = None
    speech: Speech | None = None


class DecodedPiece(NamedTuple):
    """Result of a request: a waveform, or the number of its samples if it is in the arena, or speech, or a fault.

    A waveform has the mean that its samples had (`offset`), a bandwidth (Hz), which is NaN if it is not known, and of
    its file the sampling rate (Hz), the length that the header declares but the file lacks (seconds), and the full
    scale (`audio.full_scale_of`).
    """

    waveform: Tensor | None = None
    n_shared: int | None = None
    seconds: float = 0.0
    offset: float = math.nan
    bandwidth: float = math.nan
    file_rate: int = 0
    missing: float = 0.0
    full_scale: float = 1.0
    speech: Speech | None = None
    fault: AudioError | None = None
    file: FileState | None = None


@dataclass(frozen=True)
class DecodeSettings:
    """How waveforms are read.

    Attributes
    ----------
    sample_rate : int
        Sampling rate of the waveforms (Hz).
    crop : float or None
        Maximum length of pieces without a window (seconds).
    min_seconds : float
        Minimum length (seconds).
    max_bandwidth : int or None
        Highest frequency that is kept (Hz).
    speech : SpeechSettings or None
        What counts as speech, if pauses are left out.
    """

    sample_rate: int
    crop: float | None
    min_seconds: float = 0.0
    max_bandwidth: int | None = None
    speech: SpeechSettings | None = None


@dataclass
class Arena:
    """Shared memory with a place for the waveform of each piece in progress."""

    memory: mmap.mmap
    n_places: int
    samples: int  # number of samples of each place

    @classmethod
    def make(cls, n_places: int, samples: int) -> "Arena":
        return cls(mmap.mmap(-1, n_places * samples * 4), n_places, samples)

    def place(self, number: int, length: int) -> Tensor:
        """Return the place of a piece, by its number, as a vector (length,)."""
        offset = number % self.n_places * self.samples * 4
        return torch.from_numpy(np.frombuffer(self.memory, np.float32, length, offset))


# Arena of this worker process, set by `init_worker`.
_arena: Arena | None = None


def init_worker(arena: Arena | None, parent: int) -> None:
    """Prepare a worker process, which ignores Ctrl-C because its parent handles it, and ends with its parent."""
    global _arena
    _arena = arena
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    watched = os.getppid()  # with a fork server, this is the server, which ends with the parent
    if multiprocessing.get_start_method() == "fork":
        watched = parent
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork

    def end_with_parent() -> None:
        while os.getppid() == watched:
            time.sleep(CHECK_INTERVAL)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()


def read_pieces(requests: Sequence[DecodeRequest | None], settings: DecodeSettings) -> list[DecodedPiece]:
    """Read pieces; leave each waveform in its place in the arena if it fits."""
    decoded = []
    for request in requests:
        piece = DecodedPiece() if request is None else _read(request, settings)
        if request is not None and _arena is not None and piece.waveform is not None:
            length = len(piece.waveform)
            if length <= _arena.samples:
                _arena.place(request.number, length).copy_(piece.waveform)
                piece = piece._replace(waveform=None, n_shared=length)
        decoded.append(piece)
    return decoded


def find_speech(requests: Sequence[DecodeRequest | None], settings: DecodeSettings) -> list[DecodedPiece]:
    """Find the speech of the spans of requests, which have no window."""
    return [DecodedPiece() if request is None else _find_speech(request, settings) for request in requests]


def _find_speech(request: DecodeRequest, settings: DecodeSettings) -> DecodedPiece:
    try:
        speech = _detector(settings.speech).require_speech(
            request.path,
            request.start,
            request.duration,
            max_bandwidth=settings.max_bandwidth,
            channel=request.channel,
        )
    except AudioError as error:
        return DecodedPiece(fault=error)
    except Exception as error:  # an error of a decoder must not stop the other files
        return DecodedPiece(fault=_decoder_error(request, error))
    return DecodedPiece(speech=speech)


@cache
def _detector(settings: SpeechSettings | None) -> SpeechDetector:
    """Return the detector of this process; the weights were found before it started."""
    return SpeechDetector(settings, download=False)


def _decoder_error(request: DecodeRequest, error: Exception) -> AudioError:
    return AudioError(request.path, "unreadable", f"it cannot be decoded ({type(error).__name__}: {error})")


def _read(request: DecodeRequest, settings: DecodeSettings) -> DecodedPiece:
    """Read the waveform of a piece, or return the fault."""
    path, rate, before = Path(request.path), settings.sample_rate, None
    try:
        before = file_state(path) if request.with_state else None
        recording = _read_recording(request, settings)
        seconds = request.seconds if request.window is not None else len(recording.waveform) / rate
        waveform = recording.waveform
        if len(waveform) < settings.min_seconds * rate:
            reason = f"the audio is {len(waveform) / rate:.3f} s long; this encoder needs {settings.min_seconds:g} s"
            raise AudioError(path, "too_short", reason)
        offset = remove_offset(waveform)
        bandwidth = measure_bandwidth(waveform, rate)
        if before is not None:
            status = os.stat(path)
            if (status.st_size, status.st_mtime_ns) != (before.size, before.mtime_ns):
                raise AudioError(path, "unreadable", CHANGED)
    except AudioError as error:
        return DecodedPiece(seconds=request.seconds, fault=error, file=before)
    except OSError as error:  # the file was removed after it was read
        return DecodedPiece(fault=AudioError(path, "missing", error.strerror or str(error)))
    except Exception as error:  # an error of a decoder must not stop the other files
        return DecodedPiece(fault=_decoder_error(request, error))
    return DecodedPiece(
        waveform,
        seconds=seconds,
        offset=offset,
        bandwidth=bandwidth,
        file_rate=recording.file_rate,
        missing=recording.missing,
        full_scale=recording.full_scale,
        file=before,
    )


def _read_recording(request: DecodeRequest, settings: DecodeSettings) -> Recording:
    """Read the audio of a piece."""
    path, rate, crop = Path(request.path), settings.sample_rate, settings.crop
    if request.speech is not None:
        first, count = request.window or (0, None if crop is None else max(round(crop * rate), 1))
        return read_speech(
            path,
            rate,
            request.speech,
            start=request.start,
            first=first,
            count=count,
            max_bandwidth=settings.max_bandwidth,
            channel=request.channel,
        )
    if request.window is not None:
        first, count = request.window
        return read_window(
            path,
            rate,
            first,
            count=count,
            start=request.start,
            duration=request.seconds,
            max_bandwidth=settings.max_bandwidth,
            channel=request.channel,
        )
    return read_recording(
        path,
        rate,
        request.start,
        duration=request.duration,
        max_duration=crop,
        max_bandwidth=settings.max_bandwidth,
        channel=request.channel,
    )


def remove_offset(waveform: Tensor) -> float:
    """Subtract the mean from a waveform in place if it is a DC offset, above `MAX_OFFSET`; return the mean.

    A DC offset comes from the converter of a sound card. No voice is in it, but it changes the embeddings of most
    encoders. A lower mean is left as it is, so that most recordings are embedded exactly as they are stored.

    Parameters
    ----------
    waveform : Tensor (samples,)
        float32, on the CPU; full scale is 1.

    Returns
    -------
    float
        Mean of the samples before.
    """
    samples = waveform.numpy()
    n_rows = len(samples) // ROW_LENGTH
    rows, rest = samples[: n_rows * ROW_LENGTH].reshape(n_rows, ROW_LENGTH), samples[n_rows * ROW_LENGTH :]
    total = rows.sum(axis=0).sum(dtype=np.float64) + rest.sum(dtype=np.float64)
    mean = float(total) / len(samples)
    if abs(mean) > MAX_OFFSET:
        samples -= np.float32(mean)
    return mean


def file_state(path: Path) -> FileState:
    """Return the digest, size and modification time of a file.

    Raises
    ------
    AudioError
        The file cannot be read.
    """
    try:
        status = os.stat(path)
        if not S_ISREG(status.st_mode):
            raise OSError("not a file")
        return FileState(file_digest(path, status.st_size, status.st_mtime_ns), status.st_size, status.st_mtime_ns)
    except (OSError, ValueError):
        read_audio(path, None)  # raises the AudioError that describes the fault
        raise
