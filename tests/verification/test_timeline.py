"""Turns of a long recording: boundaries, silence, and parts that cannot be read."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from corpora import Corpus, Utterance
from encoders import Encoder, load_encoder
from features import FeatureSet, extract
from files import observe_progress
from verification import Recording, SpeakerStore, SpeakerVerifier, StoreError, Turn, find_turns, to_rttm

RATE = 16_000


@pytest.fixture(scope="module")
def store(
    features: FeatureSet, corpus: Corpus, spectral: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SpeakerStore]:
    """Return a store of the first two speakers, enrolled with their first chapters."""
    verifier = SpeakerVerifier.train(features, "cosine")
    with SpeakerStore.create(tmp_path_factory.mktemp("store") / "s.db", verifier) as store:
        for name, first in (("anna", 0), ("ben", 10)):
            rows = verifier.embed([Utterance(corpus.utterances[first + k].path, "", "") for k in range(5)], spectral)
            store.enroll(name, [Recording.of(row) for row in rows])
        yield store


@pytest.fixture(scope="module")
def signals(corpus: Corpus) -> list[NDArray[np.float64]]:
    """Return 3.5 s of audio of each of the two speakers, from their second chapters."""
    return [
        np.concatenate([soundfile.read(corpus.utterances[first + k].path)[0] for k in range(5)]) for first in (5, 15)
    ]


def turns_of(store: SpeakerStore, path: Path, spectral: Encoder, window: float = 0.8, hop: float = 0.2) -> list[Turn]:
    return find_turns(store, path, spectral, window=window, hop=hop, p_known=0.9)


def test_turns_have_the_right_speakers_and_omit_silence(
    store: SpeakerStore, signals: list[NDArray[np.float64]], spectral: Encoder, tmp_path: Path
) -> None:
    path = tmp_path / "meeting.wav"
    soundfile.write(path, np.concatenate([signals[0], np.zeros(2 * RATE), signals[1], signals[0]]), RATE)
    turns = turns_of(store, path, spectral)
    assert all(one.end <= other.start + 1e-9 for one, other in pairwise(turns))
    assert turns[0].start == 0
    assert turns[-1].end == pytest.approx(12.5, abs=0.01)
    for second, speaker in ((1.0, "anna"), (2.5, "anna"), (7.0, "ben"), (10.5, "anna"), (12.0, "anna")):
        [turn] = [turn for turn in turns if turn.start <= second < turn.end]
        assert turn.speaker == speaker, second
        assert 0 < turn.probability <= 1
    assert not [turn for turn in turns if turn.start <= 4.5 < turn.end]
    change = next(turn.start for turn in turns if turn.speaker == "anna" and turn.start > 7)
    assert change == pytest.approx(9.0, abs=0.3)


def test_recording_shorter_than_a_window_is_one_turn(
    store: SpeakerStore, signals: list[NDArray[np.float64]], spectral: Encoder, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", signals[1][: int(0.7 * RATE)], RATE)
    [turn] = turns_of(store, tmp_path / "a.wav", spectral)
    assert turn == Turn(start=0.0, end=pytest.approx(0.7), speaker="ben", probability=turn.probability)  # type: ignore[arg-type]
    soundfile.write(tmp_path / "b.wav", signals[1][: int(0.4 * RATE)], RATE)
    with pytest.raises(
        StoreError, match=r"b\.wav: the window that starts at 0\.00 s cannot be used: the audio is 0\.4"
    ):
        turns_of(store, tmp_path / "b.wav", spectral)


def test_unreadable_audio_is_not_treated_as_silence(
    store: SpeakerStore, signals: list[NDArray[np.float64]], spectral: Encoder, tmp_path: Path
) -> None:
    whole, cut, holed = tmp_path / "whole.flac", tmp_path / "cut.flac", tmp_path / "holed.wav"
    soundfile.write(whole, np.concatenate(signals), RATE)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    signal = np.concatenate(signals).astype(np.float32)
    signal[5 * RATE] = np.nan
    soundfile.write(holed, signal, RATE, subtype="FLOAT")
    for path in (cut, holed):
        with pytest.raises(StoreError, match=rf"{path.name}: the window that starts at \d\.\d\d s cannot be used: "):
            turns_of(store, path, spectral)
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(3 * RATE), RATE)
    with pytest.raises(StoreError, match="silent"):
        turns_of(store, silent, spectral)
    with pytest.raises(StoreError, match=r"none\.wav: no such file"):
        turns_of(store, tmp_path / "none.wav", spectral)


def test_turns_are_within_speech(
    store: SpeakerStore, signals: list[NDArray[np.float64]], spectral: Encoder, tmp_path: Path
) -> None:
    path = tmp_path / "meeting.wav"
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    soundfile.write(path, np.concatenate([signals[0], noise, signals[1]]), RATE)
    # Pauses of up to 0.5 s do not end a turn; a span of speech may be shorter than a window, and than half a second.
    speech = [(0.0, 1.0), (1.4, 2.4), (3.0, 3.3), (5.6, 9.4)]
    turns = find_turns(store, path, spectral, window=0.8, hop=0.2, p_known=0.9, speech=speech)
    assert [(turn.start, turn.speaker) for turn in turns] == [(0.0, "anna"), (3.0, "anna"), (5.6, "ben")]
    assert [turn.end for turn in turns] == pytest.approx([2.4, 3.3, 9.0])
    assert find_turns(store, path, spectral, speech=[]) == []
    kept = find_turns(store, path, spectral, window=0.8, hop=0.2, p_known=0.9, speech=speech, min_turn=0.5)
    assert kept == [turns[0], turns[2]]


def test_progress_is_reported_to_an_observer(
    store: SpeakerStore,
    signals: list[NDArray[np.float64]],
    spectral: Encoder,
    *,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    soundfile.write(tmp_path / "a.wav", signals[0], RATE)
    reports: list[tuple[str, int, int | None]] = []
    with observe_progress(lambda *report: reports.append(report)):
        find_turns(store, tmp_path / "a.wav", spectral, window=0.8, hop=0.2, progress=True)
    n_windows = reports[0][2]
    assert reports[0] == ("Embedding", 0, n_windows)
    assert reports[-1] == ("Embedding", n_windows, n_windows)
    assert n_windows == 15
    assert capfd.readouterr().err == ""


def test_smoothing_removes_changes_that_gain_little(
    store: SpeakerStore, signals: list[NDArray[np.float64]], spectral: Encoder, tmp_path: Path
) -> None:
    path = tmp_path / "meeting.wav"
    soundfile.write(path, np.concatenate([signals[0], signals[1][: RATE // 2], signals[0]]), RATE)
    speech = [(0.0, 7.5)]
    plain, smooth = (
        find_turns(store, path, spectral, window=0.5, hop=0.25, p_known=0.9, speech=speech, switch_cost=cost)
        for cost in (0.0, 1000.0)
    )
    assert {turn.speaker for turn in plain} > {"anna"}
    [turn] = smooth
    assert (turn.start, turn.end, turn.speaker) == (0.0, 7.5, "anna")
    long = find_turns(store, path, spectral, window=0.5, hop=0.25, p_known=0.9, speech=speech, min_turn=3.0)
    assert [turn.speaker for turn in long] == ["anna"]


def test_windows_that_do_not_fit_are_refused(
    store: SpeakerStore, corpus: Corpus, spectral: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(
        StoreError, match="--window is 12 s, but the verifier uses at most 10 s of audio; give --window"
    ):
        turns_of(store, corpus.utterances[0].path, spectral, window=12)
    for window, hop in ((0.4, 0.2), (0.8, 0.0), (0.8, 0.9)):
        with pytest.raises(StoreError, match=r"s apart; expected a length of at least 0\.5 s"):
            turns_of(store, corpus.utterances[0].path, spectral, window=window, hop=hop)
    cropped = SpeakerVerifier.train(extract(corpus, spectral, tmp_path / "f.pt", max_duration=0.6, progress=False))
    with SpeakerStore.create(tmp_path / "cropped.db", cropped) as other:
        with pytest.raises(StoreError, match="the store has no enrolled speakers"):
            turns_of(other, corpus.utterances[0].path, spectral)
        other.enroll("anna", [Recording.of(row) for row in cropped.embed([corpus.utterances[0]], spectral)])
        with pytest.raises(StoreError, match=r"is 0\.8 s, but the verifier uses at most 0\.6 s of audio"):
            turns_of(other, corpus.utterances[0].path, spectral)


def test_another_encoder_is_refused(store: SpeakerStore, corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="n_mfcc is 30 there, 40 here"):
        turns_of(store, corpus.utterances[0].path, load_encoder("spectral", n_mfcc=30, device="cpu"))


def test_rttm_lines_have_ten_fields_for_any_name() -> None:
    turns = [
        Turn(start=0.0, end=1.5, speaker="anna maria", probability=0.9),
        Turn(start=1.5, end=2.0, speaker="unknown", probability=0.8),
        Turn(start=2.0, end=2.25, speaker="李雷", probability=1.0),
    ]
    assert to_rttm(turns, Path("a b/the meeting.flac")) == (
        "SPEAKER the_meeting 1 0.000 1.500 <NA> <NA> anna_maria <NA> <NA>\n"
        "SPEAKER the_meeting 1 2.000 0.250 <NA> <NA> 李雷 <NA> <NA>\n"
    )
