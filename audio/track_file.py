"""Read the audio track of a container as a sound file is read."""

import math
import os
from collections import deque
from collections.abc import Generator
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio.track import CONTAINER_NAMES, open_track
from audio.track_layout import TrackLayout, layout_of

# Number of blocks that are kept in each process, because windows of a recording are read in order. A block of two
# channels at 48 kHz has 8 MB.
KEPT_BLOCKS = 8

Frames = NDArray[np.float32]


class TrackFile:
    """The audio track of a container, with what `SequentialFile` has.

    The AAC decoder makes noise (perceptual noise substitution) whose samples depend on all packets that it has decoded.
    For the same samples wherever reading begins, a track is decoded in blocks of a fixed number of packets, each with a
    decoder of its own. Tracks whose packets differ in length, such as those of WMA, are decoded from the beginning, and
    have no `seek`.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    samplerate, channels, frames : int
        Sampling rate (Hz), number of channels, and number of frames.
    format, subtype : str
        Container and encoding, such as ``MP4`` and ``AAC``.
    missing : float
        Length that the container declares, but that the file lacks (seconds); infinity if it is not known.

    Raises
    ------
    AudioError
        The same faults as in `layout_of`.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._layout = path, layout_of(path)
        layout = self._layout
        self.samplerate, self.channels, self.frames = layout.rate, layout.channels, layout.n_frames
        self.format = CONTAINER_NAMES.get(layout.container, layout.container.upper())
        self.subtype, self.missing = layout.codec.upper(), layout.missing
        self._position, self._pending = 0, np.empty((0, layout.channels), np.float32)
        self._decoded: Generator[Frames] | None
        self._decoded = _decode_blocks(path, layout, 0) if layout.per_packet else _decode_whole(path)

    def __enter__(self) -> "TrackFile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._decoded is not None:
            self._decoded.close()

    @property
    def can_seek(self) -> bool:
        """Whether `seek` works."""
        return bool(self._layout.per_packet)

    def seek(self, first: int) -> None:
        """Continue with a frame, by its number; from now on, blocks are kept."""
        self.__exit__()
        self._position, self._decoded, self._pending = first, None, self._pending[:0]

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> Frames:
        """Return the next frames (frames, channels), float32; fewer at the end, or where the file is damaged."""
        wanted = max(min(frames, self.frames - self._position), 0)
        parts, n_read = [self._pending], len(self._pending)
        while n_read < wanted and (part := self._decode(self._position + n_read)) is not None:
            parts.append(part)
            n_read += len(part)
        joined = np.concatenate(parts) if len(parts) > 1 else parts[0]
        read, self._pending = joined[:wanted], joined[wanted:]
        self._position += len(read)
        return read

    def _decode(self, first: int) -> Frames | None:
        """Return frames from `first` on, which is the next one that was not decoded; None if there are no more."""
        if self._decoded is not None:
            return next(self._decoded, None)
        number, skipped = _place_of(self._layout, first)
        status = os.stat(self._path)
        block = _kept_block(self._path, status.st_size, status.st_mtime_ns, number=number)
        return block[skipped:] if skipped < len(block) else None


def _place_of(layout: TrackLayout, position: int) -> tuple[int, int]:
    """Return the number of the block that has a frame, and the number of frames before it in the block."""
    number, skipped = divmod(position + layout.skipped, layout.block_frames)
    return number, skipped if number else position


@lru_cache(maxsize=KEPT_BLOCKS)
def _kept_block(path: Path, size: int, mtime_ns: int, *, number: int) -> Frames:
    """Return a block of a file (frames, channels)."""
    layout = layout_of(path)
    no_frames = np.empty((0, layout.channels), np.float32)
    return np.concatenate([no_frames, *_decode_blocks(path, layout, number, n_blocks=1)])


def _decode_whole(path: Path) -> Generator[Frames]:
    """Yield the frames of a file (frames, channels), decoded by one decoder."""
    with open_track(path) as track:
        yield from track.samples()


def _decode_blocks(path: Path, layout: TrackLayout, block: int, *, n_blocks: float = math.inf) -> Generator[Frames]:
    """Yield the frames of a file (frames, channels) from a block on, up to a number of blocks."""
    begin, n_before = layout.first_packet(block), block * layout.block_packets - layout.first_packet(block)
    stamp = layout.time_stamps[block] if begin and layout.time_stamps else None
    with open_track(path) as source:
        packets = source.packets(stamp) if stamp is not None else islice(source.packets(), begin, None)
        before = deque(islice(packets, n_before), maxlen=layout.block_packets)
        if stamp is not None and (not before or before[0].pts != stamp):  # the index is wrong
            yield from _decode_blocks(path, layout._replace(time_stamps=()), block, n_blocks=n_blocks)
            return
        while n_blocks > 0:
            if block:
                source.restart()
            for packet in before:
                source.decode(packet)
            n_decoded = 0
            for packet in islice(packets, layout.block_packets):
                samples = source.decode(packet)
                if samples is None:
                    return
                before.append(packet)
                n_decoded += 1
                yield samples
            if n_decoded < layout.block_packets:
                return
            block, n_blocks = block + 1, n_blocks - 1
            before = deque(before, maxlen=block * layout.block_packets - layout.first_packet(block))
