"""`read_audio`: the fault of each kind of file or recording that cannot be used."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from audio import AudioError, read_audio, read_window

RATE = 16_000

WriteAudio = Callable[..., Path]
FaultOf = Callable[..., AudioError]


# Files that cannot be opened


def test_missing_file(fault_of: FaultOf, tmp_path: Path) -> None:
    assert fault_of(tmp_path / "gone.wav").fault == "missing"
    assert fault_of(tmp_path / "no such folder" / "gone.wav").fault == "missing"
    (tmp_path / "dangling.wav").symlink_to("gone.wav")
    assert fault_of(tmp_path / "dangling.wav").fault == "missing"


def test_path_that_is_not_a_file(fault_of: FaultOf, tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    assert fault_of(tmp_path / "folder.wav").fault == "unreadable"
    assert fault_of(tmp_path / "nul\0.wav").fault == "unreadable"
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    assert fault_of(tmp_path / "loop.wav").fault == "unreadable"


@pytest.mark.skipif(os.name != "posix", reason="named pipes exist only on POSIX")
def test_pipe_is_refused_without_waiting(fault_of: FaultOf, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert fault_of(tmp_path / "pipe.wav").fault == "unreadable"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_file_without_read_permission(write_audio: WriteAudio, fault_of: FaultOf, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.1)
    path.chmod(0)
    assert fault_of(path).fault == "unreadable"


# Files without audio


@pytest.mark.parametrize(
    "suffix",
    ["wav", "flac", "aiff", "au", "caf", "w64", "rf64", "sph", "ogg", "opus", "mp3"],
)
def test_empty_file(suffix: str, fault_of: FaultOf, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"")
    error = fault_of(path)
    assert error.fault == "empty"
    assert "0 bytes" in error.reason


@pytest.mark.parametrize("name", ["a.wav", "d.flac", "e.aiff", "k.ogg"])
def test_header_without_samples(name: str, fault_of: FaultOf, tmp_path: Path) -> None:
    soundfile.write(tmp_path / name, np.zeros(0), RATE)
    error = fault_of(tmp_path / name)
    assert error.fault in ("empty", "truncated") if name == "d.flac" else error.fault == "empty"


@pytest.mark.parametrize(
    "content",
    [
        b"84-121123-0000 GO\n" * 20,
        b"<!DOCTYPE html><html>404 Not Found</html>",
        b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00M4A mp42isom\x00\x00\x00\x00" + bytes(400),
        b"\x89PNG\r\n\x1a\n" + bytes(400),
        b"RIFF\x24\x00\x00\x00AVI LIST" + bytes(400),
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
        b"x",
    ],
    ids=["text", "web page", "m4a", "png", "avi", "git-lfs pointer", "one byte"],
)
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_other_content_is_not_audio(content: bytes, suffix: str, fault_of: FaultOf, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    error = fault_of(path)
    assert error.fault == "not_audio"
    assert "convert it to WAV or FLAC" in error.reason


@pytest.mark.parametrize("suffix", [".au", ".snd", ".vox", ".gsm"])
def test_text_with_suffix_of_headerless_format_is_not_audio(suffix: str, fault_of: FaultOf, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"84-121123-0000 GO\n" * 20)
    assert fault_of(path).fault == "not_audio"


def test_text_with_suffix_of_mp3_is_not_audio(fault_of: FaultOf, tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"84-121123-0000 GO\n" * 200)
    assert fault_of(tmp_path / "a.mp3").fault == "not_audio"


def test_unsupported_encoding_in_nist(write_audio: WriteAudio, fault_of: FaultOf, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.sph", seconds=0.1, format="NIST")
    content = path.read_bytes()
    assert b"-s3 pcm\n" in content
    path.write_bytes(content.replace(b"-s3 pcm\n", b"-s26 pcm,embedded-shorten-v2.00\n"))  # as in LDC corpora
    error = fault_of(path)
    assert error.fault == "not_audio"
    assert "convert it to WAV or FLAC" in error.reason


def test_unsupported_encoding_in_caf(write_audio: WriteAudio, fault_of: FaultOf, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.caf", seconds=0.1)
    path.write_bytes(path.read_bytes().replace(b"lpcm", b"aac "))
    assert fault_of(path).fault == "not_audio"


# Samples that cannot be used


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [RATE, 8_000])
def test_one_sample_that_is_not_finite(
    value: float, rate: int, tone: Callable[..., NDArray[np.float64]], fault_of: FaultOf, tmp_path: Path
) -> None:
    samples = np.stack([tone(440, RATE), tone(880, RATE)], axis=1)
    samples[12_345, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    assert fault_of(tmp_path / "a.wav", rate).fault == "not_finite"


def test_infinities_of_both_signs_emit_no_warning(fault_of: FaultOf, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([[np.inf, -np.inf]] * 100), RATE, subtype="FLOAT")
    assert fault_of(tmp_path / "a.wav").fault == "not_finite"


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_16"), ("a.flac", "PCM_16"), ("a.wav", "FLOAT")])
def test_silent_means_that_all_samples_are_zero(name: str, subtype: str, fault_of: FaultOf, tmp_path: Path) -> None:
    samples = np.zeros((RATE, 2))
    soundfile.write(tmp_path / name, samples, RATE, subtype=subtype)
    assert fault_of(tmp_path / name).fault == "silent"
    samples[-1, 1] = 0.01
    soundfile.write(tmp_path / name, samples, RATE, subtype=subtype)
    assert len(read_audio(tmp_path / name, RATE)) == RATE


@pytest.mark.parametrize("rate", [8_000, RATE, 44_100])
@pytest.mark.parametrize("value", [0.05, -1e-4])
def test_equal_samples_are_silent_at_each_rate(rate: int, value: float, fault_of: FaultOf, tmp_path: Path) -> None:
    """Resampling makes ripples at the ends of a constant."""
    soundfile.write(tmp_path / "a.wav", np.full((2 * rate, 2), value), rate, subtype="FLOAT")
    for span in ({}, {"max_bandwidth": 2_000}):
        error = fault_of(tmp_path / "a.wav", **span)
        assert (error.fault, error.reason) == ("silent", "all samples are equal; the recording has no signal")
    assert fault_of(tmp_path / "a.wav", max_duration=1.0).reason.startswith("all samples of the first 1 s are equal;")
    with pytest.raises(AudioError, match="equal"):
        read_window(tmp_path / "a.wav", RATE, 8_000, count=8_000, start=0.0, duration=2.0)


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ({"max_duration": 10.0}, "all samples of the first 10 s are zero; no more of the recording was read"),
        (
            {"start": 1.0, "max_duration": 2.0},
            "all samples from 1 s to 3 s are zero; no more of the recording was read",
        ),
        ({"duration": 10.0}, "all samples from 0 s to 10 s are zero; this part has no signal"),
        ({"start": 2.5, "duration": 5.0}, "all samples from 2.5 s to 7.5 s are zero; this part has no signal"),
        ({"duration": 8.0, "max_duration": 9.0}, "all samples from 0 s to 8 s are zero; this part has no signal"),
    ],
)
def test_silence_names_the_part_that_was_read(
    span: dict[str, float], message: str, fault_of: FaultOf, tmp_path: Path
) -> None:
    samples = np.zeros(13 * 8_000)
    samples[12 * 8_000 :] = 0.1
    soundfile.write(tmp_path / "a.wav", samples, 8_000)
    error = fault_of(tmp_path / "a.wav", **span)
    assert error.fault == "silent"
    assert error.reason.startswith(message)
    for flag in ("--start", "--max_duration", "--window"):
        assert (flag in error.reason) == ("no more" in message)


def test_silence_of_a_whole_recording_has_no_signal(fault_of: FaultOf, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((RATE, 2)), RATE)
    for span in ({}, {"max_duration": 1.0}, {"max_duration": 5.0}):
        assert fault_of(tmp_path / "a.wav", **span).reason == "all samples are zero; the recording has no signal"


@pytest.mark.parametrize("noise", [0, 1, 50])
def test_channels_that_cancel_are_silent(
    noise: int, tone: Callable[..., NDArray[np.float64]], fault_of: FaultOf, tmp_path: Path
) -> None:
    """One channel is inverted; `noise` is the largest difference of their absolute values, of 32,768."""
    voice = tone(440, RATE)
    noises = np.random.default_rng(0).uniform(-noise, noise, RATE) / 32_768
    soundfile.write(tmp_path / "a.wav", np.stack([voice, noises - voice], axis=1), RATE)
    error = fault_of(tmp_path / "a.wav", max_duration=0.5)
    assert error.fault == "silent"
    assert "2 channels have a signal, but cancel each other" in error.reason
    assert "pan=mono|c0=c0" in error.reason


@pytest.mark.parametrize("share", [0.9, 0.0, -0.9])
def test_channels_that_do_not_cancel_are_averaged(
    share: float, tone: Callable[..., NDArray[np.float64]], tmp_path: Path
) -> None:
    voice = tone(440, RATE)
    soundfile.write(tmp_path / "a.wav", np.stack([voice, share * voice], axis=1), RATE)
    expected = voice * (1 + share) / 2
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", RATE).numpy(), expected, atol=1e-4)
