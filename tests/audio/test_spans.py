"""`read_audio` and `span_seconds` with a start, a duration or a maximum duration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from audio import AudioError, read_audio, span_seconds

RATE = 16_000

WriteAudio = Callable[..., Path]


@pytest.fixture(scope="module")
def noise_files(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, int, Tensor]]:
    """Return files with 1.5 s of noise, their rates, and all of their samples."""
    folder, random = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    files = []
    for rate in (8_000, 11_025, 16_000, 44_100):
        # Two channels of the same signs, which cancel in no sample.
        noise = random.uniform(0.1, 1, (round(1.5 * rate), 2)) * random.choice([-1, 1], (round(1.5 * rate), 1))
        for name, subtype in (("16.wav", "PCM_16"), ("24.wav", "PCM_24"), ("16.flac", "PCM_16"), ("24.flac", "PCM_24")):
            path = folder / f"{rate}-{name}"
            soundfile.write(path, noise, rate, subtype=subtype)
            mono = soundfile.read(path, dtype="float32")[0].mean(axis=1)
            files.append((path, rate, torch.from_numpy(mono)))
    return files


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_span_is_a_slice_of_the_file(noise_files: list[tuple[Path, int, Tensor]], data: st.DataObject) -> None:
    path, rate, whole = data.draw(st.sampled_from(noise_files))
    first = data.draw(st.integers(0, len(whole) - 1))
    count = data.draw(st.none() | st.integers(1, len(whole) - first))
    max_count = data.draw(st.none() | st.integers(1, len(whole)))
    waveform = read_audio(
        path,
        None,
        start=first / rate,
        duration=None if count is None else count / rate,
        max_duration=None if max_count is None else max_count / rate,
    )
    lengths = [length for length in (len(whole) - first, count, max_count) if length is not None]
    assert torch.equal(waveform, whole[first : first + min(lengths)])


@pytest.mark.parametrize("name", ["a.ogg", "a.opus", "a.mp3"])
def test_span_of_lossy_file_has_the_right_position(name: str, write_container: WriteAudio, tmp_path: Path) -> None:
    path = write_container(tmp_path / name, seconds=3)
    whole = read_audio(path, None)
    span = read_audio(path, None, start=1.3, duration=0.7)
    assert span.shape == (11_200,)
    # After seeking in an MP3, the first frames are inexact, because they depend on earlier frames.
    np.testing.assert_allclose(span[800:].numpy(), whole[21_600:32_000].numpy(), atol=1e-3)


@pytest.mark.parametrize("name", ["long.wav", "long.flac", "long.ogg"])
@pytest.mark.parametrize("span", [{"start": 40.0, "duration": 0.5}, {"max_duration": 0.5}])
def test_only_the_span_is_decoded(
    name: str,
    span: dict[str, Any],
    tone: Callable[..., NDArray[np.float64]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    soundfile.write(tmp_path / name, np.tile(tone(440, 8_000), 60), 8_000)
    frames = []
    decode = soundfile.SoundFile.read

    def read(file: soundfile.SoundFile, *arguments: Any, **options: Any) -> Any:
        samples = decode(file, *arguments, **options)
        frames.append(len(samples))
        return samples

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    assert len(read_audio(tmp_path / name, RATE, **span)) == RATE // 2
    assert 4_000 <= sum(frames) <= 4_800


def test_max_duration_limits_the_span(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=1)
    whole = read_audio(path, RATE)
    assert torch.equal(read_audio(path, RATE, max_duration=0.25), whole[:4_000])
    assert torch.equal(read_audio(path, RATE, max_duration=5), whole)
    assert torch.equal(read_audio(path, RATE, start=0.5, duration=0.4, max_duration=0.1), whole[8_000:9_600])
    assert torch.equal(read_audio(path, RATE, start=0.5, duration=0.1, max_duration=0.4), whole[8_000:9_600])
    resampled = read_audio(write_audio(tmp_path / "b.wav", seconds=1, rate=44_100), RATE, max_duration=0.25)
    assert len(resampled) == pytest.approx(4_000, abs=1)


def test_span_may_end_shortly_after_the_file(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=1)
    assert torch.equal(read_audio(path, RATE, start=0.5, duration=0.55), read_audio(path, RATE, start=0.5))


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ({"start": 1.0}, r"starts at 1 s.* ends at 1 s"),
        ({"start": 30.5}, r"starts at 30.5 s.* ends at 1 s"),
        ({"start": 0.5, "duration": 0.75}, r"ends at 1.25 s.* ends at 1 s"),
        ({"duration": 3.0, "max_duration": 0.5}, r"ends at 3 s.* ends at 1 s"),
    ],
)
def test_span_outside_the_file_is_out_of_range(
    span: dict[str, Any],
    message: str,
    write_audio: WriteAudio,
    fault_of: Callable[..., AudioError],
    tmp_path: Path,
) -> None:
    error = fault_of(write_audio(tmp_path / "a.wav", seconds=1), **span)
    assert error.fault == "out_of_range"
    with pytest.raises(AudioError, match=message):
        raise error


@pytest.mark.parametrize(
    "span", [{"start": -0.1}, {"duration": 0.0}, {"duration": -1.0}, {"max_duration": 0.0}, {"max_duration": -1.0}]
)
def test_invalid_span_is_a_value_error_of_the_caller(
    span: dict[str, Any], write_audio: WriteAudio, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="start must be >= 0, durations > 0") as caught:
        read_audio(write_audio(tmp_path / "a.wav", seconds=0.1), RATE, **span)
    assert not isinstance(caught.value, AudioError)


def test_infinite_start_is_a_value_error(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.1)
    with pytest.raises(ValueError, match=r"start must be|starts at inf"):
        read_audio(path, RATE, start=float("inf"))


def test_samples_outside_the_span_are_not_checked(
    tone: Callable[..., NDArray[np.float64]], fault_of: Callable[..., AudioError], tmp_path: Path
) -> None:
    samples = np.concatenate([np.zeros(RATE), tone(440, RATE), np.full(RATE, np.nan)])
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    assert len(read_audio(tmp_path / "a.wav", RATE, start=1, duration=1)) == RATE
    assert fault_of(tmp_path / "a.wav", duration=0.5).fault == "silent"
    assert fault_of(tmp_path / "a.wav", start=1).fault == "not_finite"


# span_seconds


def test_span_seconds_equals_the_length_that_is_read(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=2.5, rate=8000)
    for start, duration in ((0.0, None), (1.0, None), (0.5, 1.25)):
        assert span_seconds(path, start, duration) == len(read_audio(path, None, start, duration=duration)) / 8000


@pytest.mark.parametrize(
    ("name", "fault"), [("absent.wav", "missing"), ("text.wav", "not_audio"), ("empty.wav", "empty")]
)
def test_span_seconds_has_the_faults_of_read_audio(name: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("text, " * 100)
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(AudioError) as caught:
        span_seconds(tmp_path / name)
    assert caught.value.fault == fault


def test_span_seconds_refuses_a_start_after_the_end(write_audio: WriteAudio, tmp_path: Path) -> None:
    with pytest.raises(AudioError) as caught:
        span_seconds(write_audio(tmp_path / "a.wav"), start=2.0)
    assert caught.value.fault == "out_of_range"
