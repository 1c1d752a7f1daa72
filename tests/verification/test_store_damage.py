"""`SpeakerStore`: files that are damaged, manipulated, or no store at all."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features import FeatureSet
from files import InputError
from verification import Recording, SpeakerStore, SpeakerVerifier, StoreError, VerifierError


@pytest.fixture(scope="module")
def store_bytes(
    plda_verifier: SpeakerVerifier,
    population: FeatureSet,
    select_speakers: Callable[..., FeatureSet],
    tmp_path_factory: pytest.TempPathFactory,
) -> bytes:
    """Return the bytes of a store of 20 speakers."""
    path = tmp_path_factory.mktemp("store") / "speakers.db"
    with SpeakerStore.create(path, plda_verifier) as store:
        store.enroll_features(select_speakers(population, 60, 80))
    return path.read_bytes()


def read_store(path: Path, probes: torch.Tensor) -> None:
    """Do all that only reads a store, except its recordings."""
    with SpeakerStore.open(path) as store:
        store.speakers()
        store.nearest(probes)
        store.verify("065", probes[0])


def change_store(path: Path, probes: torch.Tensor) -> None:
    """Do all that reads or writes a store, including its recordings."""
    read_store(path, probes)
    with SpeakerStore.open(path) as store:
        with SpeakerStore.create(path.with_name("merged.db"), store.verifier) as merged:
            merged.merge(store)
        store.enroll("060", [Recording(path="new.wav", digest=b"new", seconds=1.0, vector=probes[1])], "add")
        store.remove("061")


def error_of(work: Callable[[Path, torch.Tensor], None], path: Path, probes: torch.Tensor) -> str:
    """Return the sentence with which a file is refused, or an empty string; any other error is raised."""
    try:
        work(path, probes)
    except InputError as error:
        return str(error)
    return ""


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_random_damage_is_refused_in_one_sentence_or_harmless(
    data: st.DataObject, store_bytes: bytes, population: FeatureSet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damage") / "speakers.db"
    content = bytearray(store_bytes)
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(1, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 200))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    message = error_of(read_store, path, population.features[:4])
    assert "\n" not in message
    assert not message or "speakers.db" in message
    assert path.read_bytes() == bytes(content)  # reading changes nothing
    assert "\n" not in error_of(change_store, path, population.features[:4])


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_store_is_refused(share: float, store_bytes: bytes, population: FeatureSet, tmp_path: Path) -> None:
    path = tmp_path / "speakers.db"
    path.write_bytes(store_bytes[: int(share * len(store_bytes))])
    with pytest.raises(StoreError, match=r"speakers\.db: this is not a store of speakers, or it is damaged"):
        read_store(path, population.features[:4])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("CREATE TRIGGER t AFTER DELETE ON speakers BEGIN DELETE FROM recordings; END", "its tables are not those"),
        ("ALTER TABLE speakers ADD COLUMN extra", "its tables are not those"),
        ("DROP TABLE recordings", "its tables are not those"),
        ("DELETE FROM store", "it has no verifier"),
        ("UPDATE store SET verifier = 'text'", "it has no verifier"),
        ("UPDATE store SET verifier = zeroblob(100)", "not a speaker verifier"),
        ("UPDATE speakers SET model = zeroblob(3)", "a vector does not have the expected .* numbers"),
        ("UPDATE speakers SET model = 'text'", "a vector does not have the expected .* numbers"),
        ("UPDATE speakers SET n_recordings = 0 WHERE id = 3", "a speaker has no recordings"),
        ("UPDATE speakers SET n_recordings = 'two'", "a row of the table speakers has values of unexpected types"),
        ("UPDATE speakers SET seconds = 'long'", "a row of the table speakers has values of unexpected types"),
        ("UPDATE speakers SET name = CAST(id AS BLOB)", "a row of the table speakers has values of unexpected types"),
        ("UPDATE speakers SET name = CAST(x'ff' || id AS TEXT)", "it is damaged .Could not decode"),
        ("UPDATE recordings SET seconds = 'long'", "row of the table recordings has values of unexpected"),
        (
            "UPDATE recordings SET path = CAST(path AS BLOB)",
            "row of the table recordings has values of unexpected",
        ),
        ("UPDATE recordings SET digest = 'text' || id", "row of the table recordings has values of unexpected"),
        ("UPDATE recordings SET vector = 'text'", "does not have the expected .* numbers|values of unexpected types"),
        ("UPDATE speakers SET name = 'unknown' WHERE id = 3", "'unknown' cannot be a speaker's name"),
        ("UPDATE speakers SET name = char(27) || '[31m' WHERE id = 3", "cannot be a speaker's name"),
        ("PRAGMA user_version = 7", "has the format 7; expected 1"),
        ("PRAGMA application_id = 7", "this is not a store of speakers"),
    ],
)
def test_manipulated_store_is_refused(
    damage: str, message: str, store_bytes: bytes, population: FeatureSet, tmp_path: Path
) -> None:
    path = tmp_path / "speakers.db"
    path.write_bytes(store_bytes)
    with sqlite3.connect(path) as connection:
        connection.execute(damage)
    connection.close()
    with pytest.raises(InputError, match=message):
        change_store(path, population.features[:4])


def test_invalid_verifier_in_a_store_is_refused(plda_verifier: SpeakerVerifier, tmp_path: Path) -> None:
    broken = replace(plda_verifier, encoder={**plda_verifier.encoder, "options": 3})
    with pytest.raises(VerifierError, match=r"s\.db: this is not a speaker verifier.*its encoder is not a spec"):
        SpeakerStore.create(tmp_path / "s.db", broken)


def test_stored_nan_is_refused(store_bytes: bytes, population: FeatureSet, tmp_path: Path) -> None:
    path = tmp_path / "speakers.db"
    path.write_bytes(store_bytes)
    with sqlite3.connect(path) as connection:
        size = connection.execute("SELECT length(model) FROM speakers").fetchone()[0]
        connection.execute("UPDATE speakers SET model = ? WHERE id = 5", [np.full(size // 4, np.nan, "<f4").tobytes()])
    connection.close()
    with pytest.raises(StoreError, match="a vector holds NaN or infinity"):
        read_store(path, population.features[:4])


def test_other_files_are_refused_and_unchanged(plda_verifier: SpeakerVerifier, tmp_path: Path) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.db"
    text.write_text("not a store, and longer than the header of one\n" * 50)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    for path in (text, other):
        before = path.read_bytes()
        with pytest.raises(StoreError, match="this is not a store of speakers"):
            SpeakerStore.open(path)
        with pytest.raises(StoreError, match="this is not a store of speakers"):
            SpeakerStore.create(path, plda_verifier)
        assert path.read_bytes() == before


def test_impossible_paths_are_refused(plda_verifier: SpeakerVerifier, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.db: no such file. Expected a store of speakers"):
        SpeakerStore.open(tmp_path / "none.db")
    with pytest.raises(StoreError, match=r"this is a folder\. Expected a store"):
        SpeakerStore.open(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(StoreError, match=r"notes\.txt.*cannot be written|cannot be used"):
        SpeakerStore.create(tmp_path / "notes.txt" / "speakers.db", plda_verifier)
