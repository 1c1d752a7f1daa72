"""`read_audio`: containers, channels and file names."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from audio import AudioError, read_audio

RATE = 16_000
LOSSLESS = ["16.wav", "24.wav", "float.wav", "a.flac", "a.aiff", "a.au", "a.caf", "a.w64", "a.rf64", "a.sph"]
LOSSY = ["a.ogg", "a.opus", "a.mp3"]

WriteAudio = Callable[..., Path]


# Containers and channels


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_every_container_gives_a_mono_float32_waveform(name: str, write_container: WriteAudio, tmp_path: Path) -> None:
    reference = write_container(tmp_path / "reference.wav", seconds=1.5, seed=1, subtype="DOUBLE")
    expected = soundfile.read(reference)[0]
    waveform = read_audio(write_container(tmp_path / name, seconds=1.5, seed=1), RATE)
    assert waveform.dtype == torch.float32
    assert waveform.device.type == "cpu"
    assert waveform.shape == (24_000,)
    assert waveform.is_contiguous()
    if name in LOSSLESS:
        np.testing.assert_allclose(waveform.numpy(), expected, atol=1.01 / 32_768)
    else:
        assert np.corrcoef(waveform.numpy(), expected)[0, 1] > 0.97


@pytest.mark.parametrize(
    ("correct", "other"),
    [
        ("a.wav", "A.WAV"),
        ("d.flac", "D.FLAC"),
        ("k.ogg", "K.Ogg"),
        ("m.mp3", "M.MP3"),
        ("d.flac", "flac.wav"),
        ("k.ogg", "ogg.flac"),
        ("a.wav", "wav.mp3"),
        ("m.mp3", "mp3.wav"),
        ("a.wav", "wav.au"),
        ("a.wav", "no_suffix"),
        ("d.flac", "archive.tar.gz"),
    ],
)
def test_format_is_detected_from_contents_not_suffix(
    correct: str, other: str, write_audio: WriteAudio, tmp_path: Path
) -> None:
    path = write_audio(tmp_path / correct, seconds=0.5)
    expected = read_audio(path, RATE)
    assert torch.equal(read_audio(path.rename(tmp_path / other), RATE), expected)


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
def test_id3_tag_before_the_audio_is_skipped_or_named(
    name: str, size: int, write_audio: WriteAudio, fault_of: Callable[..., AudioError], tmp_path: Path
) -> None:
    path = write_audio(tmp_path / name, seconds=0.5)
    expected = read_audio(path, RATE)
    length = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x04\0\0" + length + bytes(size) + path.read_bytes())
    if name == "a.ogg":
        assert "convert it to WAV or FLAC: ffmpeg -i x.ogg x.wav" in fault_of(path).reason
    else:
        assert torch.equal(read_audio(path, RATE), expected)


@pytest.mark.parametrize(
    ("subtype", "step"), [("PCM_U8", 2**-7), ("PCM_24", 2**-23), ("PCM_32", 2**-31), ("DOUBLE", 0)]
)
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "W64", "RF64"])
def test_samples_of_each_width_have_the_same_scale(
    container: str, subtype: str, step: float, tone: Callable[..., NDArray[np.float64]], tmp_path: Path
) -> None:
    samples = np.stack([tone(hertz, RATE) for hertz in (300, 400, 500)], axis=1)
    soundfile.write(tmp_path / "a", samples, RATE, format=container, subtype=subtype)
    found = read_audio(tmp_path / "a", RATE).numpy()
    np.testing.assert_allclose(found, samples.mean(axis=1), atol=step + 1e-7)


def test_wav_with_suffix_of_raw_samples_is_read(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.5)
    assert len(read_audio(path.rename(tmp_path / "a.raw"), RATE)) == RATE // 2


@pytest.mark.parametrize("name", ["a.wav", "d.flac"])
def test_channels_are_averaged(name: str, tmp_path: Path) -> None:
    channels = np.random.default_rng(0).integers(-(2**15), 2**15, (4000, 8), dtype=np.int16)
    soundfile.write(tmp_path / name, channels, RATE)
    expected = channels.astype(np.float64).mean(axis=1) / 2**15
    np.testing.assert_allclose(read_audio(tmp_path / name, RATE).numpy(), expected, atol=1e-6)


def test_signal_in_one_of_eight_channels_is_kept(tone: Callable[..., NDArray[np.float64]], tmp_path: Path) -> None:
    channels = np.zeros((RATE, 8))
    channels[:, 5] = tone(440, RATE)
    soundfile.write(tmp_path / "array.wav", channels, RATE)
    np.testing.assert_allclose(read_audio(tmp_path / "array.wav", RATE).numpy(), channels[:, 5] / 8, atol=1e-5)


# File names


@pytest.mark.parametrize(
    "name", ["Grüße aus Köln.wav", "录音 01.flac", " blank at both ends .wav", "a#0-1 %20 'x'.ogg"]
)
def test_files_of_any_name_are_opened(name: str, write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "Aufnahmen für morgen" / name, seconds=0.2)
    assert len(read_audio(path, RATE)) == len(read_audio(str(path), RATE)) == 3_200


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes only on POSIX")
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses names that are not UTF-8")
def test_file_name_that_is_not_utf8_is_opened(
    write_audio: WriteAudio, fault_of: Callable[..., AudioError], tmp_path: Path
) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.2).rename(tmp_path / os.fsdecode(b"caf\xe9 \xff.wav"))
    assert len(read_audio(path, RATE)) == 3_200
    path.write_bytes(b"")
    assert fault_of(path).fault == "empty"
