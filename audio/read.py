"""Decode a file, or a span of it, to a mono waveform at the rate asked for."""

import math
import os
import re
import stat
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio.errors import AudioError

# A span may end this much after the file (seconds): annotations are rounded, and lossy formats drop a frame.
SPAN_TOLERANCE = 0.1
# Encoders that write into a pipe cannot know the length and declare the largest one (ffmpeg 2^32-1, sox about 2^31).
STREAMED_SIZE = 0x7FFF0000
# libsndfile reads what is there of a cut-off AIFF, AU, W64 or RF64 file and tells of the cut in its log alone.
DECLARED_SIZE = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
LARGEST_COUNT = 2**62  # frames; libsndfile's word for "unknown" is about twice that
# Seconds around a window that a resampler's filter can see, and to spare.
WINDOW_MARGIN = 0.05
LARGEST_OGG_PAGE = 65_307  # bytes (RFC 3533)
# Codes of sf_error().
FORMAT_NOT_RECOGNISED = 1
ENCODING_UNKNOWN = (4, 18, 64)


def read_audio(
    path: str | os.PathLike[str],
    sample_rate: int | None,
    start: float = 0.0,
    duration: float | None = None,
    max_duration: float | None = None,
) -> Tensor:
    """Read a mono waveform from anything that libsndfile decodes.

    Only the span asked for is decoded: the file is sought to `start`. The span is cut at the file's own rate, its
    channels are averaged, and it is then resampled by soxr (HQ).

    Parameters
    ----------
    path : path-like
        The file. Its contents, not its suffix, say what it is.
    sample_rate : int or None
        Rate of the waveform returned (Hz); None is the file's own.
    start : float
        Where the span begins (seconds).
    duration : float, optional
        Length of the span (seconds); None is to the end of the file.
    max_duration : float, optional
        Crop: no more than this much of the span is read (seconds).

    Returns
    -------
    Tensor
        float32, (samples,), on the CPU; finite and not all zero.

    Raises
    ------
    AudioError
        The file is missing, empty, cut off, not audio or unreadable; the span lies outside it; or its samples hold
        NaN or infinity, or nothing but zeros.
    """
    path = Path(path)
    lengths = [length for length in (duration, max_duration) if length is not None]
    if not 0 <= start < math.inf or not all(0 < length < math.inf for length in lengths):
        raise ValueError(f"start must be >= 0, durations > 0; got {start=}, {duration=}, {max_duration=}")
    samples, native_rate = _decode(path, start, duration, max_duration)
    if not np.isfinite(samples).all():
        raise AudioError(path, "not_finite", "the samples hold NaN or infinity; export the recording again")
    mono = samples.mean(axis=1, dtype=np.float64).astype(np.float32) if samples.shape[1] > 1 else samples[:, 0]
    if sample_rate not in (None, native_rate):
        mono = soxr.resample(mono, native_rate, sample_rate)
        if not len(mono):
            raise AudioError(path, "empty", f"less than one sample is left of it at {sample_rate} Hz")
        if not np.isfinite(mono).all():
            raise AudioError(
                path, "not_finite", "its samples are too large to be resampled; export the recording again"
            )
    if not mono.any():
        raise AudioError(
            path, "silent", "all samples are zero (or cancel between the channels); there is nothing to hear"
        )
    return torch.from_numpy(np.ascontiguousarray(mono))


def span_seconds(path: str | os.PathLike[str], start: float = 0.0, duration: float | None = None) -> float:
    """Return how many seconds `read_audio` would read of a file, from its header alone.

    Raises
    ------
    AudioError
        The file is missing, empty, cut off (if the header tells), not audio or unreadable, or does not say its length;
        or the span lies outside it.
    """
    path = Path(path)
    try:
        with _open(path) as raw, _sound(path, raw) as file:
            rate: int = file.samplerate
            if file.frames > LARGEST_COUNT:
                raise AudioError(
                    path,
                    "unreadable",
                    "this FLAC was written into a pipe and does not say how long it is; write it again (flac -d, flac)",
                )
            first, count = _span(path, rate, file.frames, start, duration, None)
            if first + count >= file.frames and _is_cut_off(path, file):
                raise _cut_off(path, file.frames / rate)
            return count / rate
    except soundfile.LibsndfileError as error:
        raise _undecodable(path, error) from error


def read_window(
    path: str | os.PathLike[str], sample_rate: int, first: int, count: int, start: float, duration: float
) -> Tensor:
    """Read a window of a span as `read_audio` followed by slicing would give it, without reading the rest.

    More is read on both sides, so that the resampler sees what lies around the window, and that it begins where a
    sample at one rate falls on a sample at the other.

    Parameters
    ----------
    path : path-like
        The file.
    sample_rate : int
        Rate of the waveform returned (Hz).
    first, count : int
        First sample of the window in the span, and number of samples, at that rate.
    start, duration : float
        The span (seconds), within the file.

    Returns
    -------
    Tensor
        float32, (at most `count`,).

    Raises
    ------
    AudioError
        As `read_audio`; "silent" if the window holds nothing but zeros.
    """
    path = Path(path)
    try:
        with _open(path) as raw, _sound(path, raw) as file:
            grid = math.gcd(file.samplerate, sample_rate)
    except soundfile.LibsndfileError as error:
        raise _undecodable(path, error) from error
    begin = max(math.floor((first / sample_rate - WINDOW_MARGIN) * grid), 0)
    end = min((first + count) / sample_rate + WINDOW_MARGIN, duration)
    waveform = read_audio(path, sample_rate, start + begin / grid, max(end - begin / grid, 1 / grid))
    skipped = first - begin * sample_rate // grid
    window = waveform[skipped : skipped + count]
    if not bool(window.any()):
        raise AudioError(path, "silent", "all samples are zero; there is nothing to hear")
    return window


def _decode(
    path: Path, start: float, duration: float | None, max_duration: float | None
) -> tuple[NDArray[np.float32], int]:
    """Return the span's samples (frames, channels) in float32, and the file's own rate (Hz)."""
    try:
        with _open(path) as raw, _sound(path, raw) as file:
            rate, end = file.samplerate, file.frames
            if end > LARGEST_COUNT:
                ends = [start + length for length in (duration, max_duration) if length is not None]
                samples = _read_streamed(path, (min(ends, default=math.inf) + SPAN_TOLERANCE) * rate)
                first, count = _span(path, rate, len(samples), start, duration, max_duration)
                return samples[first : first + count], rate
            first, count = _span(path, rate, end, start, duration, max_duration)
            if first + count >= end and _is_cut_off(path, file):
                raise _cut_off(path, end / rate)
            if first:
                file.seek(first)
            samples = file.read(count, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise _undecodable(path, error) from error
    if not len(samples) or len(samples) < count - SPAN_TOLERANCE * rate:
        raise _cut_off(path, (first + len(samples)) / rate)
    return samples, rate


def _open(path: Path) -> BinaryIO:
    """Open a file that has bytes in it, or say why not: libsndfile says "System error" to all of that."""
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


def _sound(path: Path, raw: BinaryIO, kind: type[soundfile.SoundFile] = soundfile.SoundFile) -> soundfile.SoundFile:
    """Open the sound in a file.

    By its descriptor: given a name, libsndfile believes some suffixes (.raw, .au, .gsm) more than the contents, and
    returns noise. Windows has descriptors of several kinds, and there the name has to do.
    """
    return kind(str(path)) if os.name == "nt" else kind(raw.fileno(), closefd=False)


class _Streamed(soundfile.SoundFile):  # type: ignore[misc]
    """A sound that cannot be sought; soundfile seeks after each read, and libsndfile only then finds that it cannot."""

    def seekable(self) -> bool:
        return False


def _read_streamed(path: Path, n_frames: float) -> NDArray[np.float32]:
    """Decode a FLAC that was written into a pipe, and does not say how long it is, as far as it is needed."""
    blocks: list[NDArray[np.float32]] = []
    with _open(path) as raw, _sound(path, raw, _Streamed) as file:
        while sum(map(len, blocks)) < n_frames and len(block := file.read(1 << 20, dtype="float32", always_2d=True)):
            blocks.append(block)
        return np.concatenate(blocks) if blocks else np.empty((0, file.channels), np.float32)


def _span(
    path: Path, rate: int, end: int, start: float, duration: float | None, max_duration: float | None
) -> tuple[int, int]:
    """Return the first frame of the span and the number of frames, or say why the file has no such span."""
    if end <= 0:
        raise AudioError(path, "empty", "it holds a header and no samples")
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


def _is_cut_off(path: Path, file: soundfile.SoundFile) -> bool:
    """Tell whether an open file holds less than it says; only FLAC and MP3 show that by reading short.

    VOC files tell nothing: cut off, they count as whole.
    """
    with open(path, "rb") as raw:  # a descriptor of its own: the sound's position stays where it is
        if file.format in ("WAV", "WAVEX"):
            return _lacks_data(raw)
        if file.format == "NIST":
            declared = re.search(rb"sample_count -i (\d+)", raw.read(1024))
            return declared is not None and file.frames < int(declared[1])
        if file.format == "OGG":
            return _lacks_last_page(raw)
    sizes = ((int(declared), int(present)) for declared, present in DECLARED_SIZE.findall(file.extra_info))
    return any(present < declared < STREAMED_SIZE for declared, present in sizes)


def _lacks_data(raw: BinaryIO) -> bool:
    """Tell whether the data chunk of a WAV file goes beyond its end."""
    end = raw.seek(0, os.SEEK_END)
    raw.seek(12)
    while len(header := raw.read(8)) == 8:
        name, size = struct.unpack("<4sI", header)
        if name == b"data":
            return bool(size < STREAMED_SIZE and raw.tell() + size > end)
        raw.seek(size + size % 2, os.SEEK_CUR)
    return False


def _lacks_last_page(raw: BinaryIO) -> bool:
    """Tell whether an Ogg file ends before its last page does; that one carries a flag."""
    end = raw.seek(0, os.SEEK_END)
    raw.seek(max(0, end - LARGEST_OGG_PAGE))
    tail = raw.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return True
    is_last, n_segments = bool(tail[page + 5] & 0x04), tail[page + 26]
    segments = tail[page + 27 : page + 27 + n_segments]
    return not is_last or len(tail) < page + 27 + n_segments + sum(segments)


def _cut_off(path: Path, seconds: float) -> AudioError:
    return AudioError(path, "truncated", f"the file is cut off or damaged after {seconds:.2f} s; copy it again")


def _undecodable(path: Path, error: soundfile.LibsndfileError) -> AudioError:
    detail = error.error_string.rstrip(". ")
    if error.code == FORMAT_NOT_RECOGNISED:
        return AudioError(path, "not_audio", "this is not audio that libsndfile decodes; convert it to WAV or FLAC")
    if error.code in ENCODING_UNKNOWN:
        return AudioError(
            path, "not_audio", f"libsndfile cannot decode this encoding ({detail}); convert it to WAV or FLAC"
        )
    return AudioError(path, "truncated", f"the file is cut off or damaged (libsndfile: {detail}); copy it again")
