"""Embedding with an encoder that leaves out pauses: only speech goes into the vectors."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio import SpeechDetector, read_audio
from corpora import Utterance
from embedding import Row, embed_utterances, measure_utterances, remove_offset
from encoders import EncoderError, LazyEncoder, encoder_from_spec, lazy_encoder, load_encoder, spec_differences

RATE = 16_000


@pytest.fixture(scope="module")
def recordings(
    speech_weights: Path, make_conversation: Callable[..., np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> list[Utterance]:
    """Three recordings of two voices each, with pauses, and one without a voice."""
    folder = tmp_path_factory.mktemp("speech")
    samples = [make_conversation(2, seed, 100.0 + 30 * seed) for seed in range(3)]
    samples.append(0.001 * np.random.default_rng(9).standard_normal(3 * RATE))
    for number, each in enumerate(samples):
        soundfile.write(folder / f"{number}.wav", each, RATE, subtype="FLOAT")
    return [Utterance(folder / f"{number}.wav", f"s{number}", "") for number in range(4)]


def encoder() -> LazyEncoder:
    return lazy_encoder("spectral", device="cpu", speech_detection={})


def speech_of(utterance: Utterance) -> torch.Tensor:
    samples = torch.from_numpy(soundfile.read(utterance.path, dtype="float32")[0])
    parts = SpeechDetector().find(samples)
    speech = torch.cat([samples[round(begin * RATE) : round(end * RATE)] for begin, end in parts])
    remove_offset(speech)
    return speech


def same(row: Row, vector: torch.Tensor) -> bool:
    return row.vector is not None and bool(torch.equal(row.vector, vector))


def test_vector_is_that_of_the_speech_alone(recordings: list[Utterance]) -> None:
    plain = load_encoder("spectral", device="cpu")
    rows = list(embed_utterances(recordings[:3], encoder()))
    for row in rows:
        speech = speech_of(row.utterance)
        assert row.seconds == pytest.approx(len(speech) / RATE)
        assert 1.5 < row.seconds < 3.2
        assert same(row, plain.encode([speech])[0])
    [cropped] = embed_utterances(recordings[:1], encoder(), 1.0)
    assert cropped.seconds == 1.0
    beginning = cropped.vector
    assert beginning is not None
    expected = plain.encode([speech_of(recordings[0])[:RATE]])[0]
    assert torch.dist(beginning, expected) < 1e-2 * expected.norm()  # its own offset is removed


def test_recording_without_speech_fails_and_the_others_go_on(recordings: list[Utterance]) -> None:
    rows = list(embed_utterances(recordings[::-1], encoder()))
    assert [row.fault for row in rows] == ["no_speech", None, None, None]
    assert str(rows[0].error).startswith("no speech: the highest probability of speech is 0.")
    [measured] = measure_utterances(recordings[3:], encoder())
    assert measured.fault == "no_speech"


def test_windows_cover_the_speech(recordings: list[Utterance], clap_weights: Path) -> None:
    windowed = lazy_encoder("audiosep", clap_weights, "cpu", speech_detection={}, window=1.0, hop=0.5)
    [row] = embed_utterances(recordings[:1], windowed)
    rate, segments = windowed.sample_rate, SpeechDetector().find_in_file(recordings[0].path)
    assert row.vector is not None
    assert row.seconds == pytest.approx(sum(end - begin for begin, end in segments), abs=1e-3)
    plain = load_encoder("audiosep", clap_weights, "cpu", window=1.0, hop=0.5)
    samples = read_audio(recordings[0].path, rate)
    speech = torch.cat([samples[round(begin * rate) : round(end * rate)] for begin, end in segments])
    expected = plain.encode([speech])[0]
    assert torch.dist(row.vector, expected) < 1e-4 * expected.norm()


def test_processes_and_threads_give_the_same_rows(recordings: list[Utterance]) -> None:
    many = [replace(each, speaker=str(number)) for number in range(17) for each in recordings]  # 68: processes
    rows = list(embed_utterances(many, encoder(), num_workers=2, with_state=True))
    few = list(embed_utterances(recordings, encoder(), with_state=True))
    assert [row.utterance for row in rows] == many
    for number, row in enumerate(rows):
        expected = few[number % 4]
        assert (row.error, row.fault, row.file) == (expected.error, expected.fault, expected.file)
        assert expected.vector is None or same(row, expected.vector)


def test_recording_whose_header_gives_no_length_is_used(recordings: list[Utterance], tmp_path: Path) -> None:
    """A FLAC file that was written into a pipe."""
    samples, _ = soundfile.read(recordings[0].path)
    rows: list[Row] = []
    for name in ("whole", "piped"):
        path = tmp_path / f"{name}.flac"
        soundfile.write(path, samples, RATE)
        if name == "piped":
            content = bytearray(path.read_bytes())
            content[18:26] = (int.from_bytes(content[18:26], "big") >> 36 << 36).to_bytes(8, "big")
            path.write_bytes(content)
        spans = [Utterance(path, "ann", ""), Utterance(path, "ann", "", start=0.2, duration=2.0)]
        rows += embed_utterances(spans, encoder())
    assert [row.error for row in rows] == [None] * 4
    for one, other in ((0, 2), (1, 3)):
        vector = rows[one].vector
        assert vector is not None
        assert same(rows[other], vector)


@pytest.mark.parametrize("duration", [None, 3.5])
def test_channels_that_differ_are_reported(
    duration: float | None, recordings: list[Utterance], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = (soundfile.read(each.path)[0] for each in recordings[:2])
    for name, right in (("call", other), ("same", one)):
        soundfile.write(tmp_path / f"{name}.wav", np.stack([one, right], axis=1), RATE)
    stereo = [Utterance(tmp_path / f"{name}.wav", "ann", "", duration=duration) for name in ("call", "same")]
    assert all(row.error is None for row in embed_utterances(stereo, encoder()))
    [message] = [each for each in caplog.messages if "channels that differ" in each]
    assert message.startswith(f"1 file, such as {stereo[0].path}, has channels that differ")


def test_span_of_a_recording_is_searched_alone(recordings: list[Utterance]) -> None:
    span = replace(recordings[0], start=0.3, duration=1.5)
    [row] = embed_utterances([span], encoder())
    assert 1.0 < row.seconds < 1.5
    pause = replace(recordings[0], start=0.0, duration=0.45)
    [row] = embed_utterances([pause], encoder())
    assert row.fault == "no_speech"


def test_detection_is_a_part_of_the_spec() -> None:
    plain, strict = lazy_encoder("spectral"), lazy_encoder("spectral", speech_detection={"threshold": 0.7})
    assert strict.spec["speech_detection"]["threshold"] == 0.7
    assert spec_differences(strict.spec, encoder_from_spec(strict.spec).spec) == []
    [difference] = spec_differences(plain.spec, strict.spec)
    assert difference.startswith("speech_detection is None there, (name 'silero', version 1, weights 'e1122837', ")
    other = encoder_from_spec(strict.spec, speech_detection={"threshold": 0.4})
    assert other.spec["speech_detection"]["threshold"] == 0.4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"treshold": 0.5}, "threshold"), ({"threshold": 2.0}, "above 0 and below 1"), ({"threshold": "x"}, "number")],
)
def test_wrong_settings_are_refused(wrong: dict[str, float], message: str, speech_weights: Path) -> None:
    with pytest.raises(EncoderError, match=message):
        lazy_encoder("spectral", speech_detection=wrong)
