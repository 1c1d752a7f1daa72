"""`read_audio`: sampling rates."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio import AudioError, read_audio

RATE = 16_000

WriteAudio = Callable[..., Path]
Samples = NDArray[np.float64]


def spectrum(waveform: Tensor, rate: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return frequencies (Hz), and the magnitudes at these frequencies, relative to the largest."""
    magnitudes = np.abs(np.fft.rfft(waveform.numpy() * np.hanning(len(waveform))))
    return np.fft.rfftfreq(len(waveform), 1 / rate), magnitudes / magnitudes.max()


@pytest.mark.parametrize(
    ("native", "wanted"),
    [(8_000, 16_000), (96_000, 16_000), (44_100, 16_000), (16_000, 32_000), (11_025, 48_000), (48_000, 8_000)],
)
def test_resampling_keeps_length_frequency_and_amplitude(
    native: int, wanted: int, tone: Callable[..., Samples], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "tone.wav", tone(1234.0, native, seconds=1.001), native)
    waveform = read_audio(tmp_path / "tone.wav", wanted)
    assert waveform.dtype == torch.float32
    assert len(waveform) == pytest.approx(1.001 * wanted, abs=1)
    frequencies, magnitudes = spectrum(waveform, wanted)
    assert frequencies[magnitudes.argmax()] == pytest.approx(1234.0, abs=1.0)
    expected = tone(1234.0, wanted, seconds=1.001)
    inner = slice(wanted // 10, -wanted // 10)
    np.testing.assert_allclose(waveform.numpy()[inner], expected[: len(waveform)][inner], atol=1e-3)


def test_frequencies_above_half_the_new_rate_do_not_alias(tone: Callable[..., Samples], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "two.wav", tone(1_000, 96_000, 1, 0.3) + tone(30_000, 96_000, 1, 0.3), 96_000)
    frequencies, magnitudes = spectrum(read_audio(tmp_path / "two.wav", RATE), RATE)
    assert magnitudes[np.abs(frequencies - 1_000) > 20].max() < 1e-3


def test_span_is_cut_before_resampling(tone: Callable[..., Samples], tmp_path: Path) -> None:
    pitches = [tone(hertz, 48_000) for hertz in (500, 1_000, 2_000)]
    soundfile.write(tmp_path / "steps.wav", np.concatenate(pitches), 48_000)
    waveform = read_audio(tmp_path / "steps.wav", RATE, start=1.0, duration=1.0)
    assert waveform.shape == (RATE,)
    frequencies, magnitudes = spectrum(waveform, RATE)
    assert frequencies[magnitudes.argmax()] == pytest.approx(1_000, abs=1)
    assert magnitudes[np.abs(frequencies - 1_000) > 100].max() < 1e-3


def test_rate_none_keeps_the_rate_of_the_file(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.25, rate=44_100)
    expected = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
    assert torch.equal(read_audio(path, None), expected)
    assert torch.equal(read_audio(path, 44_100), expected)


def test_all_threads_read_the_same_bits(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.ogg", rate=44_100)
    expected = read_audio(path, RATE)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(again, expected) for again in pool.map(lambda _: read_audio(path, RATE), range(12)))


def test_span_shorter_than_one_resampled_sample_is_empty(
    write_audio: WriteAudio, fault_of: Callable[..., AudioError], tmp_path: Path
) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=1, rate=96_000)
    assert fault_of(path, 8_000, duration=1 / 96_000).fault == "empty"
