"""`measure_bandwidth`, and the limit ``max_bandwidth`` of `read_audio` and `read_window`."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from audio import measure_bandwidth, read_audio, read_window

RATE = 16_000
Samples = NDArray[np.float64]


def voice_with_noise(noise_level: float, seconds: float = 3.0) -> Samples:
    """Return harmonics up to 3 kHz, with an RMS of 0.1, and white noise at a level below them (dB)."""
    time = np.arange(round(seconds * RATE)) / RATE
    harmonics = np.sum([np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 21)], axis=0)
    noise = np.random.default_rng(0).standard_normal(len(time))
    return np.asarray(0.1 * (harmonics / harmonics.std() + 10 ** (-noise_level / 20) * noise))


def narrowed(samples: Samples, rate: int = 8_000) -> Samples:
    """Resample to a lower rate and back."""
    return np.asarray(soxr.resample(soxr.resample(samples, RATE, rate), rate, RATE))


def in_16_bits(samples: Samples) -> Samples:
    return np.asarray(np.round(samples * 32_768) / 32_768)


def measure(samples: Samples) -> float:
    return measure_bandwidth(torch.from_numpy(samples).float(), RATE)


@pytest.mark.parametrize("level", [0.0, -20.0, -26.0])
@pytest.mark.parametrize("noise_level", [30.0, 45.0])
def test_resampled_voice_is_narrow_and_the_original_is_wide(noise_level: float, level: float) -> None:
    """The noise of a room reaches half the rate, although the voice has no energy above 3 kHz."""
    samples = 10 ** (level / 20) * voice_with_noise(noise_level)
    assert measure(in_16_bits(samples)) == 8_000
    assert 3_700 < measure(in_16_bits(narrowed(samples))) <= 4_000
    assert 5_500 < measure(in_16_bits(narrowed(samples, 12_000))) <= 6_000


@given(gain=st.floats(0.02, 5.0))
def test_bandwidth_does_not_depend_on_the_level(gain: float) -> None:
    samples = narrowed(voice_with_noise(30.0, seconds=0.5))
    # In quiet recordings the noise of 16-bit samples covers a part of the slope of the resampling filter.
    assert measure(gain * samples) == pytest.approx(measure(samples), abs=100)


def test_bandwidth_of_a_longer_recording_is_measured_throughout() -> None:
    samples = narrowed(voice_with_noise(30.0, seconds=40.0))
    samples[-8 * RATE :] = voice_with_noise(30.0, seconds=8.0)
    assert measure(samples) == 8_000


def test_short_silent_and_very_quiet_recordings_have_no_known_bandwidth() -> None:
    samples = voice_with_noise(30.0)
    assert math.isnan(measure(samples[:500]))
    assert not math.isnan(measure(samples[:520]))
    assert math.isnan(measure(0 * samples))
    assert math.isnan(measure(in_16_bits(1e-3 * samples)))


def test_limit_removes_higher_frequencies_and_keeps_the_others(tone: Callable[..., Samples], tmp_path: Path) -> None:
    low, high = tone(1_000, 44_100, 1.0, 0.3), tone(6_000, 44_100, 1.0, 0.3)
    soundfile.write(tmp_path / "two.wav", low + high, 44_100, subtype="FLOAT")
    soundfile.write(tmp_path / "low.wav", low, 44_100, subtype="FLOAT")
    limited = read_audio(tmp_path / "two.wav", RATE, max_bandwidth=4_000)
    inner = slice(1_000, -1_000)
    torch.testing.assert_close(limited[inner], read_audio(tmp_path / "low.wav", RATE)[inner], atol=1e-4, rtol=0)
    assert len(limited) == RATE


@pytest.mark.parametrize(("native", "limit"), [(8_000, 4_000), (16_000, 8_000), (48_000, 8_000), (11_025, 6_000)])
def test_limit_above_half_of_a_rate_changes_nothing(
    native: int, limit: int, write_audio: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_audio(tmp_path / "a.wav", rate=native)
    assert torch.equal(read_audio(path, RATE, max_bandwidth=limit), read_audio(path, RATE))


@pytest.mark.parametrize("native", [16_000, 44_100])
@pytest.mark.parametrize("limit", [1_000, 4_000])
def test_limited_window_is_a_part_of_the_limited_recording(
    native: int, limit: int, write_audio: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=3.0, rate=native)
    whole = read_audio(path, RATE, max_bandwidth=limit)
    for first in (0, 12_345, 2 * RATE):
        window = read_window(path, RATE, first, count=RATE, start=0.0, duration=3.0, max_bandwidth=limit).waveform
        torch.testing.assert_close(window, whole[first : first + RATE], atol=2e-5, rtol=0)


@pytest.mark.parametrize("limit", [0, -4_000, math.inf, math.nan])
def test_invalid_limit_is_a_value_error_of_the_caller(
    limit: float, write_audio: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="max_bandwidth > 0"):
        read_audio(write_audio(tmp_path / "a.wav"), RATE, max_bandwidth=limit)
