"""`ChannelStatistics`: the correlation of channels, measured at the beginning of what is read as their mean."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from audio import ChannelStatistics, read_recording

RATE = 8_000
Make = Callable[[list[NDArray[np.float64]]], ChannelStatistics]


def voice(seed: int, seconds: float = 4.0) -> NDArray[np.float64]:
    """Return noise under a slow envelope; voices of two seeds are not correlated."""
    random = np.random.default_rng(seed)
    count = round(seconds * RATE)
    envelope = np.interp(np.arange(count), np.linspace(0, count, 20), random.uniform(0, 1, 20))
    return 0.1 * envelope * random.standard_normal(count)


def lowest(columns: list[NDArray[np.float64]]) -> float | None:
    return ChannelStatistics.measure(np.stack(columns, axis=1).astype(np.float32)).lowest_correlation()


def test_the_correlation_is_that_of_numpy() -> None:
    columns = [voice(0), 0.4 * voice(0) + 0.6 * voice(1), voice(0) - voice(1)]
    expected = np.corrcoef(np.stack(columns)).min()
    assert lowest(columns) == pytest.approx(expected, abs=0.1)  # of one frame in 31
    assert lowest([column + 0.2 for column in columns]) == pytest.approx(expected, abs=0.1)  # a DC offset is no signal
    assert lowest([1e4 * columns[0], columns[1]]) is None  # the second is 80 dB lower
    assert lowest([columns[0], -columns[0]]) == pytest.approx(-1)


def test_channels_without_a_signal_are_left_out() -> None:
    silent = np.zeros(4 * RATE)
    assert lowest([voice(0), silent]) is None
    assert lowest([silent, silent]) is None
    assert lowest([voice(0), silent, voice(0)]) == pytest.approx(1)
    assert lowest([voice(0), np.full(4 * RATE, np.nan)]) is None


def test_parts_are_measured_together() -> None:
    columns = np.stack([voice(0), 0.5 * voice(0) + 0.5 * voice(1)], axis=1).astype(np.float32)
    whole = ChannelStatistics.measure(columns)
    first = 31 * 500
    parts = ChannelStatistics.measure(columns[:first]).joined(ChannelStatistics.measure(columns[first:]))
    assert parts.n_frames == whole.n_frames
    assert parts.lowest_correlation() == pytest.approx(whole.lowest_correlation())


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_only_the_mean_of_channels_is_measured_and_only_its_first_30_s(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    same, other = voice(0, 30), voice(1, 20)
    left, right = np.concatenate([same, voice(2, 20)]), np.concatenate([same, other])
    soundfile.write(path, np.stack([left, right], axis=1), RATE)

    def read(start: float = 0.0, channel: int | None = None) -> float | None:
        channels = read_recording(path, RATE, start, channel=channel).channels
        return None if channels is None else channels.lowest_correlation()

    assert read() == pytest.approx(1)
    assert read(start=30.0) == pytest.approx(0, abs=0.1)
    assert read(channel=0) is None
    soundfile.write(path, left, RATE)
    assert read() is None
