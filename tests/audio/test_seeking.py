"""Spans and windows are slices of the recording, in each encoding that libsndfile writes, with or without seeking."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from audio import AudioError, read_audio, read_window, span_seconds
from audio import samples as audio_samples

Samples = NDArray[np.float64]
# RAW has no header. SD2 has it in a second file.
ENCODINGS = [
    (container, subtype)
    for container in soundfile.available_formats()
    if container not in ("RAW", "SD2")
    for subtype in soundfile.available_subtypes(container)
]
# These can be read, but libsndfile does not write them.
NOT_WRITTEN = {("WAV", "MPEG_LAYER_III"), ("MP3", "MPEG_LAYER_I"), ("MP3", "MPEG_LAYER_II"), ("AIFF", "DWVW_12")}
RATES = {"OPUS": 16_000}
# MP3's decoder rounds differently after seeking.
TOLERANCE = {"MPEG_LAYER_III": 2e-7}


@pytest.fixture(scope="module")
def voice() -> Samples:
    """Return 13 s of harmonics and noise at 8 kHz whose level changes; more than the lead-in of the lossy decoders."""
    time = np.arange(13 * 8_000) / 8_000
    level = np.interp(time, np.arange(27) / 2, np.random.default_rng(0).uniform(0.1, 1, 27))
    harmonics = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20))
    return np.asarray(0.2 * level * (harmonics + 0.1 * np.random.default_rng(1).standard_normal(len(time))))


@pytest.mark.parametrize(("container", "subtype"), ENCODINGS)
def test_span_and_window_are_slices_of_the_recording(
    container: str, subtype: str, voice: Samples, tmp_path: Path
) -> None:
    path, rate = tmp_path / "voice", RATES.get(subtype, 8_000)
    if (container, subtype) in NOT_WRITTEN:
        with pytest.raises(soundfile.LibsndfileError):
            soundfile.write(path, voice, rate, format=container, subtype=subtype)
        return
    soundfile.write(path, voice, rate, format=container, subtype=subtype)
    whole, tolerance = read_audio(path, None), TOLERANCE.get(subtype, 0)
    rate = soundfile.info(path).samplerate  # XI and others have a rate of their own
    for first, count in ((0, 3_000), (1, 1), (7_777, 2_000), (len(whole) - 5_000, 1_600), (len(whole) - 3_000, 3_000)):
        span = read_audio(path, None, first / rate, duration=count / rate)
        torch.testing.assert_close(span, whole[first : first + count], rtol=0, atol=tolerance)
    seconds = span_seconds(path)
    assert round(seconds * rate) == len(whole)
    first = len(whole) // 2
    window = read_window(path, rate, first, count=rate, start=0.0, duration=seconds).waveform
    torch.testing.assert_close(window, whole[first : first + rate], rtol=0, atol=tolerance)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
def test_seeking_in_an_mp3_file_is_exact_for_each_bitrate(
    mode: str, level: float, voice: Samples, tmp_path: Path
) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, voice, 44_100, bitrate_mode=mode, compression_level=level)
    whole = read_audio(path, None)
    for first in range(1_000, len(whole) - 4_000, 6_000):
        span = read_audio(path, None, first / 44_100, duration=4_000 / 44_100)
        torch.testing.assert_close(span, whole[first : first + 4_000], rtol=0, atol=TOLERANCE["MPEG_LAYER_III"])


def test_file_is_decoded_again_after_it_has_changed(voice: Samples, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for samples in (voice, voice[::-1][:-8_000]):
        soundfile.write(path, samples, 8_000, subtype="GSM610")
        whole = read_audio(path, None)
        part = read_audio(path, None, start=2.0)
        assert torch.equal(part, whole[16_000:])
        part.zero_()  # the waveform is the caller's
        assert torch.equal(read_audio(path, None, start=2.0), whole[16_000:])


def test_files_without_seeking_are_decoded_once(
    voice: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans of six files in turn, also by several threads."""
    paths = [tmp_path / f"{number}.wav" for number in range(6)]
    for number, path in enumerate(paths):
        soundfile.write(path, np.roll(voice, 1_000 * number), 8_000, subtype="GSM610")
    whole = {path: read_audio(path, None) for path in paths}
    decoded, read = [], soundfile.SoundFile.read

    def count(*arguments: Any, **options: Any) -> Any:
        decoded.append(arguments[0])
        return read(*arguments, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", count)
    spans = [(path, start) for start in (1.0, 2.5, 5.0, 11.0) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda span: read_audio(span[0], None, span[1], duration=1.0), spans))
    assert len(decoded) == len(paths)
    for (path, start), samples in zip(spans, found, strict=True):
        assert torch.equal(samples, whole[path][round(8_000 * start) :][:8_000])


def test_kept_samples_are_bounded(tmp_path: Path) -> None:
    decoded = []

    def decode(path: Path) -> NDArray[np.float32]:
        decoded.append(path.name)
        return np.zeros((50, 2), np.float32)

    kept = audio_samples.KeptSamples(decode, max_bytes=800)
    for name in "ab":
        (tmp_path / name).write_text(name)
    (tmp_path / "c").write_text("c")
    for name in "abbacaab":
        kept.of(tmp_path / name)
    assert decoded == ["a", "b", "c", "b"]


def strip_header(path: Path) -> Path:
    """Remove the first frame of an MP3 file, which has no audio but the length of the file."""
    content = path.read_bytes()
    assert b"Xing" in content[:200] or b"Info" in content[:200]
    path.write_bytes(content[content.index(content[:2], 200) :])
    return path


def test_mp3_without_its_length_but_of_constant_bitrate_is_read(voice: Samples, tmp_path: Path) -> None:
    """libsndfile guesses a length that is up to 0.5 % too large."""
    path = tmp_path / "a.mp3"
    long = np.tile(voice, 12)
    soundfile.write(path, long, 44_100, bitrate_mode="CONSTANT", compression_level=0.99)
    assert b"Info" not in path.read_bytes()[:2_000]
    assert soundfile.info(path).frames > len(long) + 5_000
    assert len(long) <= len(read_audio(path, None)) <= len(long) + 3 * 1_152
    path.write_bytes(b"ID3\x04\0\0\0\0\1\0" + bytes(128) + path.read_bytes() + b"TAG" + bytes(125))
    assert len(long) <= len(read_audio(path, None)) <= len(long) + 3 * 1_152
    assert len(read_audio(path, None, max_duration=1.0)) == 44_100


def test_mp3_of_which_libsndfile_reads_a_part_is_refused_beyond_it(
    voice: Samples, fault_of: Callable[..., AudioError], tmp_path: Path
) -> None:
    samples = np.concatenate([voice, 1e-4 * np.tile(voice, 3)])  # few bits at the end
    path = tmp_path / "a.mp3"
    soundfile.write(path, samples, 44_100, bitrate_mode="VARIABLE", compression_level=0.9)
    assert len(read_audio(path, None)) == len(samples)
    guess = soundfile.info(strip_header(path)).frames / 44_100
    assert guess < 0.8 * len(samples) / 44_100
    for options in ({}, {"start": guess + 0.5}, {"start": guess - 0.5, "duration": 1.0}):
        error = fault_of(path, **options)
        assert error.fault == "damaged"
        assert "ffmpeg -i x.mp3 -c copy y.mp3" in error.reason
    assert len(read_audio(path, None, max_duration=guess - 0.5)) == round((guess - 0.5) * 44_100)
