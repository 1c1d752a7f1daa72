"""Decode a file, or a span of it, to a mono waveform at the requested rate."""

import math
import os
import stat
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio.audio_error import AudioError
from audio.cut_off import is_cut_off

# A span may end this long after the end of the file (seconds): annotations are rounded, and lossy formats drop a frame.
SPAN_TOLERANCE = 0.1
# Maximum number of frames; libsndfile returns about twice as many for an unknown length.
MAX_FRAMES = 2**62
# Audio read on each side of a window, longer than the resampling filters: seconds, and samples at the rate that limits
# the bandwidth.
WINDOW_MARGIN, LIMIT_MARGIN = 0.05, 200
# Codes of sf_error().
FORMAT_NOT_RECOGNISED = 1
ENCODING_UNKNOWN = (4, 18, 64)


def read_audio(
    path: str | os.PathLike[str],
    sample_rate: int | None,
    start: float = 0.0,
    *,
    duration: float | None = None,
    max_duration: float | None = None,
    max_bandwidth: float | None = None,
) -> Tensor:
    """Read a mono waveform from a file in any format that libsndfile decodes.

    Only the requested span is decoded. It is cut at the file's own rate; then its channels are averaged, and it is
    resampled with soxr (HQ).

    Parameters
    ----------
    path : path-like
        The file. Its format is detected from its contents, not from its suffix.
    sample_rate : int or None
        Sampling rate of the returned waveform (Hz); None is the file's own.
    start : float
        Start of the span (seconds).
    duration : float, optional
        Length of the span (seconds); None is to the end of the file.
    max_duration : float, optional
        Maximum length of the part of the span that is read, from its start (seconds).
    max_bandwidth : float, optional
        Highest frequency that is kept (Hz): a file of a higher rate is resampled to twice this frequency in between. A
        file of twice this rate or less is not changed by it.

    Returns
    -------
    Tensor (samples,)
        float32, on the CPU; finite and not all zero.

    Raises
    ------
    AudioError
        The file is missing, empty, cut off, not audio or unreadable; the span is outside the file; or the samples
        contain NaN or infinity, or are all zero.
    ValueError
        `start` is negative or not finite, or a duration or `max_bandwidth` is not a positive finite number.
    """
    return read_with_rate(
        path, sample_rate, start, duration=duration, max_duration=max_duration, max_bandwidth=max_bandwidth
    )[0]


def read_with_rate(
    path: str | os.PathLike[str],
    sample_rate: int | None,
    start: float = 0.0,
    *,
    duration: float | None = None,
    max_duration: float | None = None,
    max_bandwidth: float | None = None,
) -> tuple[Tensor, int]:
    """Return the waveform, as `read_audio` does, and the sampling rate of the file (Hz)."""
    path = Path(path)
    limits = [limit for limit in (duration, max_duration, max_bandwidth) if limit is not None]
    if not 0 <= start < math.inf or not all(0 < limit < math.inf for limit in limits):
        raise ValueError(
            f"start must be >= 0, durations > 0, max_bandwidth > 0; got {start=}, {duration=}, {max_duration=}, "
            f"{max_bandwidth=}"
        )
    samples, native_rate = _decode(path, start, duration=duration, max_duration=max_duration)
    if not np.isfinite(samples).all():
        raise AudioError(path, "not_finite", "the samples contain NaN or infinity; export the recording again")
    mono = samples.mean(axis=1, dtype=np.float64).astype(np.float32) if samples.shape[1] > 1 else samples[:, 0]
    rates = [native_rate, *_limit_rate(native_rate, sample_rate, max_bandwidth), sample_rate or native_rate]
    for rate, new_rate in pairwise(rates):
        if rate != new_rate:
            mono = _resample(path, mono, rate, new_rate=new_rate)
    if not mono.any():
        raise AudioError(
            path, "silent", "all samples are zero (or cancel between the channels); the recording has no signal"
        )
    return torch.from_numpy(np.ascontiguousarray(mono)), native_rate


def _limit_rate(native_rate: int, sample_rate: int | None, max_bandwidth: float | None) -> list[int]:
    """Return the rate (Hz) that limits the bandwidth on the way from one rate to the other, if one is needed."""
    if max_bandwidth is None or 2 * max_bandwidth >= min(native_rate, sample_rate or native_rate):
        return []
    return [round(2 * max_bandwidth)]


def _resample(path: Path, samples: NDArray[np.float32], rate: int, *, new_rate: int) -> NDArray[np.float32]:
    resampled: NDArray[np.float32] = soxr.resample(samples, rate, new_rate)
    if not len(resampled):
        raise AudioError(path, "empty", f"the span is shorter than one sample at {new_rate} Hz")
    if not np.isfinite(resampled).all():
        raise AudioError(path, "not_finite", "the samples are too large to be resampled; export the recording again")
    return resampled


def sample_rate_of(path: str | os.PathLike[str]) -> int:
    """Return the sampling rate of a file (Hz); only the header is read.

    Raises
    ------
    AudioError
        The file is missing, empty, not audio or unreadable.
    """
    path = Path(path)
    try:
        with _open(path) as raw, _open_sound(path, raw) as file:
            return int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise _libsndfile_error(path, error) from error


def span_seconds(path: str | os.PathLike[str], start: float = 0.0, duration: float | None = None) -> float:
    """Return the length (seconds) that `read_audio` would read from a file; only the header is read.

    Parameters
    ----------
    path : path-like
        The file.
    start : float
        Start of the span (seconds).
    duration : float, optional
        Length of the span (seconds); None is to the end of the file.

    Raises
    ------
    AudioError
        The file is missing, empty, cut off (as far as the header shows it), not audio or unreadable; its header gives
        no length; or the span is outside the file.
    """
    path = Path(path)
    try:
        with _open(path) as raw, _open_sound(path, raw) as file:
            rate: int = file.samplerate
            if file.frames > MAX_FRAMES:
                raise AudioError(
                    path,
                    "unreadable",
                    "the header of this FLAC file gives no length, because the file was written into a pipe; write it "
                    "again (flac -d, flac)",
                )
            first, count = _span(path, rate, file.frames, start=start, duration=duration, max_duration=None)
            if first + count >= file.frames and is_cut_off(path, file):
                raise _truncated_error(path, file.frames / rate)
            return count / rate
    except soundfile.LibsndfileError as error:
        raise _libsndfile_error(path, error) from error


def read_window(
    path: str | os.PathLike[str],
    sample_rate: int,
    first: int,
    *,
    count: int,
    start: float,
    duration: float,
    max_bandwidth: float | None = None,
) -> Tensor:
    """Read a window of a span; equal to `read_audio` of the span followed by slicing, without reading the rest.

    Some audio is read on both sides of the window: the resampling filter needs it, and resampling must start at a time
    where all rates have a sample.

    Parameters
    ----------
    path : path-like
        The file.
    sample_rate : int
        Sampling rate of the returned waveform (Hz).
    first, count : int
        First sample of the window in the span, and number of samples, at that rate.
    start, duration : float
        Start and length of the span (seconds).
    max_bandwidth : float, optional
        Highest frequency that is kept (Hz).

    Returns
    -------
    Tensor (at most `count`,)
        float32, on the CPU.

    Raises
    ------
    AudioError
        The same faults as in `read_audio`; "silent" if the samples of the window are all zero.
    """
    path = Path(path)
    native_rate = sample_rate_of(path)
    limit = _limit_rate(native_rate, sample_rate, max_bandwidth)
    grid = math.gcd(native_rate, sample_rate, *limit)
    margin = WINDOW_MARGIN + sum(LIMIT_MARGIN / rate for rate in limit)
    begin = max(math.floor((first / sample_rate - margin) * grid), 0)
    end = min((first + count) / sample_rate + margin, duration)
    waveform = read_audio(
        path,
        sample_rate,
        start + begin / grid,
        duration=max(end - begin / grid, 1 / grid),
        max_bandwidth=max_bandwidth,
    )
    skipped = first - begin * sample_rate // grid
    window = waveform[skipped : skipped + count]
    if not bool(window.any()):
        raise AudioError(path, "silent", "all samples are zero; the window has no signal")
    return window


def _decode(
    path: Path, start: float, *, duration: float | None, max_duration: float | None
) -> tuple[NDArray[np.float32], int]:
    """Return the samples of the span, float32 (frames, channels), and the file's own rate (Hz)."""
    try:
        with _open(path) as raw, _open_sound(path, raw) as file:
            rate, end = file.samplerate, file.frames
            if end > MAX_FRAMES:
                ends = [start + length for length in (duration, max_duration) if length is not None]
                samples = _read_streamed_flac(path, (min(ends, default=math.inf) + SPAN_TOLERANCE) * rate)
                first, count = _span(
                    path, rate, len(samples), start=start, duration=duration, max_duration=max_duration
                )
                return samples[first : first + count], rate
            first, count = _span(path, rate, end, start=start, duration=duration, max_duration=max_duration)
            if first + count >= end and is_cut_off(path, file):
                raise _truncated_error(path, end / rate)
            if first:
                file.seek(first)
            samples = file.read(count, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise _libsndfile_error(path, error) from error
    if not len(samples) or len(samples) < count - SPAN_TOLERANCE * rate:
        raise _truncated_error(path, (first + len(samples)) / rate)
    return samples, rate


def _open(path: Path) -> BinaryIO:
    """Open a regular file that is not empty; for any other path, libsndfile reports only "System error"."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(path, "unreadable", "this is a folder or a device, not a file")
        if status.st_size == 0:
            raise AudioError(path, "empty", "the file is empty (0 bytes)")
        return open(path, "rb")
    except AudioError:
        raise
    except FileNotFoundError as error:
        raise AudioError(path, "missing", "no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        reason = getattr(error, "strerror", None) or error
        raise AudioError(path, "unreadable", f"it cannot be opened ({reason})") from error


def _open_sound(
    path: Path, raw: BinaryIO, kind: type[soundfile.SoundFile] = soundfile.SoundFile
) -> soundfile.SoundFile:
    """Open the sound in an open file.

    libsndfile is given a file descriptor. Given a name, it trusts some suffixes (.raw, .au, .gsm) more than the
    contents, and returns noise. On Windows, where there are several kinds of descriptors, it is given the name.
    """
    return kind(str(path)) if os.name == "nt" else kind(raw.fileno(), closefd=False)


class _UnseekableFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read without seeking.

    soundfile seeks after each read in a seekable file. libsndfile reports that a FLAC file without a length is
    seekable, but seeking in it fails.
    """

    def seekable(self) -> bool:
        return False


def _read_streamed_flac(path: Path, n_frames: float) -> NDArray[np.float32]:
    """Decode at least the first `n_frames` of a FLAC file whose header gives no length, or all of it."""
    blocks: list[NDArray[np.float32]] = []
    with _open(path) as raw, _open_sound(path, raw, _UnseekableFile) as file:
        while sum(map(len, blocks)) < n_frames and len(block := file.read(1 << 20, dtype="float32", always_2d=True)):
            blocks.append(block)
        return np.concatenate(blocks) if blocks else np.empty((0, file.channels), np.float32)


def _span(
    path: Path, rate: int, end: int, *, start: float, duration: float | None, max_duration: float | None
) -> tuple[int, int]:
    """Return the first frame of the span and the number of frames; refuse a span that is outside the file."""
    if end <= 0:
        raise AudioError(path, "empty", "the file has a header but no samples")
    first = round(start * rate)
    if first >= end:
        raise AudioError(path, "out_of_range", f"the span starts at {start:g} s, but the file ends at {end / rate:g} s")
    count = end - first
    if duration is not None:
        if start + duration > end / rate + SPAN_TOLERANCE:
            message = f"the span ends at {start + duration:g} s, but the file ends at {end / rate:g} s"
            raise AudioError(path, "out_of_range", message)
        count = min(count, max(1, round(duration * rate)))
    if max_duration is not None:
        count = min(count, max(1, round(max_duration * rate)))
    return first, count


def _truncated_error(path: Path, seconds: float) -> AudioError:
    return AudioError(path, "truncated", f"the file is cut off or damaged after {seconds:.2f} s; copy it again")


def _libsndfile_error(path: Path, error: soundfile.LibsndfileError) -> AudioError:
    detail = error.error_string.rstrip(". ")
    if error.code == FORMAT_NOT_RECOGNISED:
        return AudioError(path, "not_audio", "this is not audio that libsndfile decodes; convert it to WAV or FLAC")
    if error.code in ENCODING_UNKNOWN:
        return AudioError(
            path, "not_audio", f"libsndfile cannot decode this encoding ({detail}); convert it to WAV or FLAC"
        )
    return AudioError(path, "truncated", f"the file is cut off or damaged (libsndfile: {detail}); copy it again")
