"""Containers that are cut off, damaged, encrypted, or without audio."""

import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from audio import AudioError, read_audio, read_recording, span_seconds

Write = Callable[..., Path]
FaultOf = Callable[..., AudioError]

FAST_START = {"movflags": "+faststart"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "1000000"}


def cut(path: Path, size: float) -> Path:
    """Keep the first bytes of a file: a share of them, or, if `size` is negative, all but the last `-size` bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(size) if size < 0 else int(len(content) * size)])
    return path


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


# Cut off


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.m4a", {}), ("fast.m4a", FAST_START), ("fragmented.mp4", FRAGMENTED), ("a.mov", {}), ("a.3gp", {}),
        ("a.aac", {}), ("a.amr", {}), ("a.webm", {}), ("a.mka", {}), ("a.wma", {}),
    ],
)  # fmt: skip
def test_cut_off_file_is_truncated(
    share: float, name: str, options: dict[str, str], write_compressed: Write, fault_of: FaultOf, tmp_path: Path
) -> None:
    path = write_compressed(tmp_path / name, 4.0, muxer_options=options)
    assert read_recording(path, None).missing == 0
    error = fault_of(cut(path, share))
    assert error.fault == "truncated"
    assert "cut off" in error.reason
    with pytest.raises(AudioError, match="cut off"):
        span_seconds(path)


@pytest.mark.parametrize("name", ["fast.m4a", "a.webm", "a.mka"])
def test_span_before_the_cut_is_read(name: str, write_compressed: Write, tmp_path: Path) -> None:
    options = FAST_START if name == "fast.m4a" else {}
    path = write_compressed(tmp_path / name, 4.0, muxer_options=options)
    expected = read_audio(path, None, 0.5, duration=1.0)
    assert torch.equal(read_audio(cut(path, 0.7), None, 0.5, duration=1.0), expected)


def test_file_that_lacks_less_than_a_tenth_of_a_second_is_read(write_compressed: Write, tmp_path: Path) -> None:
    path = write_compressed(tmp_path / "a.m4a", 3.0, muxer_options=FAST_START)
    whole = read_audio(path, None)
    recording = read_recording(cut(path, -1), None)
    n_read = len(recording.waveform)
    assert 48_000 - 1_024 <= n_read < 48_000
    assert torch.equal(recording.waveform, whole[:n_read])
    assert 0 < recording.missing <= 0.1


@pytest.mark.parametrize("name", ["a.aac", "a.amr"])
def test_stream_that_ends_within_a_packet_is_truncated(
    name: str, write_compressed: Write, fault_of: FaultOf, tmp_path: Path
) -> None:
    assert fault_of(cut(write_compressed(tmp_path / name, 2.0), -1)).fault == "truncated"


def test_recorder_that_was_switched_off_left_no_index(
    write_compressed: Write, fault_of: FaultOf, tmp_path: Path
) -> None:
    path = write_compressed(tmp_path / "a.m4a", 2.0)
    content = path.read_bytes()
    at = content.index(b"moov") - 4
    path.write_bytes(content[:at])
    error = fault_of(path)
    assert error.fault == "truncated"
    assert "lacks its index" in error.reason


def test_damage_in_the_middle_is_where_reading_ends(write_compressed: Write, fault_of: FaultOf, tmp_path: Path) -> None:
    path = write_compressed(tmp_path / "a.m4a", 4.0, muxer_options=FAST_START)
    whole = read_audio(path, None)
    content = bytearray(path.read_bytes())
    middle = (content.index(b"mdat") + len(content)) // 2
    content[middle : middle + 3_000] = b"\xff" * 3_000
    path.write_bytes(content)
    error = fault_of(path)
    assert error.fault == "truncated"
    seconds = float(error.reason.split(" after ")[1].split(" s;")[0])
    assert 1 < seconds < 3
    found = read_audio(path, None, duration=1.0)
    assert torch.equal(found, whole[:16_000])


# Without audio that can be decoded


def test_film_without_sound_has_no_audio_track(fault_of: FaultOf, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "silent.mp4"), "w") as film:
        picture = film.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * number, np.uint8), "rgb24")
            film.mux(picture.encode(frame))
        film.mux(picture.encode(None))
    error = fault_of(tmp_path / "silent.mp4")
    assert error.fault == "not_audio"
    assert "this file has no audio track, only video" in error.reason


def test_encrypted_mp4_is_named(write_compressed: Write, fault_of: FaultOf, tmp_path: Path) -> None:
    key = "00112233445566778899aabbccddeeff"
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    error = fault_of(write_compressed(tmp_path / "a.mp4", 2.0, muxer_options=options))
    assert error.fault == "not_audio"
    assert "encrypted" in error.reason


def test_file_of_a_store_is_encrypted(write_compressed: Write, fault_of: FaultOf, tmp_path: Path) -> None:
    path = write_compressed(tmp_path / "song.m4a", 1.0)
    content = path.read_bytes()
    assert content.count(b"mp4a") == 1
    path.write_bytes(content.replace(b"mp4a", b"drms"))
    assert "encrypted" in fault_of(path).reason


def test_recording_without_samples_is_empty(write_compressed: Write, fault_of: FaultOf, tmp_path: Path) -> None:
    path = write_compressed(tmp_path / "a.amr", 1.0)
    path.write_bytes(path.read_bytes()[:6])
    assert fault_of(path).fault in ("empty", "not_audio")


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{}\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '{}'\n",
    ],
    ids=["hls", "concat"],
)
@pytest.mark.parametrize("suffix", [".m4a", ".m3u8", ".aac", ".wav"])
def test_files_that_a_playlist_names_are_not_opened(
    content: bytes, suffix: str, write_compressed: Write, fault_of: FaultOf, tmp_path: Path
) -> None:
    target = write_compressed(tmp_path / "a.aac", 0.5)
    path = tmp_path / f"list{suffix}"
    path.write_bytes(content.replace(b"{}", str(target).encode()))
    assert fault_of(path).fault == "not_audio"


@pytest.mark.parametrize("suffix", [".m4a", ".aac", ".amr", ".webm", ".wma", ".wav"])
@pytest.mark.parametrize("seed", [0, 2, 3])  # libsndfile finds an MP3 frame in the noise of 1
def test_noise_is_not_audio(suffix: str, seed: int, fault_of: FaultOf, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(np.random.default_rng(seed).bytes(20_000))
    assert fault_of(path).fault == "not_audio"


def test_boxes_without_an_end_are_not_followed_forever(fault_of: FaultOf, tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(box(b"ftyp", b"M4A \0\0\0\0") + struct.pack(">I4sQ", 1, b"mdat", 0) + bytes(500))
    assert fault_of(path).fault in ("not_audio", "truncated")
