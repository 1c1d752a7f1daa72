"""Read the speech of a recording: its segments, one after the other."""

import os
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import torch

from audio.channel_statistics import ChannelStatistics
from audio.read import Recording, read_window

# Segments that are at most this far apart are read together, with the pause between them (seconds).
MAX_PAUSE = 1.0
# Part of a span: number of its first sample, and of the sample after its last.
Part = tuple[int, int]


class Speech(NamedTuple):
    """The segments of a span of a file in which somebody speaks.

    Attributes
    ----------
    segments : tuple of (float, float)
        Start and end of each (seconds from the start of the span), in order and without overlap; at least one.
    duration : float
        Length of the span (seconds).
    """

    segments: tuple[tuple[float, float], ...]
    duration: float

    def n_samples(self, sample_rate: int) -> int:
        """Return the number of samples of all segments together."""
        return sum(end - begin for begin, end in self.parts(sample_rate))

    def parts(self, sample_rate: int) -> list[Part]:
        """Return where the segments are, in samples of the span."""
        return [(round(begin * sample_rate), round(end * sample_rate)) for begin, end in self.segments]


def read_speech(
    path: str | os.PathLike[str],
    sample_rate: int,
    speech: Speech,
    *,
    start: float = 0.0,
    first: int = 0,
    count: int | None = None,
    max_bandwidth: float | None = None,
    channel: int | None = None,
) -> Recording:
    """Read the segments of a span with speech, or a window of them; equal to `read_audio` of the span and slicing.

    Parameters
    ----------
    path : path-like
        The file.
    sample_rate : int
        Sampling rate of the returned waveform (Hz).
    speech : Speech
        The segments.
    start : float
        Start of the span in the file (seconds).
    first, count : int
        First sample and number of samples of the window, in the segments one after the other; by default all of them.
    max_bandwidth, channel
        As in `read_audio`.

    Returns
    -------
    Recording
        Its waveform has the samples of the segments, without those between.

    Raises
    ------
    AudioError
        The same faults as in `read_window`.
    """
    length = speech.n_samples(sample_rate) - first
    parts = _window(speech.parts(sample_rate), first, length if count is None else min(count, length))
    read, waveforms = [], []
    for group in _groups(parts, round(MAX_PAUSE * sample_rate)):
        begin, end = group[0][0], group[-1][1]
        recording = read_window(
            path,
            sample_rate,
            begin,
            count=end - begin,
            start=start,
            duration=speech.duration,
            max_bandwidth=max_bandwidth,
            channel=channel,
        )
        read.append(recording)
        waveforms += [recording.waveform[one - begin : other - begin] for one, other in group]
    measured = [each.channels for each in read if each.channels is not None]
    return Recording(
        torch.cat(waveforms),
        read[0].file_rate,
        missing=max(each.missing for each in read),
        full_scale=max(each.full_scale for each in read),
        channels=reduce(ChannelStatistics.joined, measured) if measured else None,
    )


def _window(parts: Sequence[Part], first: int, count: int) -> Iterator[Part]:
    """Yield what a window of the parts, one after the other, has of each."""
    for begin, end in parts:
        if count > 0 and first < end - begin:
            taken = min(end - begin - first, count)
            yield begin + first, begin + first + taken
            count -= taken
        first = max(first - (end - begin), 0)


def _groups(parts: Iterator[Part], max_pause: int) -> Iterator[list[Part]]:
    """Yield parts that are close together as one group."""
    group: list[Part] = []
    for part in parts:
        if group and part[0] - group[-1][1] > max_pause:
            yield group
            group = []
        group.append(part)
    if group:
        yield group
