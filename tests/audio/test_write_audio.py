"""`write_audio` and `read_header`: 16-bit files that are read as they were, and what their headers say."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from audio import AudioError, Header, read_audio, read_header
from audio import write_audio as write_audio_file

WriteAudio = Callable[..., Path]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_samples_of_16_bits_are_written_unchanged(suffix: str, write_audio: WriteAudio, tmp_path: Path) -> None:
    waveform = read_audio(write_audio(tmp_path / "a.wav", seconds=0.5), None)
    path = write_audio_file(tmp_path / f"copy{suffix}", waveform, 16_000)
    assert torch.equal(read_audio(path, None), waveform)
    assert read_header(path) == Header(16_000, 1, suffix[1:].upper(), "PCM_16")


def test_samples_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    path = write_audio_file(tmp_path / "a.wav", torch.tensor([1.5, -1.5, 0.25, -0.25]), 8000)
    assert read_audio(path, None).tolist() == [1 - 2**-15, -1, 0.25, -0.25]


def test_header_is_read_without_the_samples(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.ogg", channels=2, rate=44_100)
    assert read_header(path) == Header(44_100, 2, "OGG", "VORBIS")
    (tmp_path / "b.wav").write_bytes(b"not audio")
    with pytest.raises(AudioError, match="not audio"):
        read_header(tmp_path / "b.wav")
