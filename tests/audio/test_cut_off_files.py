"""`read_audio`: files that are cut off, and files whose header gives a length that is not theirs."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from audio import AudioError, read_audio, read_recording, read_window, span_seconds

RATE = 16_000
LOSSLESS = ["16.wav", "24.wav", "float.wav", "a.flac", "a.aiff", "a.au", "a.caf", "a.w64", "a.rf64"]

WriteAudio = Callable[..., Path]
FaultOf = Callable[..., AudioError]


def cut(path: Path, size: float) -> Path:
    """Keep the first bytes of a file: a share of them, or, if `size` is negative, all but the last `-size` bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(size) if size < 0 else int(len(content) * size)])
    return path


def patch(path: Path, at: int, value: int) -> Path:
    """Write a 32-bit number into a file, at an offset (bytes)."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, at, value)
    path.write_bytes(content)
    return path


def insert_chunk(path: Path, name: bytes, content: bytes) -> Path:
    """Insert a chunk after the format chunk of a WAV file."""
    whole = path.read_bytes()
    assert whole[12:20] == b"fmt \x10\x00\x00\x00"
    chunk = name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    path.write_bytes(whole[:4] + struct.pack("<I", len(whole) + len(chunk) - 8) + whole[8:36] + chunk + whole[36:])
    return path


# Files that are cut off


@pytest.mark.parametrize(
    ("name", "seconds", "size"),
    [(name, 1, size) for name in LOSSLESS for size in (0.6, -10_000)]
    + [
        ("a.flac", 1, -1),
        ("a.ogg", 6, 0.6),
        ("a.opus", 6, 0.6),
        ("a.mp3", 2, 0.6),
        ("a.mp3", 2, 0.9),
    ],
)
def test_cut_off_file_is_truncated(
    name: str, seconds: float, size: float, write_container: WriteAudio, fault_of: FaultOf, tmp_path: Path
) -> None:
    error = fault_of(cut(write_container(tmp_path / name, seconds), size))
    assert error.fault == "truncated"
    assert "cut off" in error.reason


@pytest.mark.parametrize("lost", [1, 10, 1_600])
@pytest.mark.parametrize("name", [name for name in LOSSLESS if name != "a.flac"])
def test_file_that_lacks_less_than_a_tenth_of_a_second_is_read(
    name: str, lost: int, write_container: WriteAudio, tmp_path: Path
) -> None:
    path = write_container(tmp_path / name, 1)
    whole = read_recording(path, None)
    size, n_bytes = path.stat().st_size, {"24.wav": 3, "float.wav": 4}.get(name, 2)
    recording = read_recording(cut(path, -lost), None)
    assert path.stat().st_size == size - lost
    n_read = len(recording.waveform)
    frames = lost / n_bytes
    assert RATE - frames - 9 < n_read < RATE  # libsndfile leaves out up to 8 frames more in CAF files
    assert torch.equal(recording.waveform, whole.waveform[:n_read])
    assert whole.missing == 0
    assert recording.missing > 0 or (name == "a.caf" and lost < 8)
    assert recording.missing * RATE == pytest.approx(frames, rel=0.02, abs=9)
    assert read_recording(path, None, duration=0.5).missing == 0


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.w64"])
def test_short_file_that_lacks_a_tenth_of_its_length_is_truncated(
    name: str, write_container: WriteAudio, fault_of: FaultOf, tmp_path: Path
) -> None:
    path = write_container(tmp_path / name, 0.5)
    recording = read_recording(cut(path, -1_400), None)
    assert recording.missing == pytest.approx(700 / RATE, rel=0.02)
    assert fault_of(cut(path, -300)).fault == "truncated"
    with pytest.raises(AudioError, match="cut off"):
        span_seconds(path)


def test_length_is_that_of_the_file_if_the_header_declares_a_little_more(
    write_audio: WriteAudio, tmp_path: Path
) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=1)
    patch(path, 40, 2 * RATE + 6)
    assert span_seconds(path) == 1.0
    window = read_window(path, RATE, RATE // 2, count=RATE // 2, start=0.0, duration=1.0)
    assert window.missing == pytest.approx(3 / RATE)
    assert read_window(path, RATE, 0, count=RATE // 2, start=0.0, duration=1.0).missing == 0


def test_cut_off_big_endian_wav_is_truncated(write_audio: WriteAudio, fault_of: FaultOf, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", endian="BIG")
    assert path.read_bytes().startswith(b"RIFX")
    assert len(read_audio(path, RATE)) == RATE
    assert fault_of(cut(path, 0.6)).fault == "truncated"


@pytest.mark.parametrize("name", ["a.wav", "d.flac", "k.ogg"])
def test_span_before_the_cut_can_be_read(name: str, write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / name, seconds=4)
    expected = read_audio(path, RATE, start=0.5, duration=0.5)
    assert torch.equal(read_audio(cut(path, 0.7), RATE, start=0.5, duration=0.5), expected)


def test_cut_off_wav_with_long_metadata_is_truncated(
    write_audio: WriteAudio, fault_of: FaultOf, tmp_path: Path
) -> None:
    comments = b"".join(name + struct.pack("<I", 1000) + b"x" * 1000 for name in (b"INAM", b"IART", b"ICMT"))
    path = write_audio(tmp_path / "a.wav")
    expected = read_audio(path, RATE)
    insert_chunk(path, b"LIST", b"INFO" + comments)
    insert_chunk(path, b"note", b"odd")
    assert torch.equal(read_audio(path, RATE), expected)
    assert fault_of(cut(path, 0.6)).fault == "truncated"


def test_cut_off_nist_file_is_truncated(write_container: WriteAudio, fault_of: FaultOf, tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.sph")
    assert len(read_audio(path, RATE)) == RATE
    assert fault_of(cut(path, 0.6)).fault == "truncated"


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
def test_ogg_cut_within_its_last_page_is_truncated(
    name: str, write_container: WriteAudio, fault_of: FaultOf, tmp_path: Path
) -> None:
    assert fault_of(cut(write_container(tmp_path / name, seconds=2), -1)).fault == "truncated"


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
def test_ogg_without_its_last_page_is_truncated(
    name: str, write_container: WriteAudio, fault_of: FaultOf, tmp_path: Path
) -> None:
    path = write_container(tmp_path / name, seconds=4)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"OggS")])
    assert fault_of(path).fault == "truncated"


# Complete files


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF),  # ffmpeg into a pipe
        (0x7FFFFFFF, 0x7FFFFFDB),  # sox into a pipe
        (0x80000024, 0x80000000),
        (0x7FFFF024, 0x7FFFF000),
        (0, 0xFFFFFFFF),
    ],
)
def test_streamed_wav_is_read_completely(riff: int, data: int, write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.5)
    expected = read_audio(path, RATE)
    assert torch.equal(read_audio(patch(patch(path, 4, riff), 40, data), RATE), expected)


@pytest.mark.parametrize(("riff", "data"), [(0, 0), (36, 0), (0xFFFFFFFF, 0)])
def test_wav_that_declares_no_samples_but_has_some_is_refused_with_advice(
    riff: int, data: int, write_audio: WriteAudio, fault_of: FaultOf, tmp_path: Path
) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=1)
    error = fault_of(patch(patch(path, 4, riff), 40, data))
    assert error.fault == "empty"
    assert "declares no samples, but the file has 32,044 bytes" in error.reason
    assert "ffmpeg -i x.wav y.wav" in error.reason


def test_streamed_flac_is_read_completely(write_audio: WriteAudio, fault_of: FaultOf, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.flac", seconds=0.5)
    expected = read_audio(path, RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the number of samples in STREAMINFO: 36 bits, 0 is unknown
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert torch.equal(read_audio(path, RATE), expected)
    assert torch.equal(read_audio(path, RATE, 0.1, duration=0.2), expected[1_600:4_800])
    assert torch.equal(read_audio(path, RATE, start=0.3, max_duration=0.1), expected[4_800:6_400])
    assert fault_of(path, start=0.5).fault == "out_of_range"


def test_chunks_around_the_samples_are_not_audio(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.5)
    expected = read_audio(path, RATE)
    insert_chunk(path, b"bext", bytes(602))
    path.write_bytes(path.read_bytes() + b"LIST\x0a\x00\x00\x00INFOISFT\x00\x00")
    assert torch.equal(read_audio(path, RATE), expected)
