"""Open sound files, check their headers, and decode parts of them."""

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from audio.audio_error import AudioError
from audio.channel_statistics import MEASURED_SECONDS, ChannelStatistics
from audio.conversion import conversion_advice, unknown_format_advice
from audio.mp3_frames import count_mp3_samples
from audio.samples import KeptSamples, Samples
from audio.track import UnknownContainerError
from audio.track_file import TrackFile

# Sampling rates of recordings (Hz). A header with another rate is damaged.
MIN_RATE, MAX_RATE = 1_000, 768_000
# Maximum number of frames; libsndfile returns about twice as many for an unknown length.
MAX_FRAMES = 2**62
# A file may give this number of samples for each of its bytes, or `FREE_SAMPLES`. FLAC makes at most 350 of silence.
SAMPLES_PER_BYTE, FREE_SAMPLES = 1_000, 2**24
# Memory is taken for this number of frames for each byte of a file, and for more only when they are decoded.
USUAL_FRAMES_PER_BYTE = 16
# Number of samples, of all channels together, that are decoded at a time.
BLOCK_SAMPLES = 1 << 20
# libsndfile's lossy decoders need earlier audio before their samples are those of decoding from the start (seconds).
LEAD_IN = {"MPEG_LAYER_I": 1.0, "MPEG_LAYER_II": 1.0, "MPEG_LAYER_III": 1.0, "OPUS": 10.0}
# libsndfile reports that it can seek in these, but fails.
UNSEEKABLE = ("DWVW_12", "DWVW_16", "DWVW_24", "DWVW_N")
# Files without seeking are kept in memory while spans of them are read: each up to this number of samples, of all
# channels together (128 MiB), and in each process up to this number of bytes.
MAX_KEPT_SAMPLES, MAX_KEPT_BYTES = 2**25, 2**28
# Encodings whose decoded samples are between -1 and 1; those of lossy encodings go a little beyond.
BOUNDED_SUBTYPES = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32")
# Codes of sf_error().
FORMAT_NOT_RECOGNISED = 1
ENCODING_UNKNOWN = (4, 18, 64)


class SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read without seeking, except by `seek`.

    soundfile seeks after each read in a seekable file. That fails in a FLAC file without a length, and restarts the
    decoder of an MP3 file.
    """

    def seekable(self) -> bool:
        return False

    @property
    def can_seek(self) -> bool:
        """Whether `seek` works."""
        return super().seekable() and self.subtype not in UNSEEKABLE and self.frames <= MAX_FRAMES


SoundFile = SequentialFile | TrackFile


@contextmanager
def open_sound(path: Path) -> Iterator[SoundFile]:
    """Open a sound file with libsndfile, or with PyAV if libsndfile does not know it; check its header.

    libsndfile is given a file descriptor. Given a name, it trusts some suffixes (.raw, .au, .gsm) more than the
    contents, and returns noise. On Windows, where there are several kinds of descriptors, it is given the name.

    Raises
    ------
    AudioError
        The file is missing, empty, not audio or unreadable, or its header is damaged.
    """
    try:
        with _open(path) as raw, _open_format(path, raw) as file:
            if not MIN_RATE <= file.samplerate <= MAX_RATE:
                raise AudioError(
                    path,
                    "damaged",
                    f"the header gives a sampling rate of {file.samplerate} Hz, expected {MIN_RATE} to {MAX_RATE} Hz; "
                    "the header is damaged; export the recording again",
                )
            if file.frames <= MAX_FRAMES:
                check_size(path, file.frames)
            yield file
    except soundfile.LibsndfileError as error:
        raise _libsndfile_error(path, error) from error


def check_size(path: Path, n_samples: float) -> None:
    """Refuse to make more samples from a file than its bytes can hold, so that a small file takes little memory.

    Raises
    ------
    AudioError
        There would be more than `SAMPLES_PER_BYTE` samples for each byte, and more than `FREE_SAMPLES`.
    """
    if n_samples <= FREE_SAMPLES:
        return
    size = os.stat(path).st_size
    if n_samples > SAMPLES_PER_BYTE * size:
        raise AudioError(
            path,
            "damaged",
            f"its {size:,} bytes would become {n_samples:,.0f} samples; the header is damaged, or the recording is "
            "silent; export it again",
        )


def frames_of(path: Path, file: SoundFile) -> int:
    """Return the number of frames of an open file; more than `MAX_FRAMES` if only decoding it shows their number.

    libsndfile can read no more than `file.frames`, which is a guess for MP3 files without a header with their length.
    """
    counted = count_mp3_samples(path) if file.format == "MP3" else None
    return file.frames if counted is None else counted


def count_frames(path: Path, max_frames: float) -> int:
    """Count the frames of a file whose header does not give their number, up to a maximum, by decoding them."""
    n_frames = 0
    with open_sound(path) as file:
        for block in blocks_of(file, MAX_FRAMES):
            n_frames += len(block)
            check_size(path, n_frames)
            if n_frames >= max_frames:
                break
    return n_frames


def check_channel(path: Path, file: SoundFile, channel: int | None) -> None:
    """Refuse a channel that an open file does not have; None stands for the mean of all.

    Raises
    ------
    AudioError
        The fault is ``no_channel``.
    """
    if channel is None or channel < file.channels:
        return
    found, advice = f"{file.channels} channels, 0 to {file.channels - 1}", "one of these"
    if file.channels == 1:
        found, advice = "one channel, which is 0", "0"
    raise AudioError(
        path,
        "no_channel",
        f"there is no channel {channel}: channels are numbered from 0, and the file has {found}; give {advice}, or "
        "the mean of all",
    )


def read_samples(path: Path, file: SoundFile, first: int, *, count: int, channel: int | None = None) -> Samples:
    """Decode frames of an open file; fewer if it ends before.

    The samples are those of decoding the whole file and slicing (in MP3 files up to rounding): decoders that cannot
    seek, or are inexact after it, begin earlier, and the frames before the first are dropped.

    Parameters
    ----------
    path : Path
    file : SoundFile
        An open file, of which nothing was read.
    first, count : int
        First frame and number of frames.
    channel : int, optional
        Number of the channel, from 0; None is the mean of all.
    """
    if first and not file.can_seek and file.frames * file.channels <= MAX_KEPT_SAMPLES:
        blocks = iter([_kept.of(path)[first : first + count]])
    else:
        lead_in = 0.0 if isinstance(file, TrackFile) else LEAD_IN.get(file.subtype, 0.0)
        begin = max(first - round(lead_in * file.samplerate), 0) if file.can_seek else 0
        if begin:
            file.seek(begin)
        for _ in blocks_of(file, first - begin):
            pass
        blocks = blocks_of(file, count)
    n_averaged = file.channels if channel is None else 1
    needs_peak = n_averaged > 1 or file.subtype not in BOUNDED_SUBTYPES
    # A damaged header can claim any number of frames.
    mono, n_read = np.empty(min(count, USUAL_FRAMES_PER_BYTE * os.stat(path).st_size), np.float32), 0
    peak, channels, n_measured = 0.0 if needs_peak else 1.0, None, round(MEASURED_SECONDS * file.samplerate)
    for block in blocks:
        if n_read + len(block) > len(mono):
            mono = np.concatenate([mono[:n_read], np.empty(n_read + len(block), np.float32)])
        if needs_peak:
            peak = max(peak, peak_of(block))
        part = mono[n_read : n_read + len(block)]
        if n_averaged == 1:
            part[:] = block[:, channel or 0]
        else:
            if n_read < n_measured:
                measured = ChannelStatistics.measure(block[: n_measured - n_read])
                channels = measured if channels is None else channels.joined(measured)
            with np.errstate(invalid="ignore"):  # the mean of infinities of both signs
                part[:] = block.mean(axis=1, dtype=np.float64)
        n_read += len(block)
    return Samples(mono[:n_read], peak, n_averaged, channels=channels)


def _read_whole(path: Path) -> NDArray[np.float32]:
    """Decode a whole file (frames, channels)."""
    with open_sound(path) as file:
        samples: NDArray[np.float32] = file.read(file.frames, dtype="float32", always_2d=True)
        return samples


# Without this, each span of a recording would be decoded from the beginning of the file. Spans of several files are
# read in turn, for example the longest first.
_kept = KeptSamples(_read_whole, MAX_KEPT_BYTES)


def peak_of(samples: NDArray[np.float32]) -> float:
    """Return the largest absolute value of samples, without NaN and infinity, which other checks report."""
    peak = _largest(samples)
    return peak if math.isfinite(peak) else _largest(samples[np.isfinite(samples)])


def _largest(samples: NDArray[np.float32]) -> float:
    """Return the largest absolute value; NaN if a sample is NaN. Faster than the absolute values of all samples."""
    return float(np.maximum(samples.max(initial=0.0), -samples.min(initial=0.0)))


def blocks_of(file: SoundFile, count: int) -> Iterator[NDArray[np.float32]]:
    """Yield the next frames of a file, up to a number of them, in blocks (frames, channels)."""
    size = max(BLOCK_SAMPLES // file.channels, 1)
    while count > 0 and len(block := file.read(min(size, count), dtype="float32", always_2d=True)):
        count -= len(block)
        yield block


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


def _open_format(path: Path, raw: BinaryIO) -> SoundFile:
    """Open a sound file with libsndfile, or else with PyAV; `raw` is the open file."""
    try:
        return SequentialFile(str(path)) if os.name == "nt" else SequentialFile(raw.fileno(), closefd=False)
    except soundfile.LibsndfileError as error:
        if error.code not in (FORMAT_NOT_RECOGNISED, *ENCODING_UNKNOWN):
            raise
        return _open_track(path, error)


def _open_track(path: Path, error: soundfile.LibsndfileError) -> TrackFile:
    """Open a file that libsndfile does not know; if PyAV does not know it either, the error is libsndfile's."""
    try:
        return TrackFile(path)
    except UnknownContainerError:
        raise error from None


def _libsndfile_error(path: Path, error: soundfile.LibsndfileError) -> AudioError:
    detail = error.error_string.rstrip(". ")
    advice = unknown_format_advice(path)
    if error.code == FORMAT_NOT_RECOGNISED:
        return AudioError(path, "not_audio", f"this is not audio that libsndfile or PyAV decodes; {advice}")
    if error.code in ENCODING_UNKNOWN:
        return AudioError(path, "not_audio", f"libsndfile and PyAV cannot decode this encoding ({detail}); {advice}")
    if "SF_INFO" in detail:
        detail = "the header gives no valid sampling rate, number of channels or length"
    reason = f"the file is cut off or damaged (libsndfile: {detail}); copy it again, or {conversion_advice(path)}"
    return AudioError(path, "truncated", reason)
