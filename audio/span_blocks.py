"""Decode a span of a file in blocks, to measure it in one pass and in little memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audio.full_scale import full_scale_of
from audio.read import span_seconds
from audio.sound_file import blocks_of, open_sound

Block = NDArray[np.float32]


class SpanBlocks(NamedTuple):
    """A span of an open file.

    Attributes
    ----------
    n_frames : int
        Number of frames of the span.
    blocks : iterator of ndarray (frames, channels)
        The span in order: all channels, or one; full scale is 1. Samples may be NaN or infinity.
    """

    n_frames: int
    blocks: Iterator[Block]


@contextmanager
def open_span(
    path: Path, start: float = 0.0, duration: float | None = None, *, channel: int | None = None
) -> Iterator[SpanBlocks]:
    """Open a span of a file; `channel` is the only channel to return, or None for all.

    Raises
    ------
    AudioError
        The file cannot be opened, lacks its end, or does not have the channel; or the span is outside the file.
    """
    seconds, full_scale = span_seconds(path, start, duration, channel=channel), np.float32(full_scale_of(path))
    with open_sound(path) as file:
        n_frames = round(seconds * file.samplerate)

        def blocks() -> Iterator[Block]:
            for _ in blocks_of(file, round(start * file.samplerate)):  # not every format can seek
                pass
            for block in blocks_of(file, n_frames):
                chosen = block if channel is None else block[:, channel : channel + 1]
                yield chosen if full_scale == 1 else chosen / full_scale

        yield SpanBlocks(n_frames, blocks())


def mean_of_channels(block: Block) -> Block:
    """Return the mean of the channels (frames,) of a block; NaN and infinity become 0."""
    mean: Block = np.nan_to_num(block.mean(axis=1), posinf=0.0, neginf=0.0)
    return mean
