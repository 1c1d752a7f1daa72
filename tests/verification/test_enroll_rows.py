"""`enroll_rows`, `enroll_feature_set` and `add_background_rows`: reasons for recordings that are not enrolled."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from corpora import Utterance
from embedding import Row
from features import FeatureSet
from verification import (
    EnrolmentResult,
    SpeakerStore,
    SpeakerVerifier,
    StoreError,
    add_background_rows,
    enroll_feature_set,
    enroll_rows,
)
from verification.store import Existing

MakeRow = Callable[..., Row]


@pytest.fixture
def make_row(tmp_path: Path, population: FeatureSet) -> MakeRow:
    """Return a function that makes the row of a file with this content, or of a segment of it."""

    def make(speaker: str, name: str, number: int, start: float = 0.0, duration: float | None = None, **of: Any) -> Row:
        path = tmp_path / name
        path.write_text(str(number))
        utterance = Utterance(path, speaker, session="", start=start, duration=duration, **of)
        return Row(utterance, population.features[number], seconds=1.0)

    return make


def reasons(listed: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    return [(Path(name).name, reason) for name, reason in listed]


def test_each_recording_that_is_not_enrolled_has_a_reason(store: SpeakerStore, make_row: MakeRow) -> None:
    first = enroll_rows(store, [make_row("ann", "1", 1), make_row("ann", "2", 2), make_row("ben", "3", 3)])
    assert first == EnrolmentResult(3)
    broken = replace(make_row("ann", "4", 4), vector=None, error="no audio")
    rows = [broken, make_row("ann", "5", 5), make_row("ann", "1 again", 1), make_row("ben", "2 again", 2)]
    found = enroll_rows(store, [*rows, make_row("eva", "6", 6), make_row("eva", "6 again", 6)], "add")
    assert found.n_added == 2
    assert reasons(found.failed) == [
        ("4", "no audio"), ("2 again", "this recording of ben is already enrolled as ann")
    ]  # fmt: skip
    assert reasons(found.skipped) == [
        ("1 again", "ann is already enrolled with this recording"),
        ("6 again", "eva is already enrolled with this recording"),
    ]
    assert [each.n_recordings for each in store.speakers()] == [3, 1, 1]


def test_recording_may_move_between_speakers_who_are_replaced(store: SpeakerStore, make_row: MakeRow) -> None:
    enroll_rows(store, [make_row("ann", "1", 1), make_row("ben", "2", 2)])
    moved = [make_row("ann", "2", 2), make_row("ben", "1", 1)]
    assert enroll_rows(store, moved, "replace") == EnrolmentResult(2)
    for row in moved:
        assert row.vector is not None
        assert store.verify(row.utterance.speaker, row.vector).same_audio


def test_speaker_without_a_new_recording_is_not_replaced(store: SpeakerStore, make_row: MakeRow) -> None:
    enroll_rows(store, [make_row("ann", "1", 1), make_row("ben", "2", 2), make_row("eva", "3", 3)])
    rows = [make_row("ann", "2", 2), make_row("ann", "4", 4), make_row("ben", "3", 3)]
    found = enroll_rows(store, [*rows, replace(make_row("eva", "5", 5), vector=None, error="no audio")], "replace")
    assert (found.n_added, found.skipped) == (1, ())
    # eva has no new recording and keeps the earlier one, which leaves ben without a new one.
    assert reasons(found.failed) == [
        ("5", "no audio"),
        ("2", "this recording of ann is already enrolled as ben"),
        ("3", "this recording of ben is already enrolled as eva"),
    ]
    assert [(each.name, each.n_recordings) for each in store.speakers()] == [("ann", 1), ("ben", 1), ("eva", 1)]
    for speaker, number in (("ann", 4), ("ben", 2), ("eva", 3)):
        vector = make_row(speaker, "again", number).vector
        assert vector is not None
        assert store.verify(speaker, vector).same_audio


def test_recording_in_other_bytes_is_the_same_recording(store: SpeakerStore, make_row: MakeRow) -> None:
    contents = count(100)

    def as_flac(row: Row, error: float = 0.0, seconds: float = 1.0) -> Row:
        assert row.vector is not None
        vector = row.vector + error * row.vector.norm() * torch.ones(12) / 12**0.5
        copy = make_row(row.utterance.speaker, f"{row.utterance.path.name} {error}.flac", next(contents))
        return replace(copy, vector=vector, seconds=seconds)

    one, two = make_row("ann", "1", 1), make_row("ann", "2", 2)
    found = enroll_rows(
        store, [one, as_flac(one), two, as_flac(make_row("ben", "1", 1), 1e-6), make_row("ben", "3", 3)]
    )
    assert found.n_added == 3
    assert reasons(found.skipped) == [("1 0.0.flac", "ann is already enrolled with this recording")]
    assert reasons(found.failed) == [("1 1e-06.flac", "this recording of ben is already enrolled as ann")]
    again = enroll_rows(store, [as_flac(two, 1e-5), as_flac(make_row("eva", "1", 1)), make_row("eva", "6", 6)], "add")
    assert (again.n_added, len(again.skipped), len(again.failed)) == (1, 1, 1)
    others = enroll_rows(store, [as_flac(make_row("ida", "1", 1), 1e-2), as_flac(make_row("ida", "2", 2), 0.0, 1.1)])
    assert others == EnrolmentResult(2)  # too different, and too long


def test_segments_of_one_file_are_different_recordings(
    store: SpeakerStore, make_row: MakeRow, population: FeatureSet
) -> None:
    spans = [(0.0, None), (0.0, 1.5), (1.5, 1.5), (1.5, None)]
    rows = [
        replace(make_row("ann", "day.wav", 1, start, duration), vector=population.features[number])
        for number, (start, duration) in enumerate(spans, start=10)
    ]
    assert enroll_rows(store, rows).n_added == 4
    again = enroll_rows(store, [*rows, make_row("ben", "2", 2)], "add")
    assert again.n_added == 1
    assert [Path(name).name for name, _ in again.skipped] == [
        "day.wav",
        "day.wav#0-1.5",
        "day.wav#1.5-1.5",
        "day.wav#1.5-",
    ]


def test_channels_of_one_file_are_different_recordings(
    store: SpeakerStore, make_row: MakeRow, population: FeatureSet
) -> None:
    parts = [make_row("ann", "call.wav", 1), make_row("ann", "call.wav", 1, 0.0, 1.5)]
    parts += [make_row("ann", "call.wav", 1, 0.0, 1.5, channel=channel) for channel in (0, 1)]
    parts.append(make_row("ann", "call.wav", 1, channel=1))
    rows = [replace(row, vector=population.features[number]) for number, row in enumerate(parts, start=10)]
    assert enroll_rows(store, rows).n_added == 5
    again = enroll_rows(store, [*rows, make_row("ben", "2", 2)], "add")
    assert again.n_added == 1
    assert [Path(name).name for name, _ in again.skipped] == [
        "call.wav",
        "call.wav#0-1.5",
        "call.wav#0-1.5#channel0",
        "call.wav#0-1.5#channel1",
        "call.wav#channel1",
    ]


@pytest.mark.parametrize("existing", ["refuse", "add", "replace"])
def test_recordings_under_an_invalid_name_fail_alone(
    store: SpeakerStore, make_row: MakeRow, existing: Existing
) -> None:
    found = enroll_rows(store, [make_row("unknown", "1", 1), make_row("ann", "2", 2), make_row("", "3", 3)], existing)
    assert found.n_added == 1
    assert [name for name, _ in reasons(found.failed)] == ["1", "3"]
    assert found.failed[0][1].startswith("'unknown' cannot be a speaker's name; ")
    assert [each.name for each in store.speakers()] == ["ann"]
    with pytest.raises(StoreError, match=r"4: 'Unknown' cannot be .* 'unknown'\. No speaker was enrolled\."):
        enroll_rows(store, [make_row("Unknown", "4", 4)], existing)


def test_invalid_name_in_a_features_file_fails_alone(
    store: SpeakerStore, population: FeatureSet, select_speakers: Callable[..., FeatureSet]
) -> None:
    features = select_speakers(population, 60, 62)
    features = replace(features, speakers=(*features.speakers[:60], "unknown", *features.speakers[61:]))
    found = enroll_feature_set(store, features)
    assert (found.n_added, len(found.failed)) == (12, 12)
    assert [each.name for each in store.speakers()] == ["061"]


def test_nothing_to_enrol_is_refused(store: SpeakerStore, make_row: MakeRow) -> None:
    enroll_rows(store, [make_row("ann", "1", 1)])
    with pytest.raises(
        StoreError, match=r"this recording of ben is already enrolled as ann\. No speaker was enrolled\."
    ):
        enroll_rows(store, [make_row("ben", "1", 1)])
    gone = make_row("ben", "2", 2)
    gone.utterance.path.unlink()
    with pytest.raises(StoreError, match="can no longer be read"):
        enroll_rows(store, [gone])
    assert [each.name for each in store.speakers()] == ["ann"]


def test_short_and_known_recordings_of_a_features_file_are_skipped(
    store: SpeakerStore, population: FeatureSet, select_speakers: Callable[..., FeatureSet]
) -> None:
    features = select_speakers(population, 60, 62)
    durations = torch.where(torch.arange(24) == 3, 0.2, 1.0)
    features = replace(features, durations=durations)
    found = enroll_feature_set(store, features)
    assert (found.n_added, found.failed) == (23, ())
    assert found.skipped == ((features.ids[3], "it is shorter than 0.5 s"),)
    again = enroll_feature_set(store, features, "add")
    assert again.n_added == 0
    assert again.skipped[1] == (features.ids[0], "060 is already enrolled with this recording")
    assert len(again.skipped) == 24
    assert len(again.reasons()) == 11
    assert again.reasons()[-1] == "skipped: 14 more"
    assert enroll_feature_set(store, features, "replace").skipped == found.skipped


def test_recording_of_another_speaker_in_a_features_file_fails_alone(
    store: SpeakerStore, population: FeatureSet, select_speakers: Callable[..., FeatureSet]
) -> None:
    features = select_speakers(population, 60, 62)
    one = features.select(features.labels.numpy() == 60).select([0])
    enroll_feature_set(store, replace(one, speakers=(*one.speakers[:60], "ann", *one.speakers[61:])))
    found = enroll_feature_set(store, features)
    assert (found.n_added, found.skipped) == (23, ())
    assert found.failed == ((features.ids[0], "this recording of 060 is already enrolled as ann"),)
    # ann is not among the speakers of the file, and is therefore not replaced.
    assert enroll_feature_set(store, features, "replace") == found
    assert [each.n_recordings for each in store.speakers()] == [11, 12, 1]
    with pytest.raises(StoreError, match="'060' is enrolled already"):
        enroll_feature_set(store, features)


@pytest.fixture
def ready_store(tmp_path: Path, population: FeatureSet) -> Iterator[SpeakerStore]:
    """Return a store that uses background recordings, for the encoder of the population."""
    verifier = replace(SpeakerVerifier.ready(), encoder=population.encoder)
    with SpeakerStore.create(tmp_path / "ready.db", verifier) as store:
        yield store


def test_background_recordings_that_are_known_are_skipped(ready_store: SpeakerStore, make_row: MakeRow) -> None:
    enroll_rows(ready_store, [make_row("ann", "1", 1)])
    rows = [make_row("", "1", 1), make_row("", "2", 2), make_row("", "2 again", 2), make_row("", "3", 3)]
    found = add_background_rows(ready_store, rows)
    assert found.n_added == 2
    known = "it is a background recording already"
    assert reasons(found.skipped) == [("1", "it is enrolled as ann"), ("2 again", known)]
    assert reasons(add_background_rows(ready_store, rows[1:]).skipped) == [
        ("2", known),
        ("2 again", known),
        ("3", known),
    ]
    copy = replace(make_row("", "in other bytes", 50), vector=rows[1].vector)
    assert add_background_rows(ready_store, [copy]).skipped == ((str(copy.utterance.path), known),)
    # A recording of an enrolled speaker is no longer background.
    assert enroll_rows(ready_store, [make_row("ben", "3", 3)]) == EnrolmentResult(1)
    assert ready_store.remove_background() == 1
