"""Files of floating-point samples on the scale of integers are divided by it; other peaks above 4 are refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from audio import AudioError, full_scale_of, read_audio, read_window

RATE = 16_000
Tone = Callable[..., NDArray[np.float64]]
FaultOf = Callable[..., AudioError]


def write(path: Path, samples: NDArray[np.float64], subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples, RATE, subtype=subtype)
    return path


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("scale", [2.0**15, 2.0**31])
def test_scale_of_integers_is_divided(scale: float, subtype: str, tone: Tone, tmp_path: Path) -> None:
    samples = np.stack([tone(440, RATE), tone(880, RATE)], axis=1)
    plain, scaled = write(tmp_path / "a.wav", samples, subtype), write(tmp_path / "b.wav", scale * samples, subtype)
    assert (full_scale_of(plain), full_scale_of(scaled)) == (1, scale)
    for rate in (RATE, 8_000):
        assert torch.equal(read_audio(scaled, rate), read_audio(plain, rate))


@pytest.mark.parametrize(
    ("peak", "full_scale"),
    [(3.9, 1), (1_100.0, 2**15), (32_767.0, 2**15), (1.5 * 2**15, 2**15), (0.02 * 2**31, 2**31), (1.5 * 2**31, 2**31)],
)
def test_peak_decides_between_the_scales(peak: float, full_scale: float, tone: Tone, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(440, RATE, amplitude=peak))
    assert full_scale_of(path) == full_scale
    assert float(read_audio(path, None).abs().max()) == pytest.approx(peak / full_scale, rel=1e-2)


@pytest.mark.parametrize("peak", [5.0, 20.0, 100.0, 1_000.0, 100_000.0, 2.0**23, 1e12, 3e38])
def test_peak_that_no_scale_explains_is_refused(peak: float, tone: Tone, fault_of: FaultOf, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(440, RATE, amplitude=peak))
    for options in ({}, {"duration": 0.5}):
        error = fault_of(path, **options)
        assert error.fault == "unknown_scale"
        assert "expected at most 1, or the scale of 16-bit or 32-bit integers (32,768 or 2,147,483,648)" in error.reason
        assert "normalise the recording to a peak of 1" in error.reason
    with pytest.raises(AudioError, match="its samples reach"):
        full_scale_of(path)


def test_click_in_a_recording_of_unit_variance_does_not_make_it_quiet(fault_of: FaultOf, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).standard_normal(RATE)
    samples[5_000] = 70
    assert fault_of(write(tmp_path / "a.wav", samples)).fault == "unknown_scale"


def test_whole_file_decides_for_each_part_of_it(tone: Tone, tmp_path: Path) -> None:
    """A second of near silence, whose peak alone would be 3 of 1, between seconds of a tone."""
    samples = np.concatenate([tone(440, RATE), tone(440, RATE, amplitude=3 / 2**15), tone(440, RATE)])
    plain, scaled = write(tmp_path / "a.wav", samples), write(tmp_path / "b.wav", 2**15 * samples)
    for start in (0.0, 1.0, 2.0):
        assert torch.equal(read_audio(scaled, RATE, start, duration=1), read_audio(plain, RATE, start, duration=1))
    for first in (0, RATE, 5_000):
        windows = [
            read_window(path, 8_000, first, count=4_000, start=0.5, duration=2.5, max_bandwidth=3_000).waveform
            for path in (plain, scaled)
        ]
        assert torch.equal(*windows)
        assert float(windows[0].abs().max()) <= 0.51


def test_file_that_is_written_again_is_measured_again(tone: Tone, tmp_path: Path) -> None:
    assert full_scale_of(write(tmp_path / "a.wav", tone(440, RATE))) == 1
    assert full_scale_of(write(tmp_path / "a.wav", 2**15 * tone(440, RATE, 2.0))) == 2**15


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_16"), ("a.flac", "PCM_24"), ("a.wav", "PCM_U8")])
def test_integers_have_full_scale_1(name: str, subtype: str, tone: Tone, tmp_path: Path) -> None:
    path = write(tmp_path / name, tone(440, RATE, amplitude=1.0), subtype)
    assert full_scale_of(path) == 1
    assert float(read_audio(path, None).abs().max()) == pytest.approx(1, abs=0.02)


def test_lossy_file_beyond_full_scale_is_refused(tone: Tone, fault_of: FaultOf, tmp_path: Path) -> None:
    loud, louder = (tone(440, RATE, amplitude=amplitude) for amplitude in (1.5, 1000.0))
    soundfile.write(tmp_path / "a.ogg", loud, RATE, format="OGG", subtype="VORBIS")
    assert float(read_audio(tmp_path / "a.ogg", RATE).abs().max()) > 1.2
    soundfile.write(tmp_path / "b.ogg", louder, RATE, format="OGG", subtype="VORBIS")
    assert fault_of(tmp_path / "b.ogg").fault == "unknown_scale"


@pytest.mark.parametrize(("content", "fault"), [(None, "missing"), (b"", "empty"), (b"text" * 50, "not_audio")])
def test_full_scale_of_has_the_faults_of_read_audio(content: bytes | None, fault: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError) as caught:
        full_scale_of(tmp_path / "a.wav")
    assert caught.value.fault == fault
