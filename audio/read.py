"""Decode a file, or a span of it, to a mono waveform at the rate asked for."""

import os
import re
import stat
from pathlib import Path

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
# libsndfile reads what is there of a cut-off WAV, AIFF, AU, W64 or RF64 file and tells of the cut in its log alone.
DECLARED_SIZE = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
LARGEST_OGG_PAGE = 65_307  # bytes (RFC 3533)
# Codes of sf_error().
FORMAT_NOT_RECOGNISED = 1
ENCODING_NOT_IMPLEMENTED = 18


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
    if start < 0 or (duration is not None and duration <= 0) or (max_duration is not None and max_duration <= 0):
        raise ValueError(f"start must be >= 0, durations > 0; got {start=}, {duration=}, {max_duration=}")
    samples, native_rate = _decode(path, start, duration, max_duration)
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    if not np.isfinite(mono).all():
        raise AudioError(path, "not_finite", "the samples hold NaN or infinity; export the recording again")
    if not mono.any():
        raise AudioError(path, "silent", "all samples are zero; there is nothing to hear in it")
    if sample_rate not in (None, native_rate):
        mono = soxr.resample(mono, native_rate, sample_rate)
        if not len(mono):
            raise AudioError(path, "empty", f"less than one sample is left of it at {sample_rate} Hz")
    return torch.from_numpy(np.ascontiguousarray(mono))


def _decode(
    path: Path, start: float, duration: float | None, max_duration: float | None
) -> tuple[NDArray[np.float32], int]:
    """Return the span's samples (frames, channels) in float32, and the file's own rate (Hz)."""
    _check_is_file(path)
    try:
        # Bytes where the system's names are bytes: a name that is no valid text there opens all the same.
        with soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else str(path)) as file:
            rate, end = file.samplerate, file.frames
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


def _check_is_file(path: Path) -> None:
    """Answer what is no readable file with bytes in it; libsndfile says "System error" to all of those."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(path, "unreadable", "this is a folder or a device, not a file")
        if status.st_size == 0:
            raise AudioError(path, "empty", "the file is empty (0 bytes)")
        with open(path, "rb"):
            pass
    except FileNotFoundError as error:
        raise AudioError(path, "missing", "no such file") from error
    except OSError as error:
        raise AudioError(path, "unreadable", f"it cannot be opened ({error.strerror or error})") from error


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
    """Tell whether an open file holds less than its header says; only FLAC and MP3 show that by reading short."""
    for declared, present in DECLARED_SIZE.findall(file.extra_info):
        if int(present) < int(declared) < STREAMED_SIZE:
            return True
    if file.format == "OGG":  # its last page carries a flag, and a cut-off file has lost that page
        with open(path, "rb") as raw:
            raw.seek(-min(LARGEST_OGG_PAGE, path.stat().st_size), os.SEEK_END)
            tail = raw.read()
        page = tail.rfind(b"OggS")
        return page >= 0 and not tail[page + 5] & 0x04
    return False


def _cut_off(path: Path, seconds: float) -> AudioError:
    return AudioError(path, "truncated", f"the file is cut off or damaged after {seconds:.2f} s; copy it again")


def _undecodable(path: Path, error: soundfile.LibsndfileError) -> AudioError:
    detail = error.error_string.rstrip(". ")
    if error.code == FORMAT_NOT_RECOGNISED:
        return AudioError(path, "not_audio", "this is not audio that libsndfile decodes; convert it to WAV or FLAC")
    if error.code == ENCODING_NOT_IMPLEMENTED:
        return AudioError(
            path, "not_audio", f"libsndfile cannot decode this encoding ({detail}); convert it to WAV or FLAC"
        )
    return AudioError(path, "truncated", f"the file is cut off or damaged (libsndfile: {detail}); copy it again")
