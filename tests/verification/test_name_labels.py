"""Names of the labels of a diarisation: assignment, overlaps, and labels that cannot be named."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from corpora import Corpus, RttmSegment, Utterance
from encoders import Encoder, LazyEncoder, lazy_encoder
from features import FeatureSet
from verification import (
    NamedLabel,
    Recording,
    SpeakerStore,
    SpeakerVerifier,
    StoreError,
    name_labels,
    to_rttm,
    turns_of_labels,
)
from verification.name_labels import _assign

RATE = 16_000


@pytest.fixture(scope="module")
def store(
    features: FeatureSet, corpus: Corpus, spectral: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SpeakerStore]:
    """Return a store of the first two of four speakers, enrolled with their first chapters."""
    verifier = replace(SpeakerVerifier.train(features, "cosine"), crop=None)
    with SpeakerStore.create(tmp_path_factory.mktemp("store") / "s.db", verifier) as store:
        for name, first in (("anna", 0), ("ben", 10)):
            rows = verifier.embed([Utterance(corpus.utterances[first + k].path, "", "") for k in range(5)], spectral)
            store.enroll(name, [Recording.of(row) for row in rows])
        yield store


@pytest.fixture(scope="module")
def meeting(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording: anna 0 to 3.5 s, ben to 7 s, another speaker to 10.5 s, silence to 12.5 s."""
    path = tmp_path_factory.mktemp("meeting") / "day.wav"
    voices = [soundfile.read(corpus.utterances[first + k].path)[0] for first in (5, 15, 25) for k in range(5)]
    soundfile.write(path, np.concatenate([*voices, np.zeros(2 * RATE)]), RATE)
    return path


def name(
    store: SpeakerStore,
    meeting: Path,
    spectral: Encoder | LazyEncoder,
    *spans: tuple[str, float, float],
    allow_repeats: bool = False,
    p_known: float = 0.9,
) -> dict[str, NamedLabel]:
    segments = [RttmSegment("day", label, start, end - start) for label, start, end in spans]
    named = name_labels(store, meeting, spectral, segments=segments, p_known=p_known, allow_repeats=allow_repeats)
    return {each.label: each for each in named}


def test_labels_get_the_speakers_of_their_segments(store: SpeakerStore, meeting: Path, spectral: Encoder) -> None:
    spans = [("s1", 0.0, 2.0), ("s0", 3.5, 5.0), ("s1", 2.2, 3.5), ("s0", 5.2, 7.0), ("s2", 7.0, 10.5)]
    named = name(store, meeting, spectral, *spans, p_known=0.5)
    assert {label: each.speaker for label, each in named.items()} == {"s1": "anna", "s0": "ben", "s2": "unknown"}
    assert list(named) == ["s1", "s0", "s2"]
    for each in named.values():
        assert (each.score >= each.threshold) == (each.speaker != "unknown")
        assert each.similar in ("anna", "ben") if each.speaker == "unknown" else each.similar == each.speaker
        assert 0 < each.probability <= 1
        assert each.is_alone
    assert named["s1"].seconds == pytest.approx(3.3)
    segments = [RttmSegment("day", label, start, end - start) for label, start, end in spans]
    turns = turns_of_labels(segments, list(named.values()))
    assert [(turn.speaker, turn.label, turn.start) for turn in turns[:2]] == [("anna", "s1", 0.0), ("ben", "s0", 3.5)]
    assert "day 1 7.000 3.500 <NA> <NA> unknown_s2 <NA> <NA>" in to_rttm(turns, meeting)


def test_a_speaker_gets_one_label_unless_repeats_are_allowed(
    store: SpeakerStore, meeting: Path, spectral: Encoder
) -> None:
    halves = [("a", 0.0, 1.75), ("b", 1.75, 3.5), ("c", 3.5, 7.0)]
    assert [each.speaker for each in name(store, meeting, spectral, *halves, allow_repeats=True).values()] == [
        "anna", "anna", "ben",
    ]  # fmt: skip
    named = name(store, meeting, spectral, *halves)
    assert sorted(each.speaker for each in named.values()) == ["anna", "ben", "unknown"]
    assert named["c"].speaker == "ben"
    better = max("ab", key=lambda label: named[label].score)
    assert named[better].speaker == "anna"
    [other] = {"a", "b"} - {better}
    assert (named[other].similar, named[other].speaker) == ("anna", "unknown")
    assert named[other].score >= named[other].threshold


def test_parts_with_other_speakers_are_used_only_where_they_must_be(
    store: SpeakerStore, meeting: Path, spectral: Encoder
) -> None:
    # "other" overlaps the speech of ben, who speaks alone for long enough.
    named = name(store, meeting, spectral, ("s0", 3.5, 10.5), ("other", 7.0, 10.5), ("s1", 0.0, 3.5))
    assert named["s0"].speaker == "ben"
    assert named["s0"].is_alone
    assert named["s0"].seconds == pytest.approx(3.5)
    assert not named["other"].is_alone
    assert named["other"].seconds == pytest.approx(3.5)
    # Segments of one label that overlap are used once.
    twice = name(store, meeting, spectral, ("s1", 0.0, 3.0), ("s1", 1.0, 3.5))
    assert twice["s1"].seconds == pytest.approx(3.5)


def test_labels_without_usable_segments_are_unknown(store: SpeakerStore, meeting: Path, spectral: Encoder) -> None:
    named = name(store, meeting, spectral, ("s1", 0.0, 3.5), ("short", 4.0, 4.4), ("silent", 10.6, 12.0))
    assert {label: each.speaker for label, each in named.items()} == {
        "s1": "anna", "short": "unknown", "silent": "unknown",
    }  # fmt: skip
    assert math.isnan(named["short"].score)
    assert named["silent"].seconds == 0
    with pytest.raises(StoreError, match=r"day\.wav: no segment has 0\.5 s of sound"):
        name(store, meeting, spectral, ("short", 4.0, 4.4), ("silent", 10.6, 12.0))
    with pytest.raises(StoreError, match=r"the part that starts at 12\.00 s cannot be used: "):
        name(store, meeting, spectral, ("s1", 12.0, 14.0))


def test_segments_with_little_speech_are_left_out(
    store: SpeakerStore,
    speech_weights: Path,
    make_conversation: Callable[..., np.ndarray],
    tmp_path: Path,
) -> None:
    # Speech is from 0.45 to 2.1 s, and from 2.5 to 3.7 s; the first segment has 0.35 s of it.
    soundfile.write(tmp_path / "day.wav", make_conversation(2), RATE)
    detecting = lazy_encoder("spectral", device="cpu", speech_detection={})
    named = name(store, tmp_path / "day.wav", detecting, ("a", 0.0, 0.8), ("a", 2.5, 3.7), ("b", 0.1, 0.8))
    assert named["a"].seconds == pytest.approx(1.2, abs=0.1)
    assert (named["b"].speaker, named["b"].seconds) == ("unknown", 0)


def test_labels_with_little_audio_are_logged(
    store: SpeakerStore, meeting: Path, spectral: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    name(store, meeting, spectral, ("s1", 0.0, 0.8), ("s1", 1.0, 1.8), ("s0", 3.5, 4.4), ("short", 5.0, 5.3))
    [message] = caplog.messages
    assert message.endswith("labels with less than 1 s of audio, whose names are much less reliable: s0")


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
def test_the_assignment_is_the_best_of_all(seed: int, n_labels: int, n_speakers: int) -> None:
    evidence = np.random.default_rng(seed).normal(0, 2, (n_labels, n_speakers + 1))
    evidence[:, -1] = 0
    chosen = _assign(evidence)
    known = [number for number in chosen.tolist() if number < n_speakers]
    assert len(known) == len(set(known))
    options = [*range(n_speakers), *[n_speakers] * n_labels]
    values = (evidence[range(n_labels), list(order[:n_labels])].sum() for order in permutations(options, n_labels))
    assert evidence[range(n_labels), chosen].sum() == pytest.approx(max(values))
