"""Find the full scale of a file: the value that stands for the loudest sample that its format can hold."""

import os
from functools import lru_cache
from pathlib import Path

from audio.audio_error import AudioError
from audio.sound_file import BOUNDED_SUBTYPES, blocks_of, open_sound, peak_of

# Encodings whose samples can have any level.
FLOAT_SUBTYPES = ("FLOAT", "DOUBLE")
# Up to this peak, full scale is 1: mixing, filters and lossy formats go beyond 1, but not by 12 dB.
MAX_PEAK = 4.0
# Full scale of samples that were stored as numbers of 16 or 32 bits, with the lowest and highest peak that it explains.
# The highest is 6 dB above full scale. The lowest is so that a peak of 24-bit numbers, up to 2^23, is not taken for a
# quiet one of 32 bits, nor a click in a recording that was scaled to unit variance for a quiet one of 16 bits.
INTEGER_SCALES = ((2.0**15, 2.0**10, 2.0**16), (2.0**31, 2.0**24, 2.0**32))


def full_scale_of(path: str | os.PathLike[str]) -> float:
    """Return the full scale of a file, by which `read_audio` divides its samples.

    It is 1 for all files but some of floating-point numbers, which were written without dividing by 2^15 or 2^31. The
    peak of the whole file decides, whatever part of it is read. It is remembered while the size and the modification
    time of the file stay the same.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    float
        1, 2^15 or 2^31.

    Raises
    ------
    AudioError
        The file is missing, empty, not audio or unreadable; or its peak fits no scale.
    """
    path = Path(path)
    try:
        status = os.stat(path)
        size, mtime_ns = status.st_size, status.st_mtime_ns
    except (OSError, ValueError):  # opening the file raises the error that describes the fault
        size = mtime_ns = -1
    return scale_of_peak(path, _peak_of_file(path, size, mtime_ns))


@lru_cache(maxsize=1024)
def _peak_of_file(path: Path, size: int, mtime_ns: int) -> float:
    """Return the peak of a file of floating-point numbers, of any other file 1; cached by size and time."""
    with open_sound(path) as file:
        if file.subtype not in FLOAT_SUBTYPES:
            return 1.0
        return max(map(peak_of, blocks_of(file, file.frames)), default=0.0)


def full_scale_of_samples(path: Path, peak: float, *, subtype: str, is_whole: bool) -> float:
    """Return the full scale of a file, of which all samples or a part were decoded.

    Parameters
    ----------
    path : Path
    peak : float
        Largest absolute value of the samples.
    subtype : str
        Encoding of the file, as soundfile names it.
    is_whole : bool
        Whether the samples are all of the file.

    Raises
    ------
    AudioError
        No scale explains the peak.
    """
    if subtype in BOUNDED_SUBTYPES:
        return 1.0
    if subtype in FLOAT_SUBTYPES:
        return scale_of_peak(path, peak) if is_whole else full_scale_of(path)
    if peak > MAX_PEAK:
        raise unknown_scale(path, peak)
    return 1.0


def scale_of_peak(path: Path, peak: float) -> float:
    """Return the full scale that explains the peak of a file.

    Raises
    ------
    AudioError
        No scale explains it.
    """
    if peak <= MAX_PEAK:
        return 1.0
    for scale, lowest, highest in INTEGER_SCALES:
        if lowest <= peak <= highest:
            return scale
    raise unknown_scale(path, peak)


def unknown_scale(path: Path, peak: float) -> AudioError:
    """Return the error for a file with this peak."""
    return AudioError(
        path,
        "unknown_scale",
        f"its samples reach {peak:.6g}; expected at most 1, or the scale of 16-bit or 32-bit integers (32,768 or "
        "2,147,483,648); divide them by their full scale or, if it is not known, normalise the recording "
        "to a peak of 1, and write the file again",
    )
