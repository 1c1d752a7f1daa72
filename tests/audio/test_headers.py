"""`read_audio`: headers with values that no recording has, and files that would need too much memory."""

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio import AudioError, read_audio, read_window, span_seconds

WriteAudio = Callable[..., Path]
FaultOf = Callable[..., AudioError]


def with_rate(path: Path, rate: int) -> Path:
    """Write a rate into the header of a WAV file."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 24, rate)
    path.write_bytes(content)
    return path


def with_frames(path: Path, n_frames: int) -> Path:
    """Write a number of frames (36 bits) into the header of a FLAC file."""
    content = bytearray(path.read_bytes())
    numbers = int.from_bytes(content[18:26], "big")
    content[18:26] = (numbers >> 36 << 36 | n_frames).to_bytes(8, "big")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("rate", [1, 999, 768_001, 2**31 - 1])
def test_rate_that_no_recording_has_is_refused(
    rate: int, write_audio: WriteAudio, fault_of: FaultOf, tmp_path: Path
) -> None:
    path = with_rate(write_audio(tmp_path / "a.wav"), rate)
    error = fault_of(path)
    assert error.fault == "damaged"
    assert f"a sampling rate of {rate} Hz, expected 1000 to 768000 Hz" in error.reason
    with pytest.raises(AudioError, match="sampling rate"):
        span_seconds(path)
    with pytest.raises(AudioError, match="sampling rate"):
        read_window(path, 16_000, 0, count=100, start=0.0, duration=1.0)


@pytest.mark.parametrize("rate", [1_000, 768_000])
def test_lowest_and_highest_rates_are_read(rate: int, write_audio: WriteAudio, tmp_path: Path) -> None:
    path = with_rate(write_audio(tmp_path / "a.wav"), rate)
    assert len(read_audio(path, 16_000)) == round(16_000 * 16_000 / rate)


@pytest.mark.parametrize(("at", "value"), [(22, 0), (24, 0)])
def test_header_without_channels_or_rate_is_refused_in_a_sentence(
    at: int, value: int, write_audio: WriteAudio, fault_of: FaultOf, tmp_path: Path
) -> None:
    path = write_audio(tmp_path / "a.wav")
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, at, value)
    path.write_bytes(content)
    error = fault_of(path)
    assert error.fault == "truncated"
    assert "SF_INFO" not in error.reason


@pytest.mark.parametrize("n_frames", [2**30, 2**36 - 1])
def test_header_that_claims_more_than_its_file_can_hold_takes_no_memory(
    n_frames: int, write_audio: WriteAudio, fault_of: FaultOf, tmp_path: Path
) -> None:
    path = with_frames(write_audio(tmp_path / "a.flac"), n_frames)
    tracemalloc.start()
    try:
        error = fault_of(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.fault == "damaged"
    assert f"would become {n_frames:,} samples" in error.reason
    assert peak < 2**24
    with pytest.raises(AudioError, match="would become"):
        span_seconds(path)


def test_header_that_claims_somewhat_more_is_truncated(
    write_audio: WriteAudio, fault_of: FaultOf, tmp_path: Path
) -> None:
    """Memory is taken for what is decoded, not for the 2^24 samples that are claimed."""
    path = with_frames(write_audio(tmp_path / "a.flac"), 2**24)
    tracemalloc.start()
    try:
        assert fault_of(path).fault == "truncated"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**24


def test_small_file_that_would_become_large_by_resampling_is_refused(fault_of: FaultOf, tmp_path: Path) -> None:
    samples = np.zeros(2**21)
    samples[:100] = 0.1
    soundfile.write(tmp_path / "a.flac", samples, 1_000)
    assert (tmp_path / "a.flac").stat().st_size < 20_000
    assert len(read_audio(tmp_path / "a.flac", None)) == 2**21
    error = fault_of(tmp_path / "a.flac", 48_000)
    assert error.fault == "damaged"
    assert "would become" in error.reason
    assert len(read_audio(tmp_path / "a.flac", 48_000, max_duration=10)) == 480_000
