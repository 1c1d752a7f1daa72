"""Refuse recordings without a signal."""

from pathlib import Path

import numpy as np

from audio.audio_error import AudioError
from audio.sound_file import Samples

# Channels cancel if the largest sample of their mean is below this share of what the loudest channel alone would give.
CANCELLED_SHARE = 0.01


def check_signal(path: Path, samples: Samples, seconds: tuple[float, float], *, is_whole: bool, is_crop: bool) -> None:
    """Refuse samples that are all zero, and channels that cancel each other.

    Parameters
    ----------
    path : Path
    samples : Samples
        Finite samples.
    seconds : (float, float)
        Where the samples begin and end in the file (seconds).
    is_whole, is_crop : bool
        Whether the samples are the whole file, and whether a maximum duration was the reason to read no more.

    Raises
    ------
    AudioError
        The fault is ``silent``.
    """
    if (
        samples.n_channels > 1
        and samples.peak
        and np.abs(samples.mono).max() < CANCELLED_SHARE * samples.peak / samples.n_channels
    ):
        raise AudioError(
            path,
            "silent",
            f"the {samples.n_channels} channels have a signal, but cancel each other in their mean, because one is "
            "inverted; keep one channel: ffmpeg -i x.wav -af 'pan=mono|c0=c0' y.wav",
        )
    if samples.mono.any():
        return
    if is_whole:
        raise AudioError(path, "silent", "all samples are zero; the recording has no signal")
    begin, end = seconds
    part = f"from {begin:g} s to {end:g} s" if begin or not is_crop else f"of the first {end:g} s"
    advice = "this part has no signal"
    if is_crop:
        advice = (
            "no more of the recording was read: give a part with speech (--start, or start in a manifest), a longer "
            "--max_duration, or --window, which reads all of it; or cut off the silence"
        )
    raise AudioError(path, "silent", f"all samples {part} are zero; {advice}")
