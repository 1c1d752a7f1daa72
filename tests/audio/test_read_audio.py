"""`read_audio`: every container gives the same waveform, a span is a slice, and each fault has its name."""

import copy
import os
import pickle
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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

from audio import AudioError, InputError, read_audio

WriteAudio = Callable[..., Path]
Samples = NDArray[np.float64]

RATE = 16_000
# Name of a file, and what soundfile needs to write it.
LOSSLESS: dict[str, dict[str, str]] = {
    "a.wav": {"subtype": "PCM_16"},
    "b.wav": {"subtype": "PCM_24"},
    "c.wav": {"subtype": "FLOAT"},
    "d.flac": {},
    "e.aiff": {},
    "f.au": {},
    "g.caf": {},
    "h.w64": {},
    "i.rf64": {},
    "j.sph": {"format": "NIST"},
}
LOSSY = {"k.ogg": {}, "l.opus": {"format": "OGG", "subtype": "OPUS"}, "m.mp3": {}}
CONTAINERS = {**LOSSLESS, **LOSSY}

posix_only = pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")


def tone(hertz: float, rate: int, seconds: float = 1.0, amplitude: float = 0.5) -> Samples:
    return np.asarray(amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate))


def spectrum(waveform: Tensor, rate: int) -> tuple[Samples, Samples]:
    """Return the frequencies (Hz) and the magnitudes there, relative to the strongest."""
    magnitudes = np.abs(np.fft.rfft(waveform.numpy() * np.hanning(len(waveform))))
    return np.fft.rfftfreq(len(waveform), 1 / rate), magnitudes / magnitudes.max()


def cut(path: Path, size: float) -> Path:
    """Keep the first bytes of a file: a share of it, or (below zero) all but that many bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(size) if size < 0 else int(len(content) * size)])
    return path


def patch(path: Path, at: int, value: int, kind: str = "<I") -> Path:
    content = bytearray(path.read_bytes())
    struct.pack_into(kind, content, at, value)
    path.write_bytes(content)
    return path


def insert_chunk(path: Path, name: bytes, content: bytes) -> Path:
    """Put a chunk between the format of a plain WAV and what follows."""
    whole = path.read_bytes()
    assert whole[12:20] == b"fmt \x10\x00\x00\x00"
    chunk = name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    path.write_bytes(whole[:4] + struct.pack("<I", len(whole) + len(chunk) - 8) + whole[8:36] + chunk + whole[36:])
    return path


def fault_of(path: str | os.PathLike[str], *arguments: Any, **options: Any) -> AudioError:
    """Read what cannot be read; whatever the fault, the error has its three parts."""
    with pytest.raises(AudioError) as caught:
        read_audio(path, *arguments or (RATE,), **options)
    error = caught.value
    assert error.path == Path(path)
    assert error.reason
    assert str(path) not in error.reason
    assert str(error) == f"{Path(path)}: {error.reason}"
    return error


# What is decoded


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_a_mono_float32_waveform(name: str, write_audio: WriteAudio, tmp_path: Path) -> None:
    reference = write_audio(tmp_path / "reference.wav", seconds=1.5, seed=1, subtype="DOUBLE")
    expected = soundfile.read(reference)[0]
    waveform = read_audio(write_audio(tmp_path / name, seconds=1.5, seed=1, **CONTAINERS[name]), RATE)
    assert waveform.dtype == torch.float32
    assert waveform.device.type == "cpu"
    assert waveform.shape == (24_000,)
    assert waveform.is_contiguous()
    if name in LOSSLESS:
        np.testing.assert_allclose(waveform.numpy(), expected, atol=1.01 / 32_768)
    else:
        assert np.corrcoef(waveform.numpy(), expected)[0, 1] > 0.97


@pytest.mark.parametrize(
    ("honest", "lying"),
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
def test_the_contents_say_what_a_file_is_not_its_suffix(
    honest: str, lying: str, write_audio: WriteAudio, tmp_path: Path
) -> None:
    path = write_audio(tmp_path / honest, seconds=0.5, **CONTAINERS[honest])
    expected = read_audio(path, RATE)
    assert torch.equal(read_audio(path.rename(tmp_path / lying), RATE), expected)


@pytest.mark.parametrize("name", ["a.wav", "d.flac"])
def test_channels_are_averaged(name: str, tmp_path: Path) -> None:
    channels = np.random.default_rng(0).integers(-(2**15), 2**15, (4000, 8), dtype=np.int16)
    soundfile.write(tmp_path / name, channels, RATE)
    expected = channels.astype(np.float64).mean(axis=1) / 2**15
    np.testing.assert_allclose(read_audio(tmp_path / name, RATE).numpy(), expected, atol=1e-6)


def test_a_voice_in_one_of_eight_channels_is_not_lost(tmp_path: Path) -> None:
    channels = np.zeros((RATE, 8))
    channels[:, 5] = tone(440, RATE)
    soundfile.write(tmp_path / "array.wav", channels, RATE)
    np.testing.assert_allclose(read_audio(tmp_path / "array.wav", RATE).numpy(), channels[:, 5] / 8, atol=1e-5)


# Rates


@pytest.mark.parametrize(
    ("native", "wanted"),
    [(8_000, 16_000), (96_000, 16_000), (44_100, 16_000), (16_000, 32_000), (11_025, 48_000), (48_000, 8_000)],
)
def test_resampling_keeps_length_frequency_and_amplitude(native: int, wanted: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tone.wav", tone(1234.0, native, seconds=1.001), native)
    waveform = read_audio(tmp_path / "tone.wav", wanted)
    assert waveform.dtype == torch.float32
    assert len(waveform) == pytest.approx(1.001 * wanted, abs=1)
    frequencies, magnitudes = spectrum(waveform, wanted)
    assert frequencies[magnitudes.argmax()] == pytest.approx(1234.0, abs=1.0)
    expected = tone(1234.0, wanted, seconds=1.001)
    inner = slice(wanted // 10, -wanted // 10)
    np.testing.assert_allclose(waveform.numpy()[inner], expected[: len(waveform)][inner], atol=1e-3)


def test_what_the_new_rate_cannot_carry_does_not_alias(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "two.wav", tone(1_000, 96_000, 1, 0.3) + tone(30_000, 96_000, 1, 0.3), 96_000)
    frequencies, magnitudes = spectrum(read_audio(tmp_path / "two.wav", RATE), RATE)
    assert magnitudes[np.abs(frequencies - 1_000) > 20].max() < 1e-3


def test_no_rate_asked_for_means_the_files_own(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.25, rate=44_100)
    expected = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
    assert torch.equal(read_audio(path, None), expected)
    assert torch.equal(read_audio(path, 44_100), expected)


def test_the_same_file_gives_the_same_bits_in_any_thread(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.ogg", rate=44_100)
    expected = read_audio(path, RATE)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(again, expected) for again in pool.map(lambda _: read_audio(path, RATE), range(12)))


# Spans


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, int, Tensor]]:
    """Return files with 1.5 s of noise, their rates, and all of their samples."""
    folder, random = tmp_path_factory.mktemp("wholes"), np.random.default_rng(0)
    files = []
    for rate in (8_000, 11_025, 16_000, 44_100):
        noise = random.uniform(-1, 1, (round(1.5 * rate), 2))
        for name, subtype in (("16.wav", "PCM_16"), ("24.wav", "PCM_24"), ("16.flac", "PCM_16"), ("24.flac", "PCM_24")):
            path = folder / f"{rate}-{name}"
            soundfile.write(path, noise, rate, subtype=subtype)
            mono = soundfile.read(path, dtype="float32")[0].mean(axis=1)
            files.append((path, rate, torch.from_numpy(mono)))
    return files


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_span_is_a_slice_of_the_whole(wholes: list[tuple[Path, int, Tensor]], data: st.DataObject) -> None:
    path, rate, whole = data.draw(st.sampled_from(wholes))
    first = data.draw(st.integers(0, len(whole) - 1))
    count = data.draw(st.none() | st.integers(1, len(whole) - first))
    most = data.draw(st.none() | st.integers(1, len(whole)))
    waveform = read_audio(
        path,
        None,
        start=first / rate,
        duration=None if count is None else count / rate,
        max_duration=None if most is None else most / rate,
    )
    lengths = [length for length in (len(whole) - first, count, most) if length is not None]
    assert torch.equal(waveform, whole[first : first + min(lengths)])


@pytest.mark.parametrize("name", LOSSY)
def test_a_span_of_a_lossy_file_lies_where_it_should(name: str, write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / name, seconds=3, **LOSSY[name])
    whole = read_audio(path, None)
    span = read_audio(path, None, start=1.3, duration=0.7)
    assert span.shape == (11_200,)
    # The first frames after a jump into an MP3 lack what earlier frames lent them.
    np.testing.assert_allclose(span[800:].numpy(), whole[21_600:32_000].numpy(), atol=1e-3)


def test_a_span_is_cut_before_it_is_resampled(tmp_path: Path) -> None:
    pitches = [tone(hertz, 48_000) for hertz in (500, 1_000, 2_000)]
    soundfile.write(tmp_path / "steps.wav", np.concatenate(pitches), 48_000)
    waveform = read_audio(tmp_path / "steps.wav", RATE, start=1.0, duration=1.0)
    assert waveform.shape == (RATE,)
    frequencies, magnitudes = spectrum(waveform, RATE)
    assert frequencies[magnitudes.argmax()] == pytest.approx(1_000, abs=1)
    assert magnitudes[np.abs(frequencies - 1_000) > 100].max() < 1e-3


@pytest.mark.parametrize("name", ["long.wav", "long.flac", "long.ogg"])
@pytest.mark.parametrize("span", [{"start": 40.0, "duration": 0.5}, {"max_duration": 0.5}])
def test_only_the_span_is_decoded(
    name: str, span: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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


def test_max_duration_crops_and_no_more(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=1)
    whole = read_audio(path, RATE)
    assert torch.equal(read_audio(path, RATE, max_duration=0.25), whole[:4_000])
    assert torch.equal(read_audio(path, RATE, max_duration=5), whole)
    assert torch.equal(read_audio(path, RATE, start=0.5, duration=0.4, max_duration=0.1), whole[8_000:9_600])
    assert torch.equal(read_audio(path, RATE, start=0.5, duration=0.1, max_duration=0.4), whole[8_000:9_600])
    resampled = read_audio(write_audio(tmp_path / "b.wav", seconds=1, rate=44_100), RATE, max_duration=0.25)
    assert len(resampled) == pytest.approx(4_000, abs=1)


def test_a_span_may_end_a_rounding_error_after_the_file(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=1)
    assert torch.equal(read_audio(path, RATE, start=0.5, duration=0.55), read_audio(path, RATE, start=0.5))


@pytest.mark.parametrize(
    ("span", "told"),
    [
        ({"start": 1.0}, r"starts at 1 s.* ends at 1 s"),
        ({"start": 30.5}, r"starts at 30.5 s.* ends at 1 s"),
        ({"start": 0.5, "duration": 0.75}, r"ends at 1.25 s.* ends at 1 s"),
        ({"duration": 3.0, "max_duration": 0.5}, r"ends at 3 s.* ends at 1 s"),
    ],
)
def test_a_span_out_of_range(span: dict[str, float], told: str, write_audio: WriteAudio, tmp_path: Path) -> None:
    error = fault_of(write_audio(tmp_path / "a.wav", seconds=1), **span)
    assert error.fault == "out_of_range"
    with pytest.raises(AudioError, match=told):
        raise error


@pytest.mark.parametrize(
    "span", [{"start": -0.1}, {"duration": 0.0}, {"duration": -1.0}, {"max_duration": 0.0}, {"max_duration": -1.0}]
)
def test_a_span_that_makes_no_sense_is_the_callers_mistake(
    span: dict[str, float], write_audio: WriteAudio, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="start must be >= 0, durations > 0") as caught:
        read_audio(write_audio(tmp_path / "a.wav", seconds=0.1), RATE, **span)
    assert not isinstance(caught.value, AudioError)


def test_what_lies_outside_the_span_does_no_harm(tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(RATE), tone(440, RATE), np.full(RATE, np.nan)])
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    assert len(read_audio(tmp_path / "a.wav", RATE, start=1, duration=1)) == RATE
    assert fault_of(tmp_path / "a.wav", duration=0.5).fault == "silent"
    assert fault_of(tmp_path / "a.wav", start=1).fault == "not_finite"


# Names


@pytest.mark.parametrize(
    "name", ["Grüße aus Köln.wav", "录音 01.flac", " blank at both ends .wav", "a#0-1 %20 'x'.ogg"]
)
def test_any_name_opens(name: str, write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "Aufnahmen für morgen" / name, seconds=0.2)
    assert len(read_audio(path, RATE)) == len(read_audio(str(path), RATE)) == 3_200


@posix_only
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses names that are not UTF-8")
def test_a_name_that_is_no_utf8_opens(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.2).rename(tmp_path / os.fsdecode(b"caf\xe9 \xff.wav"))
    assert len(read_audio(path, RATE)) == 3_200
    path.write_bytes(b"")
    assert fault_of(path).fault == "empty"


# Faults


def test_no_such_file(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "gone.wav").fault == "missing"
    assert fault_of(tmp_path / "no such folder" / "gone.wav").fault == "missing"
    (tmp_path / "dangling.wav").symlink_to("gone.wav")
    assert fault_of(tmp_path / "dangling.wav").fault == "missing"


@pytest.mark.parametrize("name", CONTAINERS)
def test_an_empty_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    error = fault_of(tmp_path / name)
    assert error.fault == "empty"
    assert "0 bytes" in error.reason


@pytest.mark.parametrize("name", ["a.wav", "d.flac", "e.aiff", "k.ogg"])
def test_a_header_without_samples(name: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / name, np.zeros(0), RATE, **CONTAINERS[name])
    error = fault_of(tmp_path / name)
    assert error.fault in ("empty", "truncated") if name == "d.flac" else error.fault == "empty"


@pytest.mark.parametrize(
    ("name", "seconds", "size"),
    [(name, 1, size) for name in LOSSLESS if name != "j.sph" for size in (0.6, -10)]
    + [
        ("a.wav", 1, -1),
        ("d.flac", 1, -1),
        ("k.ogg", 6, 0.6),
        ("l.opus", 6, 0.6),
        ("m.mp3", 2, 0.6),
        ("m.mp3", 2, 0.9),
    ],
)
def test_a_file_that_is_cut_off(
    name: str, seconds: float, size: float, write_audio: WriteAudio, tmp_path: Path
) -> None:
    error = fault_of(cut(write_audio(tmp_path / name, seconds, **CONTAINERS[name]), size))
    assert error.fault == "truncated"
    assert "cut off" in error.reason


@pytest.mark.parametrize("name", ["a.wav", "d.flac", "k.ogg"])
def test_what_comes_before_the_cut_can_be_read(name: str, write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / name, seconds=4)
    expected = read_audio(path, RATE, start=0.5, duration=0.5)
    assert torch.equal(read_audio(cut(path, 0.7), RATE, start=0.5, duration=0.5), expected)


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
def test_what_is_no_audio(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    error = fault_of(path)
    assert error.fault == "not_audio"
    assert "convert it to WAV or FLAC" in error.reason


def test_an_encoding_that_libsndfile_lacks(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.sph", seconds=0.1, format="NIST")
    content = path.read_bytes()
    assert b"-s3 pcm\n" in content
    path.write_bytes(content.replace(b"-s3 pcm\n", b"-s26 pcm,embedded-shorten-v2.00\n"))  # as the LDC ships them
    error = fault_of(path)
    assert error.fault == "not_audio"
    assert "convert it to WAV or FLAC" in error.reason


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    assert fault_of(tmp_path / "folder.wav").fault == "unreadable"
    assert fault_of(tmp_path / "nul\0.wav").fault == "unreadable"
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    assert fault_of(tmp_path / "loop.wav").fault == "unreadable"


@posix_only
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert fault_of(tmp_path / "pipe.wav").fault == "unreadable"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_file_that_may_not_be_read(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.1)
    path.chmod(0)
    assert fault_of(path).fault == "unreadable"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [RATE, 8_000])
def test_one_sample_that_is_not_finite(value: float, rate: int, tmp_path: Path) -> None:
    samples = np.stack([tone(440, RATE), tone(880, RATE)], axis=1)
    samples[12_345, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    assert fault_of(tmp_path / "a.wav", rate).fault == "not_finite"


@pytest.mark.parametrize("name", ["a.wav", "d.flac", "c.wav"])
def test_nothing_but_zeros(name: str, tmp_path: Path) -> None:
    samples = np.zeros((RATE, 2))
    soundfile.write(tmp_path / name, samples, RATE, **CONTAINERS[name])
    assert fault_of(tmp_path / name).fault == "silent"
    samples[-1, 1] = 0.01
    soundfile.write(tmp_path / name, samples, RATE, **CONTAINERS[name])
    assert len(read_audio(tmp_path / name, RATE)) == RATE


def test_a_span_shorter_than_a_sample_of_the_new_rate(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=1, rate=96_000)
    assert fault_of(path, 8_000, duration=1 / 96_000).fault == "empty"


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
def test_a_streamed_wav_is_whole(riff: int, data: int, write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.5)
    expected = read_audio(path, RATE)
    assert torch.equal(read_audio(patch(patch(path, 4, riff), 40, data), RATE), expected)


def test_what_stands_around_the_samples_is_no_audio(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.5)
    expected = read_audio(path, RATE)
    insert_chunk(path, b"bext", bytes(602))
    path.write_bytes(path.read_bytes() + b"LIST\x0a\x00\x00\x00INFOISFT\x00\x00")
    assert torch.equal(read_audio(path, RATE), expected)


# The error itself


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_audio_error_survives_the_way_between_processes(
    clone: Callable[[AudioError], AudioError], tmp_path: Path
) -> None:
    error = fault_of(tmp_path / "gone.wav")
    again = clone(error)
    assert type(again) is AudioError
    assert (again.path, again.fault, again.reason) == (error.path, error.fault, error.reason)
    assert str(again) == str(error)


def test_an_audio_error_is_bad_input() -> None:
    error = AudioError("a.wav", "missing", "no such file")
    assert isinstance(error, InputError)
    assert isinstance(error, ValueError)
    assert error.path == Path("a.wav")


# What libsndfile alone would get wrong


@pytest.mark.parametrize("suffix", [".au", ".snd", ".vox", ".gsm"])
def test_a_text_under_the_suffix_of_a_headerless_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"84-121123-0000 GO\n" * 20)
    assert fault_of(path).fault == "not_audio"


def test_a_text_under_the_suffix_of_mp3(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"84-121123-0000 GO\n" * 200)
    assert fault_of(tmp_path / "a.mp3").fault == "not_audio"


def test_a_wav_under_the_suffix_of_raw_samples(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.5)
    assert len(read_audio(path.rename(tmp_path / "a.raw"), RATE)) == RATE // 2


def test_a_streamed_flac_is_whole(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.flac", seconds=0.5)
    expected = read_audio(path, RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the number of samples in STREAMINFO: 36 bits, 0 is unknown
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert torch.equal(read_audio(path, RATE), expected)
    assert torch.equal(read_audio(path, RATE, 0.1, 0.2), expected[1_600:4_800])
    assert torch.equal(read_audio(path, RATE, start=0.3, max_duration=0.1), expected[4_800:6_400])
    assert fault_of(path, start=0.5).fault == "out_of_range"


@pytest.mark.parametrize("name", ["k.ogg", "l.opus"])
def test_an_ogg_that_is_cut_off_within_its_last_page(name: str, write_audio: WriteAudio, tmp_path: Path) -> None:
    assert fault_of(cut(write_audio(tmp_path / name, seconds=2, **CONTAINERS[name]), -1)).fault == "truncated"


@pytest.mark.parametrize("name", ["k.ogg", "l.opus"])
def test_an_ogg_that_lacks_its_last_page(name: str, write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / name, seconds=4, **CONTAINERS[name])
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"OggS")])
    assert fault_of(path).fault == "truncated"


def test_a_cut_off_wav_with_long_metadata(write_audio: WriteAudio, tmp_path: Path) -> None:
    comments = b"".join(name + struct.pack("<I", 1000) + b"x" * 1000 for name in (b"INAM", b"IART", b"ICMT"))
    path = write_audio(tmp_path / "a.wav")
    expected = read_audio(path, RATE)
    insert_chunk(path, b"LIST", b"INFO" + comments)
    insert_chunk(path, b"note", b"odd")
    assert torch.equal(read_audio(path, RATE), expected)
    assert fault_of(cut(path, 0.6)).fault == "truncated"


def test_an_encoding_that_libsndfile_lacks_in_caf(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.caf", seconds=0.1)
    path.write_bytes(path.read_bytes().replace(b"lpcm", b"aac "))
    assert fault_of(path).fault == "not_audio"


def test_infinities_of_both_signs_warn_of_nothing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([[np.inf, -np.inf]] * 100), RATE, subtype="FLOAT")
    assert fault_of(tmp_path / "a.wav").fault == "not_finite"


def test_an_infinite_start_is_answered(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.1)
    with pytest.raises(ValueError, match=r"start must be|starts at inf"):
        read_audio(path, RATE, start=float("inf"))


@pytest.mark.parametrize("name", ["j.sph"])
def test_a_cut_off_nist_file(name: str, write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / name, format="NIST")
    assert len(read_audio(path, RATE)) == RATE
    assert fault_of(cut(path, 0.6)).fault == "truncated"


def test_samples_too_large_for_a_mean_or_for_resampling(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((100, 2), 3e38), RATE, subtype="FLOAT")
    assert read_audio(tmp_path / "a.wav", None).isfinite().all()
    soundfile.write(tmp_path / "b.wav", np.tile([3.4e38] * 50 + [-3.4e38] * 50, 80), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="too large to be resampled"):
        read_audio(tmp_path / "b.wav", 2 * RATE)


def test_channels_that_cancel_are_silent(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.tile([0.5, -0.5], (100, 1)), RATE)
    error = fault_of(tmp_path / "a.wav")
    assert error.fault == "silent"
    assert "cancel" in error.reason
