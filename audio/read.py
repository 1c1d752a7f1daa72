"""Decode a file, or a span of it, to a mono waveform at the requested rate."""

import math
import os
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio.audio_error import AudioError
from audio.channel_statistics import ChannelStatistics
from audio.check_signal import check_signal, is_constant
from audio.cut_off import missing_seconds
from audio.full_scale import full_scale_of_samples
from audio.samples import Samples
from audio.sound_file import (
    MAX_FRAMES,
    SoundFile,
    check_channel,
    check_size,
    count_frames,
    frames_of,
    open_sound,
    read_samples,
)
from audio.span import MAX_MISSING_SHARE, SPAN_TOLERANCE, Span, find_span

# Audio read on each side of a window, longer than the resampling filters: seconds, and samples at the rate that limits
# the bandwidth.
WINDOW_MARGIN, LIMIT_MARGIN = 0.05, 200


class Recording(NamedTuple):
    """A waveform, and what is known of its file.

    Attributes
    ----------
    waveform : Tensor (samples,)
        float32, on the CPU; finite and not all equal.
    file_rate : int
        Sampling rate of the file (Hz).
    missing : float
        Length at the end of the span that the header declares but the file lacks (seconds), at most 0.1 s and a tenth
        of the file.
    full_scale : float
        Number by which the samples of the file were divided; see `full_scale_of`.
    channels : ChannelStatistics or None
        How similar the channels are whose mean the waveform is, at the beginning of the span; None for one channel.
    """

    waveform: Tensor
    file_rate: int
    missing: float
    full_scale: float = 1.0
    channels: ChannelStatistics | None = None


def read_audio(
    path: str | os.PathLike[str],
    sample_rate: int | None,
    start: float = 0.0,
    *,
    duration: float | None = None,
    max_duration: float | None = None,
    max_bandwidth: float | None = None,
    channel: int | None = None,
) -> Tensor:
    """Read a mono waveform from a file in any format that libsndfile or PyAV (FFmpeg) decodes.

    Only the requested span is decoded. It is cut at the file's own rate; then its channels are averaged, or one of
    them is taken, and it is resampled with soxr (HQ). Floating-point samples on the scale of integers are divided by it
    (`full_scale_of`), for which the peak of the whole file, of all channels, is found.

    Samples that an encoder has added before and after the recording are removed where the file says how many there are:
    in MP4 and WebM files, but not in ``.aac``, ``.amr`` and ``.ts`` files.

    Parameters
    ----------
    path : path-like
        The file. Its format is detected from its contents, not from its suffix. In a film, the first audio track is
        read, or the one that is marked as the default.
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
    channel : int, optional
        Number of the channel that is read, from 0; None is the mean of all.

    Returns
    -------
    Tensor (samples,)
        float32, on the CPU; finite and not all equal. Full scale is 1.

    Raises
    ------
    AudioError
        The file is missing, empty, not audio, encrypted or unreadable, or cut off by more than 0.1 s or a tenth of its
        length; the span is outside the file; the file does not have the channel; or the samples contain NaN or
        infinity, are on an unknown scale, are all equal, or cancel between the channels.
    ValueError
        `start` is negative or not finite, a duration or `max_bandwidth` is not a positive finite number, or `channel`
        is negative.
    """
    return read_recording(
        path,
        sample_rate,
        start,
        duration=duration,
        max_duration=max_duration,
        max_bandwidth=max_bandwidth,
        channel=channel,
    ).waveform


def read_recording(
    path: str | os.PathLike[str],
    sample_rate: int | None,
    start: float = 0.0,
    *,
    duration: float | None = None,
    max_duration: float | None = None,
    max_bandwidth: float | None = None,
    channel: int | None = None,
) -> Recording:
    """Return the waveform, as `read_audio` does, with what is known of its file."""
    path = Path(path)
    limits = [limit for limit in (duration, max_duration, max_bandwidth) if limit is not None]
    if not 0 <= start < math.inf or not all(0 < limit < math.inf for limit in limits):
        raise ValueError(
            f"start must be >= 0, durations > 0, max_bandwidth > 0; got {start=}, {duration=}, {max_duration=}, "
            f"{max_bandwidth=}"
        )
    if channel is not None and channel < 0:
        raise ValueError(f"channel must be >= 0, or None for the mean of all; got {channel=}")
    samples, span, native_rate, missing, full_scale = _decode(
        path, start, duration=duration, max_duration=max_duration, channel=channel
    )
    mono = samples.mono if full_scale == 1 else samples.mono / np.float32(full_scale)
    if not np.isfinite(mono).all():
        raise AudioError(path, "not_finite", "the samples contain NaN or infinity; export the recording again")
    seconds = (span.first / native_rate, (span.first + span.n_frames) / native_rate)
    is_whole = span.is_last and not span.first
    check_signal(path, samples, seconds, channel=channel, is_whole=is_whole, is_crop=span.is_crop)
    rates = [native_rate, *_limit_rate(native_rate, sample_rate, max_bandwidth), sample_rate or native_rate]
    for rate, new_rate in pairwise(rates):
        if rate != new_rate:
            mono = _resample(path, mono, rate, new_rate=new_rate)
    if is_constant(mono):
        raise AudioError(path, "silent", "all samples are equal after resampling; the recording has no signal")
    waveform = torch.from_numpy(np.ascontiguousarray(mono))
    return Recording(waveform, native_rate, missing, full_scale=full_scale, channels=samples.channels)


def _limit_rate(native_rate: int, sample_rate: int | None, max_bandwidth: float | None) -> list[int]:
    """Return the rate (Hz) that limits the bandwidth on the way from one rate to the other, if one is needed."""
    if max_bandwidth is None or 2 * max_bandwidth >= min(native_rate, sample_rate or native_rate):
        return []
    return [round(2 * max_bandwidth)]


def _resample(path: Path, samples: NDArray[np.float32], rate: int, *, new_rate: int) -> NDArray[np.float32]:
    check_size(path, len(samples) * new_rate / rate)
    resampled: NDArray[np.float32] = soxr.resample(samples, rate, new_rate)
    if not len(resampled):
        raise AudioError(path, "empty", f"the span is shorter than one sample at {new_rate} Hz")
    return resampled


def span_seconds(
    path: str | os.PathLike[str],
    start: float = 0.0,
    duration: float | None = None,
    *,
    channel: int | None = None,
    with_counting: bool = False,
) -> float:
    """Return the length (seconds) that `read_audio` would read from a file.

    Only the header is read, except for files that PyAV decodes: their packets are counted, and if their lengths differ,
    decoded. The length of a file is remembered while its size and its modification time stay the same.

    Parameters
    ----------
    path : path-like
        The file.
    start : float
        Start of the span (seconds).
    duration : float, optional
        Length of the span (seconds); None is to the end of the file.
    channel : int, optional
        Number of the channel that would be read, from 0, which the file must have.
    with_counting : bool
        Whether to decode a file whose header gives no length, instead of refusing it.

    Raises
    ------
    AudioError
        The file is missing, empty, cut off (as far as the header shows it), not audio or unreadable; its header gives
        no length; the span is outside the file; or the file does not have the channel.
    """
    path = Path(path)
    with open_sound(path) as file:
        if file.frames > MAX_FRAMES and not with_counting:
            raise AudioError(
                path,
                "damaged",
                "the header of this FLAC file gives no length, because the file was written into a pipe; write it "
                "again (flac -d, flac)",
            )
        check_channel(path, file, channel)
        span, _ = _find_span(path, file, start, duration=duration, max_duration=None)
        return float(span.n_frames / file.samplerate)


def read_window(
    path: str | os.PathLike[str],
    sample_rate: int,
    first: int,
    *,
    count: int,
    start: float,
    duration: float,
    max_bandwidth: float | None = None,
    channel: int | None = None,
) -> Recording:
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
    channel : int, optional
        Number of the channel that is read, from 0; None is the mean of all.

    Returns
    -------
    Recording
        Its waveform has at most `count` samples.

    Raises
    ------
    AudioError
        The same faults as in `read_audio`; "silent" if the samples of the window are all equal.
    """
    path = Path(path)
    with open_sound(path) as file:
        native_rate = file.samplerate
    limit = _limit_rate(native_rate, sample_rate, max_bandwidth)
    grid = math.gcd(native_rate, sample_rate, *limit)
    margin = WINDOW_MARGIN + sum(LIMIT_MARGIN / rate for rate in limit)
    begin = max(math.floor((first / sample_rate - margin) * grid), 0)
    end = min((first + count) / sample_rate + margin, duration)
    around = read_recording(
        path,
        sample_rate,
        start + begin / grid,
        duration=max(end - begin / grid, 1 / grid),
        max_bandwidth=max_bandwidth,
        channel=channel,
    )
    skipped = first - begin * sample_rate // grid
    window = around.waveform[skipped : skipped + count]
    if is_constant(window.numpy()):
        raise AudioError(path, "silent", "all samples are equal; the window has no signal")
    return around._replace(waveform=window)


def _decode(
    path: Path, start: float, *, duration: float | None, max_duration: float | None, channel: int | None
) -> tuple[Samples, Span, int, float, float]:
    """Return the samples of the span, where it is, the file's own rate (Hz), the length that is missing (s), its scale.

    The scale is the file's full scale, which the samples are not yet divided by.
    """
    with open_sound(path) as file:
        check_channel(path, file, channel)
        rate = file.samplerate
        span, missing = _find_span(path, file, start, duration=duration, max_duration=max_duration)
        samples = read_samples(path, file, span.first, count=span.n_frames, channel=channel)
        subtype = file.subtype
    n_read = len(samples.mono)
    missing = max(missing, (span.n_frames - n_read) / rate)
    if not n_read or _is_cut_off(missing, (span.first + n_read) / rate):
        raise _truncated_error(path, (span.first + n_read) / rate)
    scale = full_scale_of_samples(path, samples.peak, subtype=subtype, is_whole=span.is_last and not span.first)
    return samples, span, rate, missing, scale


def _find_span(
    path: Path, file: SoundFile, start: float, *, duration: float | None, max_duration: float | None
) -> tuple[Span, float]:
    """Return where a span is in an open file, and the length (seconds) that the end of the file lacks, if it is read.

    If the header gives no length, the frames are counted.
    """
    rate, end = file.samplerate, frames_of(path, file)
    if end > MAX_FRAMES:
        ends = [start + length for length in (duration, max_duration) if length is not None]
        end = count_frames(path, (min(ends, default=math.inf) + SPAN_TOLERANCE) * rate)
    span = find_span(path, rate, end, start=start, duration=duration, max_duration=max_duration)
    if span.first + span.n_frames > file.frames:
        raise _unknown_length_error(path, file.frames / rate, end / rate)
    return span, _missing(path, file) if span.is_last else 0.0


def _missing(path: Path, file: SoundFile) -> float:
    """Return the length (seconds) that the end of an open file lacks; refuse a file that lacks more than a little."""
    missing = missing_seconds(path, file)
    if _is_cut_off(missing, file.frames / file.samplerate):
        raise _truncated_error(path, file.frames / file.samplerate)
    return missing


def _is_cut_off(missing: float, end: float) -> bool:
    """Return whether a file that ends at `end` lacks too much of its end (both in seconds)."""
    return missing > min(SPAN_TOLERANCE, MAX_MISSING_SHARE * (end + missing))


def _unknown_length_error(path: Path, seconds: float, end: float) -> AudioError:
    return AudioError(
        path,
        "damaged",
        f"this MP3 file has no header with its length, so that libsndfile reads only {seconds:.2f} of its {end:.2f} s; "
        "add the header: ffmpeg -i x.mp3 -c copy y.mp3",
    )


def _truncated_error(path: Path, seconds: float) -> AudioError:
    return AudioError(path, "truncated", f"the file is cut off or damaged after {seconds:.2f} s; copy it again")
