"""`SpeakerStore`: enrolling, replacing, removing and merging speakers."""

import sqlite3
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from features import FeatureSet
from files import InputError
from verification import Recording, SpeakerStore, SpeakerVerifier, StoreError, enroll_feature_set
from verification.store import Existing

Select = Callable[..., FeatureSet]
Recordings = Callable[..., list[Recording]]


def test_order_of_enrolment_does_not_change_scores(
    population: FeatureSet, recordings: Recordings, plda_verifier: SpeakerVerifier, tmp_path: Path
) -> None:
    one, two, three = recordings(65)
    scores = []
    for number, steps in enumerate(([[one, two, three]], [[three], [two, one]], [[two], [three], [one, one]])):
        with SpeakerStore.create(tmp_path / f"{number}.db", plda_verifier) as store:
            for step in steps:
                store.enroll("anna", step, "add")
            store.enroll("ben", recordings(66))
            scores.append(store.nearest(population.features[:50], 1).scores)
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0], scores[2])


def test_existing_speaker_needs_add_or_replace(
    store: SpeakerStore, population: FeatureSet, recordings: Recordings
) -> None:
    one, two, three = recordings(65)
    assert store.enroll("anna", [one]) == 1
    before = store.nearest(population.features[:9], 1).scores
    with pytest.raises(StoreError, match=r"'anna' is enrolled already\. Give --existing add"):
        store.enroll("anna", [two])
    assert torch.equal(store.nearest(population.features[:9], 1).scores, before)
    assert store.enroll("anna", [one, two], "add") == 1
    assert store.speakers()[0].n_recordings == 2
    assert store.enroll("anna", [three], "replace") == 1
    assert store.speakers()[0].n_recordings == 1
    assert store.enroll("ben", [one, two]) == 2  # the replaced recordings are free again


def test_recording_belongs_to_one_speaker(store: SpeakerStore, recordings: Recordings) -> None:
    one, two, three = recordings(65)
    store.enroll("anna", [two, three])
    with pytest.raises(
        StoreError, match=r"cannot be enrolled as 'ben', because it is already enrolled as 'anna'\. No speaker"
    ):
        store.enroll("ben", [one, three])
    assert len(store) == 1
    store.remove("anna")
    assert store.enroll("ben", [one, three]) == 2  # nothing of anna is left


def test_recording_in_other_bytes_belongs_to_one_speaker(store: SpeakerStore, recordings: Recordings) -> None:
    one, two, three = recordings(65)
    copy = replace(one, path="one.flac", digest=b"other bytes")
    assert store.enroll("anna", [one, copy, two]) == 2
    assert store.enroll("anna", [copy, three], "add") == 1
    with pytest.raises(StoreError, match=r"one\.flac: this recording cannot be enrolled as 'ben'.* enrolled as 'anna'"):
        store.enroll("ben", [copy])
    assert store.enroll("anna", [copy], "replace") == 1
    assert store.owners(store.with_known_digests([one])) == ["anna"]
    store.remove("anna")
    assert store.enroll("ben", [copy, three]) == 2


def test_replace_moves_recordings_between_speakers(
    store: SpeakerStore, population: FeatureSet, select_speakers: Select
) -> None:
    pair = select_speakers(population, 60, 62)
    store.enroll_features(replace(pair, speakers=(*pair.speakers[:60], "061", "060", *pair.speakers[62:])))
    store.enroll_features(pair, "replace")
    assert store.nearest(population.features[[60 * 12, 61 * 12]], 1).names == [["060"], ["061"]]


def test_vector_identifies_a_recording_without_digest(
    store: SpeakerStore, population: FeatureSet, select_speakers: Select
) -> None:
    assert population.audio is None
    assert store.enroll_features(select_speakers(population, 60, 62)) == 24
    assert store.enroll_features(select_speakers(population, 60, 62), "add") == 0
    assert [each.n_recordings for each in store.speakers()] == [12, 12]


def test_short_recordings_are_skipped(
    store: SpeakerStore, population: FeatureSet, select_speakers: Select, caplog: pytest.LogCaptureFixture
) -> None:
    durations = torch.where(torch.arange(len(population)) % 3 == 0, 0.2, 2.0)
    assert store.enroll_features(select_speakers(replace(population, durations=durations), 60, 62)) == 16
    assert "Skipped 8 recordings shorter than 0.5 s" in caplog.text


def test_file_names_need_not_be_valid_text(store: SpeakerStore, recordings: Recordings) -> None:
    odd = [replace(recording, path="b\udcff.wav") for recording in recordings(65)]
    assert store.enroll("anna", odd) == 3
    for method in (store.remove, store.check_name):
        with pytest.raises(StoreError, match="cannot be a speaker's name"):
            method("\udcff")


@pytest.mark.parametrize(
    "name", ["", " anna", "anna\n", "\udcff", "unknown", "Unknown", "x" * 201, "a\x1b[31m", "nan", "N/A"]
)
def test_misleading_speaker_names_are_refused(name: str, store: SpeakerStore, recordings: Recordings) -> None:
    for existing in get_args(Existing):
        with pytest.raises(StoreError, match="cannot be a speaker's name"):
            store.enroll(name, recordings(65), existing)
    assert len(store) == 0


def test_speakers_of_earlier_stores_can_have_missing_names(
    store: SpeakerStore, recordings: Recordings, tmp_path: Path
) -> None:
    store.enroll("anna", recordings(65))
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE speakers SET name = 'nan'")
    connection.close()
    assert [each.name for each in store.speakers()] == ["nan"]
    store.check_name("nan")
    store.remove("nan")
    assert len(store) == 0


def test_any_other_speaker_name_is_accepted(
    store: SpeakerStore, population: FeatureSet, recordings: Recordings
) -> None:
    names = ["李雷", "O'Brien; DROP TABLE speakers", "a/b", "%_", "Zoë"]
    for speaker, name in enumerate(names, start=60):
        store.enroll(name, recordings(speaker))
    assert {each.name for each in store.speakers()} == set(names)
    assert store.nearest(population.features[[60 * 12 + 5]], 1).names == [["李雷"]]


COMPOSED, DECOMPOSED = "Zoë", unicodedata.normalize("NFD", "Zoë")


@pytest.mark.parametrize(("first", "second"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
@pytest.mark.parametrize("is_older", [False, True])
def test_names_in_either_unicode_form_are_one_speaker(
    first: str, second: str, is_older: bool, store: SpeakerStore, population: FeatureSet, recordings: Recordings
) -> None:
    assert store.enroll(first, recordings(60)) == 3
    if is_older:  # earlier versions stored names as they were given
        with sqlite3.connect(store.path) as connection:
            connection.execute("UPDATE speakers SET name = ?", [first])
        connection.close()
    with pytest.raises(StoreError, match="is enrolled already"):
        store.enroll(second, recordings(60))
    assert store.enroll(second, recordings(60, 4), "add") == 1
    assert [(each.name, each.n_recordings) for each in store.speakers()] == [("Zoë", 4)]
    assert store.owners(recordings(60)) == ["Zoë"] * 3
    assert store.nearest(population.features[[60 * 12 + 5]], 1).names == [["Zoë"]]
    for name in (first, second):
        assert store.verify(name, population.features[60 * 12 + 5]).same
    store.remove(second)
    assert len(store) == 0


def test_speakers_of_a_features_file_in_both_unicode_forms_are_one(
    store: SpeakerStore, population: FeatureSet, select_speakers: Select
) -> None:
    both = replace(population, speakers=(*population.speakers[:60], COMPOSED, DECOMPOSED, *population.speakers[62:]))
    assert enroll_feature_set(store, select_speakers(both, 60, 62)).failed == ()
    assert [(each.name, each.n_recordings) for each in store.speakers()] == [("Zoë", 24)]


def test_similar_names_are_warned_of_once(
    store: SpeakerStore, recordings: Recordings, caplog: pytest.LogCaptureFixture
) -> None:
    store.enroll("Ben Smith", recordings(60))
    store.enroll("anna", recordings(61))
    assert not caplog.records
    store.enroll("ben smith", recordings(62))
    store.enroll("ben smith", recordings(62, 4), "add")
    store.enroll("carl", recordings(63))
    [record] = caplog.records
    assert "equal except for case and spaces: 'Ben Smith' and 'ben smith'." in record.getMessage()


def test_features_file_enrols_all_speakers_or_none(
    store: SpeakerStore, population: FeatureSet, select_speakers: Select
) -> None:
    bad_last = replace(population, speakers=(*population.speakers[:-1], "unknown"))
    with pytest.raises(StoreError, match="'unknown' cannot be a speaker's name"):
        store.enroll_features(select_speakers(bad_last, 60, 80))
    assert len(store) == 0
    assert store.enroll_features(select_speakers(population, 60, 80)) == 240
    assert len(store) == 20


def test_features_with_nan_are_refused(store: SpeakerStore, population: FeatureSet, select_speakers: Select) -> None:
    store.enroll_features(select_speakers(population, 60, 65))
    damaged = replace(population, features=population.features.clone())
    damaged.features[3, 2] = torch.nan
    with pytest.raises(InputError, match=r"1 row contains NaN or infinity \(first: 3\.wav\)"):
        store.nearest_features(damaged)
    with pytest.raises(InputError, match="1 row contains NaN"):
        store.enroll_features(damaged, "replace")
    assert len(store) == 5


def test_features_of_another_encoder_are_refused(
    store: SpeakerStore, population: FeatureSet, select_speakers: Select
) -> None:
    foreign = replace(population, encoder={**population.encoder, "name": "another"})
    store.enroll_features(select_speakers(population, 60, 65))
    for method in (store.enroll_features, store.nearest_features):
        with pytest.raises(StoreError, match="features uses a different encoder or setting: name is 'another'"):
            method(foreign)
    assert len(store) == 5


def test_store_with_another_verifier_is_not_opened(
    store: SpeakerStore, population: FeatureSet, select_speakers: Select, plda_verifier: SpeakerVerifier
) -> None:
    store.enroll_features(select_speakers(population, 60, 65))
    other_encoder = replace(plda_verifier, encoder={**population.encoder, "name": "another"})
    with pytest.raises(StoreError, match="was made with the encoder 'made up' and the backend 'plda'"):
        SpeakerStore.create(store.path, other_encoder)
    with pytest.raises(StoreError, match=r"differs from the verifier of the store\. Use the store without --verifier"):
        SpeakerStore.create(store.path, SpeakerVerifier.train(select_speakers(population, 0, 60), "within"))
    with SpeakerStore.create(store.path, plda_verifier) as same:
        assert len(same) == 5


def test_store_with_another_encoder_is_not_merged(
    store: SpeakerStore,
    population: FeatureSet,
    select_speakers: Select,
    plda_verifier: SpeakerVerifier,
    tmp_path: Path,
) -> None:
    store.enroll_features(select_speakers(population, 60, 65))
    foreign = replace(population, encoder={**population.encoder, "name": "another"})
    with SpeakerStore.create(tmp_path / "theirs.db", replace(plda_verifier, encoder=foreign.encoder)) as other:
        other.enroll_features(select_speakers(foreign, 70, 75))
        with pytest.raises(StoreError, match=r"theirs\.db uses a different encoder or setting: name is 'another'"):
            store.merge(other)
        assert (len(store), len(other)) == (5, 5)


def test_merge_equals_one_enrolment(
    store: SpeakerStore, population: FeatureSet, select_speakers: Select, tmp_path: Path
) -> None:
    store.enroll_features(select_speakers(population, 60, 65, every=2))
    within = SpeakerVerifier.train(select_speakers(population, 0, 60), "within")
    with SpeakerStore.create(tmp_path / "within.db", within) as other:
        other.enroll_features(select_speakers(population, 64, 70))
        with pytest.raises(StoreError, match="'064' is enrolled already"):
            store.merge(other)
        assert len(store) == 5
        store.merge(other, "replace")
    with SpeakerStore.create(tmp_path / "at_once.db", store.verifier) as expected:
        expected.enroll_features(select_speakers(population, 60, 64, every=2))
        expected.enroll_features(select_speakers(population, 64, 70))
        probes = population.features[::7]
        assert torch.equal(store.nearest(probes, 1).scores, expected.nearest(probes, 1).scores)
    with SpeakerStore.open(store.path) as same, pytest.raises(StoreError, match="cannot be merged with itself"):
        store.merge(same)
