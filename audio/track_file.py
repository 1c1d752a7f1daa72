"""Read the audio track of a container as a sound file is read."""

import os
from collections import deque
from collections.abc import Generator
from contextlib import nullcontext
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio.track import CONTAINER_NAMES, open_track
from audio.track_layout import TrackLayout, layout_of

# Number of samples, of all channels together, of a block; blocks are decoded independently of each other.
BLOCK_SAMPLES = 1 << 21
# A decoder begins this long before a block (seconds).
LEAD_IN = 1.0
# Number of blocks that are kept in each process (8 MiB each), because windows of a recording are read in order.
KEPT_BLOCKS = 8

Frames = NDArray[np.float32]


class TrackFile:
    """The audio track of a container, with what `SequentialFile` has.

    The AAC decoder makes noise (perceptual noise substitution) whose samples depend on all packets that it has decoded.
    For the same samples wherever reading begins, a track is decoded in blocks of a fixed number of packets, each with a
    decoder of its own. Tracks whose packets differ in length, such as those of WMA, are decoded from the beginning.

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

    can_seek = True

    def __init__(self, path: Path) -> None:
        self._path, self._layout = path, layout_of(path)
        layout = self._layout
        self.samplerate, self.channels, self.frames = layout.rate, layout.channels, layout.n_frames
        self.format = CONTAINER_NAMES.get(layout.container, layout.container.upper())
        self.subtype, self.missing = layout.codec.upper(), layout.missing
        self._position, self._pending = 0, np.empty((0, layout.channels), np.float32)
        self._decoded: Generator[Frames] | None = _decode_from(path, layout, 0)

    def __enter__(self) -> "TrackFile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._decoded is not None:
            self._decoded.close()

    def seek(self, first: int) -> None:
        """Continue with a frame, by its number; from now on, blocks are kept."""
        self.__exit__()
        self._position, self._decoded = first, None

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> Frames:
        """Return the next frames (frames, channels), float32; fewer at the end, or where the file is damaged."""
        parts, n_missing = [self._pending], min(frames, self.frames - self._position)
        n_missing -= len(self._pending)
        while n_missing > 0:
            part = self._next()
            if part is None:
                break
            parts.append(part)
            n_missing -= len(part)
        joined = np.concatenate(parts) if len(parts) > 1 else parts[0]
        n_read = min(max(frames, 0), self.frames - self._position, len(joined))
        self._pending = joined[n_read:]
        self._position += n_read
        return joined[:n_read]

    def _next(self) -> Frames | None:
        """Return the frames after those that are pending; None if there are none."""
        if self._decoded is not None:
            return next(self._decoded, None)
        number, skipped = _place_of(self._layout, self._position + len(self._pending))
        status = os.stat(self._path)
        block = _kept_block(self._path, status.st_size, status.st_mtime_ns, number=number)
        return block[skipped:] if skipped < len(block) else None


def _packets_of_block(layout: TrackLayout) -> int:
    return max(BLOCK_SAMPLES // (layout.channels * layout.per_packet), 1)


def _place_of(layout: TrackLayout, position: int) -> tuple[int, int]:
    """Return the number of the block that has a frame, and the number of frames before it in the block."""
    size = _packets_of_block(layout) * layout.per_packet if layout.per_packet else BLOCK_SAMPLES // layout.channels
    number, skipped = divmod(position + layout.skipped, size)
    return number, skipped if number else position


@lru_cache(maxsize=KEPT_BLOCKS)
def _kept_block(path: Path, size: int, mtime_ns: int, *, number: int) -> Frames:
    """Return a block of a file (frames, channels)."""
    layout = layout_of(path)
    if layout.per_packet:
        decoded = _decode_from(path, layout, number, n_blocks=1)
        return np.concatenate([np.empty((0, layout.channels), np.float32), *decoded])
    size = BLOCK_SAMPLES // layout.channels
    first, parts, n_read = number * size, [np.empty((0, layout.channels), np.float32)], 0
    for part in _decode_from(path, layout, 0):
        begin, n_read = n_read, n_read + len(part)
        if n_read > first:
            parts.append(part[max(first - begin, 0) :])
        if n_read >= first + size:
            break
    return np.concatenate(parts)[:size]


def _decode_from(path: Path, layout: TrackLayout, block: int, *, n_blocks: int | None = None) -> Generator[Frames]:
    """Yield the frames of a file (frames, channels) from a block on, up to a number of blocks."""
    if not layout.per_packet:
        with open_track(path) as track:
            yield from track.samples()
        return
    n_packets, n_before = _packets_of_block(layout), -(-round(LEAD_IN * layout.rate) // layout.per_packet)
    first = block * n_packets
    with open_track(path) as source:
        packets = source.packets()
        before = deque(islice(islice(packets, first), max(first - n_before, 0), None), maxlen=n_before)
        while n_blocks is None or n_blocks > 0:
            n_read = 0
            with open_track(path) if before else nullcontext(source) as track:
                for packet in before:
                    track.decode(packet)
                for packet in islice(packets, n_packets):
                    samples = track.decode(packet)
                    if samples is None:
                        return
                    before.append(packet)
                    n_read += 1
                    yield samples
            if n_read < n_packets:
                return
            n_blocks = None if n_blocks is None else n_blocks - 1
