"""Measure the envelope of a recording, for a picture of its waveform, in little memory."""

import os
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from audio.audio_error import AudioError
from audio.read import read_audio, span_seconds

# Length of audio that is read at a time (seconds).
BLOCK_SECONDS = 60.0


def measure_envelope(path: str | os.PathLike[str], n_points: int, channel: int | None = None) -> NDArray[np.float32]:
    """Return the lowest and highest sample of each of some equal parts of a recording.

    Parameters
    ----------
    path : path-like
        Audio file.
    n_points : int
        Number of parts.
    channel : int, optional
        Number of the channel, from 0; None is the mean of all.

    Returns
    -------
    ndarray (n_points, 2)
        float32; full scale is 1. Parts of digital silence, and parts that are shorter than a sample, are 0.

    Raises
    ------
    AudioError
        The file cannot be read.
    """
    seconds = span_seconds(path, channel=channel)
    # Each block has whole parts.
    n_each = max(int(BLOCK_SECONDS * n_points / seconds), 1)
    envelope = np.zeros((n_points, 2), np.float32)
    for first in range(0, n_points, n_each):
        last = min(first + n_each, n_points)
        start, duration = first * seconds / n_points, (last - first) * seconds / n_points
        try:
            samples = read_audio(path, None, start, duration=duration, channel=channel).numpy()
        except AudioError as error:
            if error.fault in ("silent", "empty"):
                continue
            raise
        bounds = np.linspace(0, len(samples), last - first + 1).astype(int)
        for number, (begin, end) in enumerate(pairwise(bounds), start=first):
            if end > begin:
                envelope[number] = samples[begin:end].min(), samples[begin:end].max()
    return envelope
