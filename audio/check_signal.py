"""Refuse recordings without a signal."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio.audio_error import AudioError
from audio.samples import Samples

# Channels cancel if the largest sample of their mean is below this share of what the loudest channel alone would give.
CANCELLED_SHARE = 0.01
# Samples that differ by at most this share of their peak are equal; averaging channels and resampling round them.
ROUNDING = 1e-6


def is_constant(samples: NDArray[np.float32]) -> bool:
    """Return whether samples are all zero, or several and all equal except for rounding: then they are no signal."""
    lowest, highest = float(samples.min()), float(samples.max())
    if len(samples) == 1:
        return highest == 0
    return highest - lowest <= ROUNDING * max(highest, -lowest)


def check_signal(
    path: Path, samples: Samples, seconds: tuple[float, float], *, channel: int | None, is_whole: bool, is_crop: bool
) -> None:
    """Refuse samples that are all zero or all equal, and channels that cancel each other.

    Parameters
    ----------
    path : Path
    samples : Samples
        Finite samples, before resampling, which makes ripples at the ends of a constant.
    seconds : (float, float)
        Where the samples begin and end in the file (seconds).
    channel : int or None
        The channel that was chosen; None for the mean of all.
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
            "inverted; give one channel (--channel, or channel in a manifest), or keep one: ffmpeg -i x.wav -af "
            "'pan=mono|c0=c0' y.wav",
        )
    if not is_constant(samples.mono):
        return
    kind, whole, of_channel = "equal" if samples.mono.any() else "zero", "the recording", ""
    if channel is not None:
        whole, of_channel = "this channel", f" of channel {channel}"
    if is_whole:
        raise AudioError(path, "silent", f"all samples{of_channel} are {kind}; {whole} has no signal")
    begin, end = seconds
    part = f"from {begin:g} s to {end:g} s" if begin or not is_crop else f"of the first {end:g} s"
    advice = "this part has no signal"
    if is_crop:
        advice = (
            "no more of the recording was read: give a part with speech (--start, or start in a manifest), a longer "
            "--max_duration, or --window, which reads all of it; or cut off the silence"
        )
    raise AudioError(path, "silent", f"all samples{of_channel} {part} are {kind}; {advice}")
