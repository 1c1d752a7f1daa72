"""`measure_level`: the peak, the root mean square and the share of clipped samples of a recording."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from audio import AudioError, Level, measure_level

Audio = NDArray[np.float64]
Tone = Callable[..., Audio]
# Suffix, and arguments of soundfile.
FORMATS = pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".wav", {"subtype": "PCM_16"}),
        (".wav", {"subtype": "PCM_24"}),
        (".wav", {"subtype": "FLOAT"}),
        (".flac", {}),
        (".mp3", {}),
        (".ogg", {}),
        (".opus", {"format": "OGG", "subtype": "OPUS"}),
    ],
)


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory, write_audio: Callable[..., Path]) -> Audio:
    """Return a voice (samples,) of 4 s at 16 kHz with the peak 1."""
    samples, _ = soundfile.read(write_audio(tmp_path_factory.mktemp("voice") / "a.wav", 4.0, subtype="DOUBLE"))
    return np.asarray(samples / np.abs(samples).max())


def level_of(path: Path, samples: Audio, rate: int = 16_000, **options: Any) -> Level:
    soundfile.write(path, samples, rate, **options)
    return measure_level(path)


@given(gain=st.floats(1e-4, 3.5))
def test_scaling_samples_moves_the_levels(gain: float, voice: Audio, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("scaled") / "a.wav"
    before = level_of(path, voice, subtype="DOUBLE")
    after = level_of(path, gain * voice, subtype="DOUBLE")
    assert before.peak == pytest.approx(0, abs=1e-5)
    assert after.peak - before.peak == pytest.approx(20 * math.log10(gain), abs=1e-4)
    assert after.rms - before.rms == pytest.approx(20 * math.log10(gain), abs=1e-4)


@pytest.mark.parametrize("seconds", [0.5, 200.0])
def test_sine_and_silence_have_known_levels(seconds: float, tone: Tone, tmp_path: Path) -> None:
    level = level_of(tmp_path / "a.wav", tone(440, 8000, seconds, 0.5), 8000, subtype="FLOAT")
    assert level.peak == pytest.approx(-6.02, abs=0.01)
    assert level.rms == pytest.approx(-9.03, abs=0.01)
    silent = level_of(tmp_path / "b.wav", np.zeros(round(8000 * seconds)), 8000)
    assert silent == Level(-math.inf, -math.inf, 0.0)


@FORMATS
def test_clipped_peaks_are_counted_in_all_formats(
    suffix: str, options: dict[str, Any], voice: Audio, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    assert level_of(path, voice, **options).clipped < 1e-3
    shares = [level_of(path, np.clip(gain * voice, -1, 1), **options).clipped for gain in (2, 4)]
    assert 0.005 < shares[0] < shares[1]
    exact = np.mean(np.abs(4 * voice) >= 1)
    assert shares[1] == pytest.approx(exact, rel=0.4)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_sine_at_full_scale_is_not_clipped(rate: int, subtype: str, tone: Tone, tmp_path: Path) -> None:
    for hertz in np.geomspace(40, 0.45 * rate, 40):
        level = level_of(tmp_path / "a.wav", tone(hertz, rate, 0.5, 1.0), rate, subtype=subtype)
        assert level.clipped == 0, hertz
    clipped = np.clip(tone(200, rate, 0.5, 2.0), -1, 1)
    # The share above 1 is 0.667, that above 0.9 is 0.703.
    assert level_of(tmp_path / "b.wav", clipped, rate, subtype=subtype).clipped == pytest.approx(0.7, abs=0.06)


def test_one_clipped_channel_and_one_clipped_side_are_found(voice: Audio, tmp_path: Path) -> None:
    clipped = np.clip(4 * voice, -1, 1)
    both = level_of(tmp_path / "a.wav", np.stack([0.3 * voice, clipped], axis=1))
    alone = level_of(tmp_path / "b.wav", clipped)
    assert both.clipped == alone.clipped > 0.05
    assert measure_level(tmp_path / "a.wav", channel=0).clipped == 0
    assert measure_level(tmp_path / "a.wav", channel=1) == alone
    # An offset before a converter clips one side only; a recording that was made a little quieter is still clipped.
    offset = 0.8 * np.clip(2 * voice + 0.5, -1, 1)
    assert level_of(tmp_path / "c.wav", offset).clipped > 0.005
    assert level_of(tmp_path / "d.wav", 0.3 * clipped).clipped == 0  # documented: too quiet to be found


def test_earlier_peaks_below_the_extreme_level_do_not_count(voice: Audio, tmp_path: Path) -> None:
    quiet = np.tile(0.6 * np.clip(4 * voice, -1, 1), 18)  # more than one block
    assert level_of(tmp_path / "a.wav", quiet).clipped > 0.05
    loud = np.concatenate([quiet, voice])
    assert level_of(tmp_path / "b.wav", loud).clipped < 1e-3
    assert level_of(tmp_path / "c.wav", loud[::-1]).clipped < 1e-3


def test_span_is_measured_alone(tone: Tone, tmp_path: Path) -> None:
    samples = np.concatenate([tone(300, 8000, 2.0, 0.1), tone(300, 8000, 2.0, 0.4)])
    path = tmp_path / "a.flac"
    soundfile.write(path, samples, 8000)
    assert measure_level(path, 0, 2.0).peak == pytest.approx(-20, abs=0.1)
    assert measure_level(path, 2.0).rms == pytest.approx(20 * math.log10(0.4 / 2**0.5), abs=0.1)
    assert measure_level(path, 2.0, 1.0).rms == pytest.approx(measure_level(path, 3.0).rms, abs=0.01)
    with pytest.raises(AudioError, match="the span starts at 9 s"):
        measure_level(path, 9.0)


def test_faulty_samples_count_as_zero_and_integers_have_their_scale(tone: Tone, tmp_path: Path) -> None:
    samples = 32_768 * tone(300, 8000)
    samples[100:103] = np.nan, np.inf, -np.inf
    level = level_of(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    assert level.peak == pytest.approx(-6.02, abs=0.01)
    with pytest.raises(AudioError, match="no such file"):
        measure_level(tmp_path / "none.wav")
