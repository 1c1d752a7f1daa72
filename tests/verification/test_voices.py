"""`Voices`: exporting a store to a file for numpy, and enrolling from it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from features import FeatureSet
from files import InputError, describe_file
from verification import Recording, SpeakerStore, SpeakerVerifier, StoreError, Voices, enroll_voices, is_voices

Select = Callable[..., FeatureSet]
Recordings = Callable[..., list[Recording]]


@pytest.fixture
def exported(store: SpeakerStore, population: FeatureSet, select_speakers: Select, tmp_path: Path) -> Path:
    """Return the exported file of five speakers."""
    store.enroll_features(select_speakers(population, 60, 65))
    return store.voices().save(tmp_path / "voices.npz")


def test_numpy_reads_the_exported_file_without_pickle(
    exported: Path, store: SpeakerStore, population: FeatureSet, plda_verifier: SpeakerVerifier
) -> None:
    with np.load(exported, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    assert arrays["speakers"].tolist() == [each.name for each in store.speakers()]
    assert [int(count) for count in np.bincount(arrays["labels"])] == [12] * 5
    of_first = [each.path for each in store.recordings("060")]
    assert arrays["ids"][arrays["labels"] == 0].tolist() == of_first
    rows = [population.ids.index(name) for name in arrays["ids"].tolist()]
    assert np.array_equal(arrays["features"], population.features[rows].numpy())
    # The models are those that the store scores with.
    backend, probes = plda_verifier.backend, population.features[::50]
    models, counts = torch.from_numpy(arrays["models"]), torch.full((5,), 12)
    expected = backend.score_speakers(backend.embed(probes), models, counts)
    found = store.nearest(probes, 5)
    for row, names in enumerate(found.names):
        order = [arrays["speakers"].tolist().index(name) for name in names]
        torch.testing.assert_close(found.scores[row], expected[row, order], rtol=1e-5, atol=1e-4)


def test_enrolment_from_the_exported_file_equals_the_store(
    exported: Path, store: SpeakerStore, population: FeatureSet, recordings: Recordings, tmp_path: Path
) -> None:
    voices = Voices.load(exported)
    with SpeakerStore.create(tmp_path / "other.db", store.verifier) as other:
        assert enroll_voices(other, voices).n_added == 60
        assert torch.equal(
            other.nearest(population.features[::9], 2).scores, store.nearest(population.features[::9], 2).scores
        )
        with pytest.raises(StoreError, match="'060' is enrolled already"):
            enroll_voices(other, voices)
        again = enroll_voices(other, voices, "add")
        assert (again.n_added, len(again.skipped)) == (0, 60)
        # A recording is known by its digest, also where its embedding differs.
        moved = replace(recordings(60, 1)[0], digest=other.recordings("060")[0].digest, vector=torch.ones(12))
        assert other.owners([moved]) == ["060"]


def test_the_exported_file_is_a_features_file(exported: Path, population: FeatureSet) -> None:
    features = FeatureSet.load(exported)
    assert (len(features), features.speakers, features.encoder) == (
        60,
        tuple(population.speakers[60:65]),
        population.encoder,
    )
    assert is_voices(exported)
    assert str(describe_file(exported)).startswith("a file of exported speakers")
    assert not is_voices(population.save(exported.with_name("features.npz")))


def test_voices_of_another_encoder_are_refused_by_name(
    exported: Path, plda_verifier: SpeakerVerifier, population: FeatureSet, tmp_path: Path
) -> None:
    voices = Voices.load(exported)
    foreign = replace(plda_verifier, encoder={**population.encoder, "name": "another"})
    with SpeakerStore.create(tmp_path / "foreign.db", foreign) as other:
        with pytest.raises(StoreError, match=r"uses the encoder 'another', but a\.npz uses a different .* 'made up'"):
            enroll_voices(other, voices, source="a.npz")
        with pytest.raises(StoreError, match=r"max_duration is 3\.0 in a\.npz, None in the store"):
            enroll_voices(other, replace(voices, encoder=foreign.encoder, crop=3.0), source="a.npz")
        assert len(other) == 0


def test_names_that_no_speaker_can_have_fail_alone(exported: Path, store: SpeakerStore, tmp_path: Path) -> None:
    voices = Voices.load(exported)
    (_, first), *others = voices.speakers
    with SpeakerStore.create(tmp_path / "other.db", store.verifier) as other:
        result = enroll_voices(other, replace(voices, speakers=(("unknown", first), *others)))
        assert (result.n_added, len(result.failed), len(other)) == (48, 12, 4)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("models", lambda values: values[:-1]),
        ("models", lambda values: values * np.nan),
        ("labels", lambda values: values - 1),
        ("labels", lambda values: np.minimum(values, 3)),
        ("labels", lambda values: values[:-1]),
        ("features", lambda values: values[:, :-1]),
        ("features", lambda values: values * np.inf),
        ("digests", lambda values: values[:, :-1]),
        ("durations", lambda values: values[:-1]),
        ("ids", lambda values: values[:-1]),
        ("speakers", lambda values: np.arange(len(values))),
        ("about", lambda _: np.array('{"format": 1}')),
    ],
)
def test_damaged_files_are_refused(name: str, change: Callable[[np.ndarray], np.ndarray], exported: Path) -> None:
    with np.load(exported, allow_pickle=False) as file:
        arrays = {each: file[each] for each in file.files}
    np.savez(exported, **{**arrays, name: change(arrays[name])})
    with pytest.raises(StoreError, match=r"voices\.npz: this is not a file of exported speakers, .* or it is damaged"):
        Voices.load(exported)


def test_other_files_are_refused(exported: Path, population: FeatureSet) -> None:
    features = population.save(exported.with_name("features.npz"))
    with pytest.raises(StoreError, match=r"features\.npz: this is not a file of exported speakers, .* it is an \.npz"):
        Voices.load(features)
    with pytest.raises(StoreError, match=r"missing\.npz: no such file"):
        Voices.load(exported.with_name("missing.npz"))
    objects = exported.with_name("objects.npz")
    np.savez(objects, models=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="it holds Python objects, which are never loaded"):
        Voices.load(objects)


def test_background_recordings_are_exported_too(recordings: Recordings, tmp_path: Path) -> None:
    ready = SpeakerVerifier.ready()
    random = torch.Generator().manual_seed(0)
    made = [
        Recording(path=f"{number}.wav", digest=bytes([number]) * 32, seconds=0.0 if number else 2.5, vector=vector)
        for number, vector in enumerate(torch.randn(6, 192, generator=random))
    ]
    with SpeakerStore.create(tmp_path / "ready.db", ready) as store:
        store.enroll("anna", made[:2])
        store.enroll("ben", made[2:3])
        store.add_background(made[3:])
        voices = Voices.load(store.voices().save(tmp_path / "voices.npz"))
        with SpeakerStore.create(tmp_path / "other.db", ready) as other:
            enroll_voices(other, voices)
            assert other.own_calibration() == store.own_calibration()
            assert [each.seconds for each in other.speakers()] == [2.5, 0.0]
