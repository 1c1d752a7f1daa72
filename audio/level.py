"""Measure how loud a recording is, and how much of it is clipped, in one pass and in little memory."""

import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audio.clipping import ClippingCounter
from audio.span_blocks import mean_of_channels, open_span


class Level(NamedTuple):
    """Level of a recording.

    Attributes
    ----------
    peak : float
        Largest absolute value of the samples, relative to full scale (dBFS); minus infinity for digital silence.
        Lossy formats go beyond 0.
    rms : float
        Root mean square of the samples, relative to full scale (dBFS): -3 for a sine at full scale.
    clipped : float
        Share of the samples that are in clipped peaks; of all channels, the highest. Only peaks near the extreme level
        of the recording count, if that is at least -6 dBFS.
    """

    peak: float
    rms: float
    clipped: float


def measure_level(
    path: str | os.PathLike[str],
    start: float = 0.0,
    duration: float | None = None,
    *,
    channel: int | None = None,
) -> Level:
    """Measure the peak, the root mean square and the share of clipped samples of a recording.

    A peak is clipped if it is flat, for its slopes: so a sine at full scale is not clipped, and a clipped recording is
    found in lossy formats too, which put ripples on its flat peaks. Recordings that were clipped and then made quieter
    by more than 6 dB are not found.

    Parameters
    ----------
    path : path-like
        Audio file.
    start : float
        Start of the span that is measured (seconds).
    duration : float, optional
        Length of the span (seconds); None is to the end of the file.
    channel : int, optional
        Number of the channel, from 0; None is the mean of all.

    Returns
    -------
    Level
        Samples that are NaN or infinity count as 0.

    Raises
    ------
    AudioError
        The file cannot be opened, lacks its end, or does not have the channel; or the span is outside the file.
    """
    peak, power, n_frames, counters = 0.0, 0.0, 0, list[ClippingCounter]()
    with open_span(Path(path), start, duration, channel=channel) as span:
        for block in span.blocks:
            mono = mean_of_channels(block).astype(np.float64)
            peak, power, n_frames = (
                max(peak, float(np.abs(mono).max())),
                power + float(mono @ mono),
                n_frames + len(mono),
            )
            counters = counters or [ClippingCounter() for _ in range(block.shape[1])]
            for counter, samples in zip(counters, np.nan_to_num(block, posinf=0.0, neginf=0.0).T, strict=True):
                counter.add(samples)
    n_clipped = max((counter.n_clipped for counter in counters), default=0)
    n_frames = max(n_frames, 1)
    return Level(_decibels(peak), _decibels(math.sqrt(power / n_frames)), n_clipped / n_frames)


def _decibels(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude else -math.inf
