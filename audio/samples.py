"""Decoded samples, and a store that keeps those of some files in memory."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audio.channel_statistics import ChannelStatistics


class Samples(NamedTuple):
    """Decoded samples.

    Attributes
    ----------
    mono : ndarray (frames,)
        One channel, or the mean of all, float32; NaN or infinity if a channel has one.
    peak : float
        Largest absolute value in all channels, without NaN and infinity; 1 where it is not needed: for one channel of
        an encoding between -1 and 1.
    n_channels : int
        Number of channels that `mono` is the mean of.
    channels : ChannelStatistics or None
        How similar these channels are; None for one channel.
    """

    mono: NDArray[np.float32]
    peak: float
    n_channels: int
    channels: ChannelStatistics | None = None


class _File:
    """A file that is kept: its samples once they are decoded, and a lock for decoding them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.samples: NDArray[np.float32] | None = None


class KeptSamples:
    """Samples of the files that were read last, up to a number of bytes; threads decode a file once.

    Parameters
    ----------
    decode : callable
        Decodes a whole file: (frames, channels), float32.
    max_bytes : int
        Samples of all files together (bytes); the file that was read last is kept in any case.
    """

    def __init__(self, decode: Callable[[Path], NDArray[np.float32]], max_bytes: int) -> None:
        self._decode, self._max_bytes = decode, max_bytes
        self._clear()
        if hasattr(os, "register_at_fork"):  # in the child, no thread would release a lock
            os.register_at_fork(after_in_child=self._clear)

    def _clear(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[tuple[Path, int, int], _File] = OrderedDict()

    def of(self, path: Path) -> NDArray[np.float32]:
        """Return the samples of a file (frames, channels), decoded again if its size or its time has changed."""
        status = os.stat(path)
        key = path, status.st_size, status.st_mtime_ns
        with self._lock:
            file = self._files.setdefault(key, _File())
            self._files.move_to_end(key)
        with file.lock:
            if file.samples is None:
                file.samples = self._decode(path)
            samples = file.samples
        with self._lock:
            self._remove_oldest()
        return samples

    def _remove_oldest(self) -> None:
        """Remove files that were not read for the longest time, until the others are small enough."""
        sizes = [0 if file.samples is None else file.samples.nbytes for file in self._files.values()]
        total = sum(sizes)
        for size in sizes[:-1]:
            if total <= self._max_bytes:
                break
            self._files.popitem(last=False)
            total -= size
