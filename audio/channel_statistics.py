"""`ChannelStatistics`: how similar the channels of a recording are, measured while it is decoded."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Length of the beginning of a span that is measured (seconds).
MEASURED_SECONDS = 30.0
# One of this number of frames is measured: the correlation needs no more. A prime, so that no usual tone has this
# period.
STRIDE = 31
# A channel with a smaller share of the power of the loudest one (-40 dB) changes the mean of all hardly at all, so it
# counts as one without a signal.
MIN_POWER_SHARE = 1e-4


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """Sums over the frames of several channels, from which the correlations between the channels follow.

    Attributes
    ----------
    n_frames : int
    sums : ndarray (C,)
        float64, sum of the samples of each channel.
    products : ndarray (C, C)
        float64, sum of the products of the samples of each two channels.
    """

    n_frames: int
    sums: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def measure(cls, samples: NDArray[np.float32]) -> "ChannelStatistics":
        """Measure samples (frames, C); one of `STRIDE` frames is used."""
        used = samples[::STRIDE].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # samples that are not finite are reported elsewhere
            # Without BLAS, which would start threads in each decoding process.
            return cls(len(used), used.sum(axis=0), np.einsum("ti,tj->ij", used, used))

    def joined(self, other: "ChannelStatistics") -> "ChannelStatistics":
        """Return the statistics of two parts of a recording together."""
        return type(self)(self.n_frames + other.n_frames, self.sums + other.sums, self.products + other.products)

    def lowest_correlation(self) -> float | None:
        """Return the lowest correlation between two channels that have a signal; None if there are no such two."""
        if not (np.isfinite(self.sums).all() and np.isfinite(self.products).all()):
            return None
        covariance = self.products / self.n_frames - np.outer(self.sums, self.sums) / self.n_frames**2
        power = np.diag(covariance)
        has_signal = power > MIN_POWER_SHARE * power.max()
        if has_signal.sum() < 2:
            return None
        deviation = np.sqrt(power[has_signal])
        correlation = covariance[np.ix_(has_signal, has_signal)] / np.outer(deviation, deviation)
        return float(correlation.min())
