"""Count the samples of clipped peaks: peaks of a waveform that are flat because the level was too high."""

import numpy as np
from numpy.typing import NDArray

# A peak is the samples in a row above this share of the recording's extreme level, if there are at least `MIN_PEAK`.
PEAK_SHARE, MIN_PEAK = 0.9, 3
# Recordings with a lower extreme level (full scale is 1) are not clipped, as far as this can be seen.
MIN_LEVEL = 0.5
# The extreme level is at most full scale: lossy formats go beyond it where a recording was clipped.
MAX_LEVEL = 1.0
# A peak is flat if its samples are on average at most this share as high above the others as those of the parabola
# with the same slopes and length, ...
MAX_HEIGHT = 0.4
# ... and if its largest bend is this many times its mean bend. Those of a sine above `PEAK_SHARE` differ by a tenth.
# Both are needed: the first fails for peaks of few samples, the second for long ones, whose bends are only rounding.
MIN_BEND = 1.25
# A higher extreme level than that so far makes earlier peaks count no longer, if it is this many times as high.
HIGHER = 1.05


class ClippingCounter:
    """Count the samples of clipped peaks in one channel, block by block.

    Clipped peaks need not be equal numbers: lossy formats put ripples on them, and go beyond full scale. So a peak is
    clipped if it is flat, for its slopes. Peaks across the end of a block are not counted.
    """

    def __init__(self) -> None:
        self._levels, self._counts = [MIN_LEVEL, MIN_LEVEL], [0, 0]

    @property
    def n_clipped(self) -> int:
        """Number of samples so far."""
        return sum(self._counts)

    def add(self, samples: NDArray[np.float32]) -> None:
        """Add a block of samples (n,), finite; full scale is 1."""
        for side, upright in enumerate((samples, -samples)):
            level = min(float(upright.max(initial=0.0)), MAX_LEVEL)
            if level > HIGHER * self._levels[side]:
                self._counts[side] = 0
            self._levels[side] = max(level, self._levels[side])
            self._counts[side] += _count(upright, PEAK_SHARE * self._levels[side])


def _count(samples: NDArray[np.float32], threshold: float) -> int:
    """Return the number of samples in flat peaks above a threshold."""
    is_above = samples >= threshold
    changes = np.flatnonzero(is_above[1:] != is_above[:-1]) + 1
    if len(samples) and is_above[0]:
        changes = changes[1:]  # this peak began before the block
    # The first sample of each peak, and the sample after its last.
    first, last = changes[: len(changes) // 2 * 2].reshape(-1, 2).T
    is_long = last - first >= MIN_PEAK
    if not is_long.any():
        return 0
    first, last = first[is_long], last[is_long]
    return int((last - first)[_is_flat(samples.astype(np.float64), threshold, first=first, last=last)].sum())


def _is_flat(
    samples: NDArray[np.float64], threshold: float, *, first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which of the peaks (n,) are flat, given their first samples and those after the last."""
    length = last - first
    height = _sums(samples, first, last) / length - threshold
    slope = (samples[first] - samples[first - 1] + samples[last - 1] - samples[last]) / 2
    # The mean height of a parabola is two thirds of its highest, which is a quarter of its slope times its length.
    is_low = height < MAX_HEIGHT * slope * length / 6
    bends = np.abs(np.diff(samples, 2, prepend=0.0, append=0.0))  # at each sample, as if there were zeros around
    largest = np.maximum.reduceat(bends, np.stack([first, last], axis=1).reshape(-1))[::2]
    return np.asarray(is_low & (largest > MIN_BEND * _sums(bends, first, last) / length))


def _sums(values: NDArray[np.float64], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sums of values from each first to the one before the last."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(total[last] - total[first])
