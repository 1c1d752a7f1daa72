"""`check_recordings`: errors and warnings about recordings, before a speaker is enrolled with them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from audio import SpeechDetector
from corpora import Corpus, Utterance
from embedding import Row
from encoders import Encoder, load_encoder
from features import FeatureSet
from verification import (
    CheckedRecording,
    Recording,
    SpeakerStore,
    SpeakerVerifier,
    StoreError,
    VerifierError,
    check_recordings,
    enroll_rows,
)

RATE = 16_000
Audio = NDArray[np.float64]
Voice = Callable[..., Audio]
MakeRow = Callable[..., Row]


@pytest.fixture
def store(features: FeatureSet, tmp_path: Path) -> Iterator[SpeakerStore]:
    """Return an empty store whose verifier was trained on the four speakers of the corpus."""
    verifier = replace(SpeakerVerifier.train(features, "cosine"), crop=None)
    with SpeakerStore.create(tmp_path / "speakers.db", verifier) as store:
        yield store


@pytest.fixture(scope="module")
def voice(corpus: Corpus) -> Voice:
    """Return a function that makes a quarter-scale recording of a speaker: ``voice(speaker, first, count)``."""

    def make(speaker: str, first: int = 0, count: int = 3) -> Audio:
        paths = [each.path for each in corpus.utterances if each.speaker == speaker]
        joined = np.concatenate([soundfile.read(paths[(first + k) % 10])[0] for k in range(count)])
        return np.asarray(0.25 * joined / np.abs(joined).max())

    return make


@pytest.fixture
def make_row(store: SpeakerStore, spectral: Encoder, tmp_path: Path) -> MakeRow:
    """Return a function that writes a recording and embeds it: ``make_row(name, file, samples, start, duration)``."""

    def make(name: str, file: str, samples: Audio, start: float = 0.0, duration: float | None = None) -> Row:
        soundfile.write(tmp_path / file, samples, RATE)
        utterance = Utterance(tmp_path / file, name, session="", start=start, duration=duration)
        [row] = store.verifier.embed([utterance], spectral)
        return row

    return make


@pytest.fixture
def check(store: SpeakerStore, spectral: Encoder) -> Callable[..., list[CheckedRecording]]:
    """Return a function that checks rows, and makes sure that nothing is stored."""

    def run(name: str, *rows: Row, detector: SpeechDetector | None = None) -> list[CheckedRecording]:
        before = store.speakers()
        checked = check_recordings(store, name, rows, encoder=spectral, detector=detector)
        assert [each.row for each in checked] == list(rows)
        assert store.speakers() == before
        return checked

    return run


Check = Callable[..., list[CheckedRecording]]


def test_good_recordings_have_neither_errors_nor_warnings(check: Check, make_row: MakeRow, voice: Voice) -> None:
    rows = [make_row("anna", f"{first}.wav", voice("101", first, 5)) for first in (0, 5)]
    assert [(each.error, each.warnings) for each in check("anna", *rows)] == [(None, ())] * 2
    assert check("anna") == []


def test_each_recording_that_cannot_be_enrolled_has_an_error(
    store: SpeakerStore, check: Check, make_row: MakeRow, voice: Voice, tmp_path: Path
) -> None:
    enroll_rows(store, [make_row("anna", "a.wav", voice("101")), make_row("ben", "b.wav", voice("103"))])
    (tmp_path / "text.wav").write_text("no audio")
    [broken] = store.verifier.embed([Utterance(tmp_path / "text.wav", "anna", "")], load_encoder("spectral"))
    gone = make_row("anna", "gone.wav", voice("101", 1))
    gone.utterance.path.unlink()
    rows = [
        broken,
        make_row("anna", "short.wav", voice("101")[:4_000]),
        make_row("anna", "again.wav", voice("101")),
        make_row("anna", "other.flac", voice("103")),
        make_row("anna", "new.wav", voice("101", 4)),
        make_row("anna", "copy.flac", voice("101", 4)),
        gone,
    ]
    errors = [each.error for each in check("anna", *rows)]
    assert errors[0] is not None
    assert "not audio" in errors[0]
    assert errors[1:6] == [
        "the audio is 0.25 s long, which is too short; give at least 0.5 s",
        "anna is already enrolled with this recording",
        "this recording is already enrolled as ben",
        None,
        "it is the same audio as new.wav",
    ]
    assert errors[6] is not None
    assert "can no longer be read" in errors[6]
    # What has no error can be enrolled, and all else is refused by the store too.
    result = enroll_rows(store, rows, "add")
    assert (result.n_added, len(result.skipped) + len(result.failed)) == (1, 6)


def test_clipped_and_quiet_recordings_are_named(check: Check, make_row: MakeRow, voice: Voice) -> None:
    loud = make_row("anna", "loud.wav", np.clip(16 * voice("101"), -1, 1))
    quiet = make_row("anna", "quiet.wav", 0.01 * voice("101", 5))
    span = make_row("anna", "span.wav", np.concatenate([np.clip(16 * voice("101"), -1, 1), voice("101", 3)]), 2.2)
    [clipped], [low] = check("anna", loud)[0].warnings, check("anna", quiet)[0].warnings
    assert clipped.startswith("it is clipped: ")
    assert low.startswith("it is too quiet: ")
    assert check("anna", span)[0].warnings == ()  # only a part of the file is clipped


def test_two_voices_are_named(check: Check, make_row: MakeRow, voice: Voice) -> None:
    both = make_row("eva", "both.wav", np.concatenate([voice("101", 0, 4), voice("104", 0, 4)]))
    one = make_row("eva", "one.wav", voice("101", 0, 8))
    short = make_row("eva", "short.wav", np.concatenate([voice("101", 0, 1), voice("104", 0, 1)]))
    [sentence] = check("eva", both)[0].warnings
    assert sentence.startswith(
        "its two halves do not sound like one speaker, so there may be two voices in it (score -"
    )
    assert check("eva", one)[0].warnings == ()
    assert check("eva", short)[0].warnings == ()  # too short for halves
    # In a part of a file, the halves are those of the part.
    part = make_row("eva", "part.wav", np.concatenate([voice("104", 0, 4), voice("101", 0, 8)]), 2.8, 4.0)
    assert check("eva", part)[0].warnings == ()


def test_recordings_of_another_person_are_named(
    store: SpeakerStore, check: Check, make_row: MakeRow, voice: Voice
) -> None:
    rows = [make_row("anna", f"{first}.wav", voice("101", first)) for first in (0, 3, 6)]
    wrong = make_row("anna", "wrong.wav", voice("104"))
    found = check("anna", *rows, wrong)
    assert [bool(each.warnings) for each in found] == [False, False, False, True]
    assert found[3].warnings[0].startswith("it does not match the 3 other recordings of anna and may be of another ")
    enroll_rows(store, rows)
    [added] = check("anna", wrong)
    assert added.warnings[0].startswith("it does not match the 3 earlier recordings of anna and may be of another ")
    assert check("anna", make_row("anna", "more.wav", voice("101", 7)))[0].warnings == ()


def test_another_enrolled_speaker_is_named_with_the_probability_of_identify(
    store: SpeakerStore, check: Check, make_row: MakeRow, voice: Voice
) -> None:
    enroll_rows(store, [make_row(name, f"{name}.wav", voice(name, 0, 5)) for name in ("101", "104")])
    row = make_row("eva", "eva.wav", voice("101", 5))
    [prediction] = store.identify([row], top_k=1)
    share = f"{100 * prediction.probabilities[0]:.1f}"
    assert check("eva", row)[0].warnings == (f"it sounds like 101, who is enrolled (probability {share} %)",)
    assert check("101", replace(row, utterance=replace(row.utterance, speaker="101")))[0].warnings == ()


def test_speech_is_measured_and_pauses_are_not_compared(
    check: Check, make_row: MakeRow, make_conversation: Callable[..., Audio], speech_weights: Path
) -> None:
    detector = SpeechDetector(download=False)
    little = make_row("anna", "little.wav", make_conversation(1))
    noise = make_row("anna", "noise.wav", 0.05 * np.random.default_rng(0).standard_normal(3 * RATE))
    enough = make_row("anna", "enough.wav", make_conversation(3, seed=1))
    found = [check("anna", row, detector=detector)[0] for row in (little, noise, enough)]
    assert any(sentence.startswith("it has only 1.") for sentence in found[0].warnings)
    assert "no speech was found in it" in found[1].warnings
    assert not any("speech" in sentence for sentence in found[2].warnings)
    assert not any("speech" in sentence for sentence in check("anna", noise)[0].warnings)


def test_wrong_encoder_and_wrong_name_are_refused(
    store: SpeakerStore, check: Check, make_row: MakeRow, voice: Voice
) -> None:
    with pytest.raises(StoreError, match="cannot be a speaker's name"):
        check("unknown")
    other = load_encoder("spectral", device="cpu", n_mfcc=20)
    with pytest.raises(VerifierError, match="the given encoder differs"):
        check_recordings(store, "anna", [make_row("anna", "a.wav", voice("101", 0, 6))], encoder=other)


def test_background_recordings_can_be_enrolled(
    store: SpeakerStore, spectral: Encoder, make_row: MakeRow, voice: Voice, tmp_path: Path
) -> None:
    ready = replace(SpeakerVerifier.ready(), encoder=store.verifier.encoder)
    row = make_row("anna", "a.wav", voice("101"))
    with SpeakerStore.create(tmp_path / "ready.db", ready) as other:
        assert row.vector is not None
        other.add_background([Recording.of(row)])
        [checked] = check_recordings(other, "anna", [row], encoder=spectral)
    assert checked.error is None
    assert checked.warnings == ()
