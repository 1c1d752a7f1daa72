"""`SpeakerStore.remove_recording`: one recording of a speaker is forgotten."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from corpora import Utterance
from embedding import Row
from features import FeatureSet
from verification import Recording, SpeakerStore, SpeakerVerifier, StoreError

Recordings = Callable[..., list[Recording]]
Select = Callable[..., FeatureSet]


def test_removing_a_recording_equals_never_enrolling_it(
    store: SpeakerStore, population: FeatureSet, recordings: Recordings, tmp_path: Path
) -> None:
    one, two, three = recordings(65)
    store.enroll("ben", recordings(66))
    store.enroll("anna", [one, two, three])
    assert store.remove_recording("anna", two.path) == 1
    assert [each.path for each in store.recordings("anna")] == [one.path, three.path]
    with SpeakerStore.create(tmp_path / "expected.db", store.verifier) as expected:
        expected.enroll("anna", [one, three])
        expected.enroll("ben", recordings(66))
        probes = population.features[::40]
        assert torch.equal(store.nearest(probes, 2).scores, expected.nearest(probes, 2).scores)
        assert [(each.name, each.n_recordings, each.seconds) for each in store.speakers()] == [
            (each.name, each.n_recordings, each.seconds) for each in expected.speakers()
        ]
    assert store.enroll("ben", [two], "add") == 1  # it can be enrolled again


def test_the_calibration_is_that_of_the_recordings_that_are_left(tmp_path: Path) -> None:
    ready, random = SpeakerVerifier.ready(), torch.Generator().manual_seed(0)
    made = [
        Recording(path=f"{number}.wav", digest=bytes([number]) * 32, seconds=4.0, vector=vector)
        for number, vector in enumerate(torch.randn(8, 192, generator=random) + 0.5)
    ]
    with (
        SpeakerStore.create(tmp_path / "one.db", ready) as store,
        SpeakerStore.create(tmp_path / "other.db", ready) as expected,
    ):
        for number, name in enumerate(("anna", "ben", "cleo", "dora")):
            store.enroll(name, made[2 * number : 2 * number + 2])
            expected.enroll(name, made[2 * number : 2 * number + (1 if name == "ben" else 2)])
        assert store.own_calibration() != expected.own_calibration()
        store.remove_recording("ben", "3.wav")
        assert store.own_calibration() == expected.own_calibration()


def test_nothing_of_the_recording_stays_in_the_file(
    store: SpeakerStore, population: FeatureSet, select_speakers: Select
) -> None:
    def is_in_file(recording: Recording) -> list[bool]:
        content = store.path.read_bytes()
        # Eight numbers of the vector, so that a part that a page boundary cuts off is found too.
        vector = recording.vector.numpy().astype("<f4").tobytes()
        return [each in content for each in (vector[:32], vector[-32:], recording.digest, recording.path.encode())]

    long = [f"a recording with a name of its own {number}.wav" for number in range(len(population))]
    store.enroll_features(select_speakers(replace(population, ids=tuple(long)), 0, 60))
    speakers = [each.name for each in store.speakers()]
    forgotten = []
    for number, name in enumerate(speakers):
        for recording in store.recordings(name)[number % 5 :: 4]:
            assert all(is_in_file(recording))
            store.remove_recording(name, recording.path)
            forgotten.append(recording)
    assert len(forgotten) > 150
    assert not any(any(is_in_file(recording)) for recording in forgotten)
    store.remove(speakers[0])
    assert len(store) == 59


def test_the_last_recording_of_a_speaker_stays(store: SpeakerStore, recordings: Recordings) -> None:
    one, two, _ = recordings(65)
    store.enroll("anna", [one])
    with pytest.raises(
        StoreError, match=f"'anna' has no other recording than {one.path}. To remove the speaker, leave"
    ):
        store.remove_recording("anna", one.path)
    store.enroll("anna", [two], "add")
    with pytest.raises(StoreError, match=r"'anna' has no recording 'x\.wav'; perhaps you meant .* Choose one of: "):
        store.remove_recording("anna", "x.wav")
    with pytest.raises(StoreError, match="There is no enrolled speaker 'ann'; perhaps you meant 'anna'"):
        store.remove_recording("ann", one.path)
    assert store.speakers()[0].n_recordings == 2


def test_a_recording_is_found_by_any_path_of_its_file(
    store: SpeakerStore,
    population: FeatureSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "calls").mkdir()
    paths = [tmp_path / "calls" / f"{number}.wav" for number in range(4)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 9)
    rows = [Row(Utterance(path, "anna", ""), vector=vector, seconds=2.0) for path, vector in
            zip(paths, population.features, strict=False)]  # fmt: skip
    part = Row(Utterance(paths[0], "anna", "", start=1.5, channel=1), vector=population.features[9], seconds=1.0)
    store.enroll("anna", [Recording.of(row) for row in (*rows, part)])
    monkeypatch.chdir(tmp_path)
    copy = Path(shutil.copy(paths[2], tmp_path / "elsewhere.wav"))
    for given in (str(paths[0]), "calls/1.wav", str(copy), f"{paths[0]}#1.5-#channel1"):
        assert store.remove_recording("anna", given) == 1
    assert [each.path for each in store.recordings("anna")] == [str(paths[3])]


def test_recordings_with_one_name_are_all_removed(store: SpeakerStore, recordings: Recordings) -> None:
    one, two, three = recordings(65)
    store.enroll("anna", [one, replace(two, path="a.wav"), replace(three, path="a.wav")])
    assert store.remove_recording("anna", "a.wav") == 2
    assert [each.path for each in store.recordings("anna")] == [one.path]
