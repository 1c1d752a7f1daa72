"""Measure the bandwidth of a waveform: the highest frequency at which it has energy."""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# Length of a frame (seconds), and maximum number of frames, which are spread over the waveform.
FRAME_SECONDS = 0.032
N_FRAMES = 16
# A frequency has energy if its mean level is at most this far below the highest one (dB). In speech through a
# microphone, noise reaches this level up to half the sampling rate; after resampling, less than -100 dB is left.
MAX_RANGE = 80.0
# If the highest level is less than this above the noise of 16-bit samples (dB), the bandwidth is not known.
MIN_RANGE = 50.0
# Power of the rounding errors of 16-bit samples, with a margin of 6 dB.
ROUNDING_POWER = 4 / 12 / 32_768**2
# Coefficients of the Blackman-Harris window, whose side lobes are 92 dB below its main lobe.
BLACKMAN_HARRIS = (0.35875, -0.48829, 0.14128, -0.01168)


def measure_bandwidth(waveform: Tensor, sample_rate: int) -> float:
    """Return the highest frequency at which a waveform has energy.

    A recording that was made at a low rate, or that went through a telephone or a lossy format, has no energy above
    some frequency, even if it was resampled to a higher rate since. The mean power spectrum of up to `N_FRAMES` frames
    is compared with its own maximum, so the level hardly matters, and with the noise of 16-bit samples.

    Parameters
    ----------
    waveform : Tensor (samples,)
        float32, on the CPU; full scale is 1.
    sample_rate : int
        Sampling rate of the waveform (Hz).

    Returns
    -------
    float
        Frequency (Hz), at most half the sampling rate. NaN if the waveform is shorter than a frame, silent, or so quiet
        that rounding to 16 bits may hide its high frequencies.
    """
    size = round(FRAME_SECONDS * sample_rate)
    samples = waveform.numpy()
    if len(samples) < size:
        return math.nan
    n_frames = min(N_FRAMES, len(samples) // size)
    step = len(samples) // n_frames
    frames = samples[: n_frames * step].reshape(n_frames, step)[:, :size]
    spectra = np.fft.rfft(frames * _window(size))
    levels = (spectra.real**2 + spectra.imag**2).mean(axis=0)
    highest = float(levels.max())
    if not highest > ROUNDING_POWER * 10 ** (MIN_RANGE / 10):
        return math.nan
    floor = max(highest * 10 ** (-MAX_RANGE / 10), ROUNDING_POWER)
    return float(np.flatnonzero(levels > floor)[-1] * sample_rate / size)


@cache
def _window(size: int) -> NDArray[np.float32]:
    """Return the Blackman-Harris window (size,), scaled so that white noise keeps its power."""
    angles = 2 * np.pi * np.arange(size) / size
    terms = [coefficient * np.cos(order * angles) for order, coefficient in enumerate(BLACKMAN_HARRIS)]
    window = np.sum(terms, axis=0)
    scaled: NDArray[np.float32] = (window / np.sqrt(np.square(window).sum())).astype(np.float32)
    return scaled
