"""Measure the envelope of a recording, for a picture of its waveform, in one pass and in little memory."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio.span_blocks import mean_of_channels, open_span


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
        float32; full scale is 1. Parts of digital silence, parts that are shorter than a sample, and parts that cannot
        be decoded are 0, and so are samples that are NaN or infinity.

    Raises
    ------
    AudioError
        The file cannot be opened, lacks its end, or does not have the channel.
    """
    lowest, highest = np.full(n_points, np.inf, np.float32), np.full(n_points, -np.inf, np.float32)
    with open_span(Path(path), channel=channel) as span:
        bounds, position = np.linspace(0, span.n_frames, n_points + 1).astype(int), 0
        for block in span.blocks:
            mono = mean_of_channels(block)
            first = int(np.searchsorted(bounds, position, "right")) - 1
            last = int(np.searchsorted(bounds, position + len(mono)))
            for part in range(first, last):
                samples = mono[max(bounds[part] - position, 0) : bounds[part + 1] - position]
                lowest[part] = samples.min(initial=lowest[part])
                highest[part] = samples.max(initial=highest[part])
            position += len(mono)
    envelope = np.stack([lowest, highest], axis=1)
    return np.where(np.isfinite(envelope), envelope, np.float32(0))
