"""Recordings in MP4, WebM, AMR, ASF and other containers, which PyAV decodes."""

import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio import (
    AudioError,
    read_audio,
    read_header,
    read_recording,
    read_window,
    sound_file,
    span_seconds,
    track,
    track_file,
    track_layout,
)

Write = Callable[..., Path]
Samples = NDArray[np.float64]

FORMATS = [
    "a.m4a", "a.mp4", "a.mov", "a.aac", "a.mka", "a.webm", "a.3gp", "a.amr", "a.wma", "alac.m4a", "eac3.mp4", "aac.asf",
    "a.flv", "a.avi", "a.ts",
]  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "alac.m4a": {"codec": "alac"},
    "eac3.mp4": {"codec": "eac3", "bit_rate": 96_000, "rate": 48_000},
    "aac.asf": {"codec": "aac"},
    "a.flv": {"codec": "aac"},
    "a.avi": {"codec": "libmp3lame"},
    "a.ts": {"codec": "aac", "form": "mpegts"},
}
# These say which samples the encoder has added.
EXACT = ["a.m4a", "a.mp4", "a.mov", "a.webm", "a.3gp", "alac.m4a"]
RATES = {"a.webm": 48_000, "a.3gp": 8_000, "a.amr": 8_000, "eac3.mp4": 48_000}


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode blocks of 1 s, so that short recordings have several."""
    monkeypatch.setattr(track_layout, "BLOCK_SECONDS", 1.0)
    monkeypatch.setattr(track_layout, "LEAD_IN", 0.3)


@pytest.fixture(scope="module")
def write_format(write_compressed: Write) -> Write:
    """Return `write_compressed` with the codec that the name of the file stands for."""

    def write(path: Path, seconds: float, **options: Any) -> Path:
        return write_compressed(path, seconds, **OPTIONS.get(path.name, {}), **options)

    return write


def decode_plainly(path: Path) -> Tensor:
    """Decode with PyAV from the beginning, and return the mean of the channels."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return torch.from_numpy(np.concatenate(frames, axis=1).mean(axis=0))


@pytest.mark.parametrize("name", FORMATS)
def test_span_and_window_are_slices_of_the_recording(name: str, write_format: Write, tmp_path: Path) -> None:
    path = write_format(tmp_path / name, 4.0)
    whole, rate = read_audio(path, None), RATES.get(name, 16_000)
    assert read_header(path).sample_rate == rate
    for first, count in (
        (0, 3_000),
        (1, 1),
        (rate - 500, 2_000),
        (2 * rate - 9, 2 * rate - 5_000),
        (len(whole) - 7, 7),
    ):
        span = read_audio(path, None, first / rate, duration=count / rate)
        assert torch.equal(span, whole[first : first + count])
    assert torch.equal(read_audio(path, None, start=1.5), whole[round(1.5 * rate) :])
    assert torch.equal(read_audio(path, None, max_duration=1.2), whole[: round(1.2 * rate)])
    seconds = span_seconds(path)
    assert round(seconds * rate) == len(whole)
    assert span_seconds(path, 1.0, 0.5) == 0.5
    expected = read_audio(path, 16_000)[16_000:40_000]
    window = read_window(path, 16_000, 16_000, count=24_000, start=0.0, duration=seconds)
    torch.testing.assert_close(window.waveform, expected, rtol=0, atol=1e-6)
    assert window.missing == 0


@pytest.mark.parametrize("seconds", [0.05, 0.3, 2.3, 3.00012])
@pytest.mark.parametrize("name", EXACT)
def test_samples_that_the_encoder_has_added_are_removed(
    name: str, seconds: float, write_format: Write, tmp_path: Path
) -> None:
    rate = RATES.get(name, 16_000)
    path = write_format(tmp_path / name, seconds)
    assert len(read_audio(path, None)) == round(seconds * rate) == round(span_seconds(path) * rate)


@pytest.mark.parametrize("name", EXACT)
def test_recording_is_where_it_was(name: str, write_format: Write, tmp_path: Path) -> None:
    rate = RATES.get(name, 16_000)
    clicks = np.zeros((1, 3 * rate))
    clicks[:, rate // 2 :: rate // 2] = 0.5
    clicks += 1e-3 * np.random.default_rng(0).standard_normal(clicks.shape)
    found = read_audio(write_format(tmp_path / name, 3, samples=clicks), None).numpy()
    for at in range(rate // 2, 3 * rate, rate // 2):
        around = found[at - 2_000 : at + 2_000]
        # AMR is a model of the voice, in which a click is not exactly where it was.
        assert abs(int(np.abs(around).argmax()) - 2_000) <= (40 if name == "a.3gp" else 2)


def test_recording_of_one_packet_ends_where_it_says(write_compressed: Write, tmp_path: Path) -> None:
    assert len(read_audio(write_compressed(tmp_path / "a.3gp", 0.01), None)) == 80


@pytest.mark.parametrize("name", ["a.m4a", "a.aac", "a.webm", "a.amr", "a.wma", "eac3.mp4"])
def test_samples_are_those_of_ffmpeg(name: str, write_format: Write, tmp_path: Path) -> None:
    path = write_format(tmp_path / name, 0.9)  # one block
    found = read_audio(path, None)
    expected = decode_plainly(path)
    assert len(expected) - 2_048 < len(found) <= len(expected)
    assert torch.equal(found, expected[: len(found)])


def test_blocks_differ_from_ffmpeg_only_in_the_noise_of_the_decoder(write_format: Write, tmp_path: Path) -> None:
    """AAC at a low bitrate says where noise is, and the decoder makes it."""
    path = write_format(tmp_path / "a.m4a", 4.0, bit_rate=24_000)
    found = read_audio(path, None)
    expected = decode_plainly(path)[: len(found)]
    first = 16 * 1_024 - 1_024
    assert torch.equal(found[:first], expected[:first])
    assert not torch.equal(found, expected)
    assert (found - expected).square().mean() < 1e-2 * expected.square().mean()


@pytest.mark.parametrize("name", ["a.m4a", "a.webm", "a.mka", "a.wma"])
def test_channels_are_averaged_or_chosen(name: str, write_format: Write, tmp_path: Path) -> None:
    path = write_format(tmp_path / name, 2.5, channels=2, bit_rate=128_000)
    mean, left, right = (read_audio(path, None, channel=channel) for channel in (None, 0, 1))
    torch.testing.assert_close(mean, (left + right) / 2, rtol=0, atol=1e-6)
    assert torch.corrcoef(torch.stack([left, right]))[0, 1] < 0.5
    assert read_header(path).channels == 2


def test_channels_of_surround_sound_are_numbered_as_in_wav(write_compressed: Write, tmp_path: Path) -> None:
    time = np.arange(48_000) / 48_000
    tones = np.stack([0.3 * np.sin(2 * np.pi * hertz * time) for hertz in (300, 500, 700, 60, 900, 1_100)])
    path = write_compressed(tmp_path / "film.mp4", samples=tones, rate=48_000, bit_rate=384_000)
    for channel, tone in enumerate(tones):
        found = read_audio(path, None, channel=channel).numpy()
        assert np.corrcoef(found, tone)[0, 1] > 0.98, channel
    assert np.corrcoef(read_audio(path, None).numpy(), tones.mean(axis=0))[0, 1] > 0.98


def test_pyav_is_imported_only_for_its_files() -> None:
    code = "import sys, audio, corpora; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_format_is_found_from_the_contents(write_compressed: Write, tmp_path: Path) -> None:
    path = write_compressed(tmp_path / "a.m4a", 0.5)
    expected = read_audio(path, None)
    for name in ("a.wav", "a.amr", "a", "concat:a", "file 'x'; ünd.mp3"):
        assert torch.equal(read_audio(path.rename(tmp_path / name), None), expected)
        path = tmp_path / name


def test_amr_wb_is_read(tmp_path: Path) -> None:
    """There is no encoder; any bits are valid parameters, and these make a sound that is not too loud."""
    random = np.random.default_rng(0)
    frames = [b"\x04" + bytes(byte & 0x55 for byte in random.bytes(17)) for _ in range(150)]
    path = tmp_path / "a.awb"
    path.write_bytes(b"#!AMR-WB\n" + b"".join(frames))
    assert read_header(path) == (16_000, 1, "AMR", "AMR_WB")
    whole = read_audio(path, None)
    assert len(whole) == 150 * 320
    assert torch.equal(read_audio(path, None, start=2.2), whole[round(2.2 * 16_000) :])


def test_audio_of_a_film_is_read(write_compressed: Write, tmp_path: Path) -> None:
    expected = read_audio(write_compressed(tmp_path / "a.m4a", 2.0), None)
    with av.open(str(tmp_path / "a.m4a")) as source, av.open(str(tmp_path / "film.mp4"), "w") as film:
        picture = film.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        sound = film.add_stream_from_template(source.streams.audio[0])
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * number, np.uint8), "rgb24")
            film.mux(picture.encode(frame))
        film.mux(picture.encode(None))
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = sound
                film.mux(packet)
    assert torch.equal(read_audio(tmp_path / "film.mp4", None), expected)


@pytest.mark.parametrize("name", ["a.m4a", "a.wma"])
def test_threads_read_the_same(name: str, write_format: Write, tmp_path: Path) -> None:
    path = write_format(tmp_path / name, 4.0)
    whole = read_audio(path, None)
    starts = [0.4 * number for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: read_audio(path, None, start, duration=0.4), starts))
    for start, samples in zip(starts, found, strict=True):
        assert torch.equal(samples, whole[round(16_000 * start) :][:6_400])


@pytest.mark.parametrize("limit", [2**25, 1])
def test_track_without_equal_packets_is_decoded_once_for_all_spans_and_channels(
    limit: int, write_compressed: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it is too long to be kept, it is decoded once for each span."""
    samples = 0.5 * np.random.default_rng(0).uniform(-1, 1, (2, 4 * 16_000))
    samples[:, 2 * 16_000 : 3 * 16_000] = 0
    path = write_compressed(tmp_path / "a.mka", samples=samples, codec="flac")
    expected = torch.from_numpy(samples).float()
    assert len(read_audio(path, None)) == 4 * 16_000  # finds the layout of its packets
    monkeypatch.setattr(sound_file, "MAX_KEPT_SAMPLES", limit)
    opened = []

    @contextmanager
    def count(path: Path) -> Iterator[track.Track]:
        opened.append(path)
        with track.open_track(path) as found:
            yield found

    monkeypatch.setattr(track_file, "open_track", count)
    spans = [(channel, start) for start in (0.5, 1.0, 3.0) for channel in (None, 0, 1)]
    for channel, start in spans:
        recording = read_recording(path, None, start, duration=0.9, channel=channel)
        part = expected[:, round(16_000 * start) :][:, :14_400]
        wanted = part.mean(dim=0) if channel is None else part[channel]
        torch.testing.assert_close(recording.waveform, wanted, rtol=0, atol=1e-4)
        assert (recording.channels is None) == (channel is not None)
    with pytest.raises(AudioError, match=r"all samples from 2\.1 s to 2\.5 s are zero"):
        read_audio(path, None, 2.1, duration=0.4)
    assert len(opened) == (1 if limit > 1 else 1 + len(spans))


def test_changed_file_is_decoded_again(write_compressed: Write, tmp_path: Path) -> None:
    for seed, seconds in ((1, 3.0), (2, 2.0)):
        path = write_compressed(tmp_path / "a.m4a", seconds, seed=seed)
        whole = read_audio(path, None)
        part = read_audio(path, None, start=1.5)
        assert torch.equal(part, whole[24_000:])
        part.zero_()  # the waveform is the caller's
        assert torch.equal(read_audio(path, None, start=1.5), whole[24_000:])


def test_recording_has_the_rate_of_its_file(write_compressed: Write, tmp_path: Path) -> None:
    recording = read_recording(write_compressed(tmp_path / "a.m4a", 0.5, rate=44_100), 16_000)
    assert recording.file_rate == 44_100
    assert len(recording.waveform) == 8_000
    assert recording.full_scale == 1


def test_recording_of_an_hour_is_read_in_parts(write_compressed: Write, tmp_path: Path) -> None:
    """The packets of 10 s are repeated, which takes less time than encoding an hour."""
    with av.open(str(write_compressed(tmp_path / "a.m4a", 10.0))) as source:
        stream = source.streams.audio[0]
        packets = [bytes(packet) for packet in source.demux(stream) if packet.size]
        with av.open(str(tmp_path / "hour.m4a"), "w") as hour:
            copy = hour.add_stream_from_template(stream)
            for number in range(3_600 * 16_000 // 1_024):
                packet = av.Packet(packets[number % len(packets)])
                packet.pts = packet.dts = 1_024 * number
                packet.duration, packet.time_base, packet.stream = 1_024, Fraction(1, 16_000), copy
                hour.mux(packet)
    path = tmp_path / "hour.m4a"
    tracemalloc.start()
    seconds = span_seconds(path)
    assert seconds == pytest.approx(3_600, abs=0.2)
    spans = [read_audio(path, None, start, duration=2.0) for start in (3_590.0, 5.0, 1_800.0, 3_590.0)]
    window = read_window(path, 16_000, 3_590 * 16_000, count=32_000, start=0.0, duration=seconds)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert torch.equal(spans[0], spans[-1])
    assert torch.equal(window.waveform, spans[0])
    assert peak < 40e6  # the samples of the hour have 230 MB
