"""`SpeakerStore`: enrolled, asked, merged, damaged, written by several, killed."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio import InputError
from corpora import Corpus, Utterance
from encoders import Encoder
from features import FeatureSet, Row
from heads import UNKNOWN
from verification import Recording, SpeakerStore, SpeakerVerifier, StoreError, VerifierError

Voices = Callable[..., FeatureSet]
ROOT = Path(__file__).parents[2]


def part(features: FeatureSet, first: int, last: int, every: int = 1) -> FeatureSet:
    chosen = (features.labels >= first) & (features.labels < last)
    return features.select((chosen & (torch.arange(len(features)) % every == 0)).numpy())


def recordings(features: FeatureSet, speaker: int, count: int = 3) -> list[Recording]:
    rows = (features.labels == speaker).nonzero().flatten().tolist()[:count]
    return [Recording(features.ids[row], bytes([row % 256, row // 256]), 1.0, features.features[row]) for row in rows]


@pytest.fixture(scope="module")
def everyone(voices: Voices) -> FeatureSet:
    return voices(n_speakers=80)


@pytest.fixture(scope="module")
def verifier(everyone: FeatureSet) -> SpeakerVerifier:
    return SpeakerVerifier.train(part(everyone, 0, 60), "plda")


@pytest.fixture
def store(verifier: SpeakerVerifier, tmp_path: Path) -> Iterator[SpeakerStore]:
    with SpeakerStore.create(tmp_path / "speakers.db", verifier) as store:
        yield store


def test_the_enrolled_are_named_and_strangers_are_not(store: SpeakerStore, everyone: FeatureSet) -> None:
    for speaker in range(60, 70):
        store.enroll(everyone.speakers[speaker], recordings(everyone, speaker, 4))
    probes = everyone.select((everyone.labels >= 60) & (torch.arange(len(everyone)) % 12 >= 4))
    found = store.nearest_features(probes, 3)
    right = np.array([names[0] for names in found.names]) == np.array(probes.speakers)[probes.labels.numpy()]
    assert right[probes.labels < 70].mean() > 0.95
    known = store.verifier.open_set.probabilities(found.llrs[:, 0].numpy(), 0.5, found.n_speakers) >= 0.5
    assert known[probes.labels < 70].mean() > 0.75
    assert known[probes.labels >= 70].mean() < 0.25
    assert [len(names) for names in found.names] == [3] * len(probes)
    assert (found.llrs.diff(dim=1) <= 0).all()


def test_files_are_named_and_bad_ones_do_not_stop_the_others(
    corpus: Corpus, features: FeatureSet, spectral: Encoder, write_audio: Callable[..., Path], tmp_path: Path
) -> None:
    by_ear = SpeakerVerifier.train(features, "cosine")
    good = [utterance.path for utterance in corpus.utterances]
    short = write_audio(tmp_path / "short.wav", seconds=0.3)
    with SpeakerStore.create(tmp_path / "s.db", by_ear) as store:
        for name, rows in (("anna", good[:5]), ("ben", good[10:15])):
            heard = by_ear.listen([Utterance(path, "", "") for path in rows], spectral)
            store.enroll(name, [Recording.of(row) for row in heard])
        assert [(each.name, each.n_recordings) for each in store.speakers()] == [("anna", 5), ("ben", 5)]
        assert store.speakers()[0].seconds == pytest.approx(3.5, abs=0.1)
        paths = [good[7], short, tmp_path / "none.wav", good[17]]
        first, *bad, last = store.identify_files(paths, spectral, top_k=2)
        assert (first.speakers[0], last.speakers[0]) == ("anna", "ben")
        assert sum(first.probabilities) <= 1 + 1e-6
        assert "give 0.5 or more" in str(bad[0].error)
        assert bad[1].error == "no such file"
        # At other prior odds the same voices are strangers; all shares together are 1.
        stranger, known = (store.identify_files(paths[:1], spectral, 3, p_known)[0] for p_known in (1e-9, 1 - 1e-9))
        assert stranger.speakers[0] == UNKNOWN
        assert set(stranger.speakers) == set(known.speakers) == {"anna", "ben", UNKNOWN}
        assert known.speakers[0] == "anna"
        for prediction in (stranger, known):
            assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)
            assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-5)
        [vector] = by_ear.vectors([good[8]], spectral)
        mine, others = store.verify("anna", vector), store.verify("ben", vector)
        assert mine.same
        assert mine.score > others.score
        assert store.verify("anna", vector, 0.001).probability < mine.probability
        with pytest.raises(StoreError, match="'ann' is not enrolled; perhaps you meant 'anna'"):
            store.verify("ann", vector)


@pytest.mark.parametrize("block", [1, 7, 1_000])
@pytest.mark.parametrize("backend", ["cosine", "plda"])
def test_blocks_answer_as_one_product_does(
    block: int, backend: str, everyone: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verification.store.SPEAKERS", block)
    by_one = SpeakerVerifier.train(part(everyone, 0, 60), backend)
    enrolled, probes = part(everyone, 60, 80, every=4), part(everyone, 60, 80, every=5)
    with SpeakerStore.create(tmp_path / "s.db", by_one) as store:
        store.enroll_features(enrolled)
        found = store.nearest_features(probes, 6)
    mapped = by_one.backend.embed(enrolled.features)
    models = torch.stack([by_one.backend.combine(mapped[enrolled.labels == speaker]) for speaker in range(60, 80)])
    counts = torch.bincount(enrolled.labels)[60:]
    scores = by_one.backend.score_speakers(by_one.backend.embed(probes.features), models, counts)
    best = scores.sort(dim=1, descending=True)
    assert found.names == [[everyone.speakers[60 + column] for column in row] for row in best.indices[:, :6].tolist()]
    torch.testing.assert_close(found.scores, best.values[:, :6], rtol=1e-4, atol=1e-4)
    llrs = torch.from_numpy(by_one.calibration.llrs(scores.numpy(), counts.numpy()))
    torch.testing.assert_close(found.total, llrs.logsumexp(1).float(), rtol=1e-4, atol=1e-3)


def test_recordings_count_whenever_they_came(everyone: FeatureSet, verifier: SpeakerVerifier, tmp_path: Path) -> None:
    one, two, three = recordings(everyone, 65)
    answers = []
    for number, steps in enumerate(([[one, two, three]], [[three], [two, one]], [[two], [three], [one, one]])):
        with SpeakerStore.create(tmp_path / f"{number}.db", verifier) as store:
            for step in steps:
                store.enroll("anna", step, "add")
            store.enroll("ben", recordings(everyone, 66))
            answers.append(store.nearest(everyone.features[:50], 1).scores)
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_enrolling_again_is_explicit(store: SpeakerStore, everyone: FeatureSet) -> None:
    one, two, three = recordings(everyone, 65)
    assert store.enroll("anna", [one]) == 1
    before = store.nearest(everyone.features[:9], 1).scores
    with pytest.raises(StoreError, match=r"'anna' is enrolled already\. Say --existing add"):
        store.enroll("anna", [two])
    assert torch.equal(store.nearest(everyone.features[:9], 1).scores, before)
    assert store.enroll("anna", [one, two], "add") == 1
    assert store.speakers()[0].n_recordings == 2
    assert store.enroll("anna", [three], "replace") == 1
    assert store.speakers()[0].n_recordings == 1
    with pytest.raises(StoreError, match=r"is to be 'ben', is enrolled as 'anna' already; nobody was enrolled"):
        store.enroll("ben", [one, three])
    assert len(store) == 1
    store.remove("anna")
    assert store.enroll("ben", [one, three]) == 2  # nothing is left of anna


def test_replacing_all_moves_recordings_from_one_to_another(store: SpeakerStore, everyone: FeatureSet) -> None:
    pair = part(everyone, 60, 62)
    store.enroll_features(replace(pair, speakers=(*pair.speakers[:60], "061", "060", *pair.speakers[62:])))
    store.enroll_features(pair, "replace")
    assert store.nearest(everyone.features[[60 * 12, 61 * 12]], 1).names == [["060"], ["061"]]


def test_what_has_no_digest_is_known_by_its_vector(store: SpeakerStore, everyone: FeatureSet) -> None:
    assert everyone.audio is None
    assert store.enroll_features(part(everyone, 60, 62)) == 24
    assert store.enroll_features(part(everyone, 60, 62), "add") == 0
    assert [each.n_recordings for each in store.speakers()] == [12, 12]


def test_short_recordings_are_left_out(
    store: SpeakerStore, everyone: FeatureSet, caplog: pytest.LogCaptureFixture
) -> None:
    durations = torch.where(torch.arange(len(everyone)) % 3 == 0, 0.2, 2.0)
    assert store.enroll_features(part(replace(everyone, durations=durations), 60, 62)) == 16
    assert "8 recordings of less than 0.5 s are left out" in caplog.text


def test_many_more_speakers_than_were_calibrated_for_are_told_of(
    everyone: FeatureSet, verifier: SpeakerVerifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert verifier.training["most_speakers"] == 15  # half of those that calibrate
    with SpeakerStore.create(tmp_path / "s.db", verifier) as store:
        row = Row(Utterance(Path("x.wav"), "", ""), everyone.features[-1])
        store.enroll_features(part(everyone, 60, 75))
        store.identify([row])
        assert not caplog.text
        store.enroll_features(part(everyone, 75, 80))
        store.identify([row])
        assert "calibrated for up to 15 speakers, 20 are enrolled" in caplog.text


def test_files_whose_names_are_no_text_are_enrolled(store: SpeakerStore, everyone: FeatureSet) -> None:
    odd = [replace(recording, path="b\udcff.wav") for recording in recordings(everyone, 65)]
    assert store.enroll("anna", odd) == 3
    for ask in (store.remove, store.check_name):
        with pytest.raises(StoreError, match="cannot be a speaker's name"):
            ask("\udcff")


@pytest.mark.parametrize("name", ["", " anna", "anna\n", "unknown", "Unknown", "x" * 201, "a\x1b[31m"])
def test_names_that_could_be_mistaken_are_refused(name: str, store: SpeakerStore, everyone: FeatureSet) -> None:
    with pytest.raises(StoreError, match="cannot be a speaker's name"):
        store.enroll(name, recordings(everyone, 65))
    assert len(store) == 0


def test_any_other_name_will_do(store: SpeakerStore, everyone: FeatureSet) -> None:
    names = ["李雷", "O'Brien; DROP TABLE speakers", "a/b", "%_", "Zoë"]
    for speaker, name in enumerate(names, start=60):
        store.enroll(name, recordings(everyone, speaker))
    assert {each.name for each in store.speakers()} == set(names)
    assert store.nearest(everyone.features[[60 * 12 + 5]], 1).names == [["李雷"]]


def test_all_speakers_of_a_file_are_enrolled_or_none(store: SpeakerStore, everyone: FeatureSet) -> None:
    bad_last = replace(everyone, speakers=(*everyone.speakers[:-1], "unknown"))
    with pytest.raises(StoreError, match="'unknown' cannot be a speaker's name"):
        store.enroll_features(part(bad_last, 60, 80))
    assert len(store) == 0
    assert store.enroll_features(part(everyone, 60, 80)) == 240
    assert len(store) == 20


def test_another_encoder_is_refused(
    store: SpeakerStore, everyone: FeatureSet, verifier: SpeakerVerifier, tmp_path: Path
) -> None:
    foreign = replace(everyone, encoder={**everyone.encoder, "name": "another"})
    store.enroll_features(part(everyone, 60, 65))
    for ask in (store.enroll_features, store.nearest_features):
        with pytest.raises(StoreError, match="by another: name is 'another' there, 'made up' here"):
            ask(foreign)
    theirs = replace(verifier, encoder=foreign.encoder)
    with pytest.raises(StoreError, match="was made with the encoder 'made up' and the backend 'plda'"):
        SpeakerStore.create(store.path, theirs)
    with pytest.raises(StoreError, match=r"Its verifier is another\. Leave the verifier out"):
        SpeakerStore.create(store.path, SpeakerVerifier.train(part(everyone, 0, 60), "within"))
    with SpeakerStore.create(tmp_path / "theirs.db", theirs) as other:
        other.enroll_features(part(foreign, 70, 75))
        with pytest.raises(StoreError, match=r"those of .*theirs\.db by another: name is 'another' there"):
            store.merge(other)
        assert (len(store), len(other)) == (5, 5)
    with SpeakerStore.create(store.path, verifier) as again:
        assert len(again) == 5


def test_stores_are_merged(store: SpeakerStore, everyone: FeatureSet, tmp_path: Path) -> None:
    store.enroll_features(part(everyone, 60, 65, every=2))
    with SpeakerStore.create(tmp_path / "within.db", SpeakerVerifier.train(part(everyone, 0, 60), "within")) as other:
        other.enroll_features(part(everyone, 64, 70))
        with pytest.raises(StoreError, match="'064' is enrolled already"):
            store.merge(other)
        assert len(store) == 5
        store.merge(other, "replace")
    with SpeakerStore.create(tmp_path / "at_once.db", store.verifier) as expected:
        expected.enroll_features(part(everyone, 60, 64, every=2))
        expected.enroll_features(part(everyone, 64, 70))
        probes = everyone.features[::7]
        assert torch.equal(store.nearest(probes, 1).scores, expected.nearest(probes, 1).scores)
    with SpeakerStore.open(store.path) as itself, pytest.raises(StoreError, match="cannot be merged with itself"):
        store.merge(itself)


def test_an_empty_store_says_so(store: SpeakerStore, everyone: FeatureSet) -> None:
    assert store.speakers() == []
    with pytest.raises(StoreError, match=r"speakers\.db: nobody is enrolled here. Enrol speakers"):
        store.nearest_features(everyone)
    with pytest.raises(StoreError, match="'anna' is not enrolled; the command list"):
        store.remove("anna")
    with pytest.raises(StoreError, match="There is no recording to enrol 'anna' by"):
        store.enroll("anna", [])
    with pytest.raises(StoreError, match="top_k is 0"):
        store.nearest(everyone.features, 0)


def test_a_probe_that_is_no_number_is_refused(store: SpeakerStore, everyone: FeatureSet) -> None:
    store.enroll_features(part(everyone, 60, 65))
    spoiled = replace(everyone, features=everyone.features.clone())
    spoiled.features[3, 2] = torch.nan
    with pytest.raises(InputError, match=r"1 rows hold NaN or infinity, the first is that of 3\.wav"):
        store.nearest_features(spoiled)
    with pytest.raises(InputError, match="1 rows hold NaN"):
        store.enroll_features(spoiled, "replace")
    assert len(store) == 5


@pytest.fixture(scope="module")
def filled(verifier: SpeakerVerifier, everyone: FeatureSet, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a store of 20 speakers."""
    path = tmp_path_factory.mktemp("store") / "speakers.db"
    with SpeakerStore.create(path, verifier) as store:
        store.enroll_features(part(everyone, 60, 80))
    return path.read_bytes()


def use(path: Path, probes: torch.Tensor) -> None:
    with SpeakerStore.open(path) as store:
        store.speakers()
        store.nearest(probes)
        store.verify("065", probes[0])


def change(path: Path, probes: torch.Tensor) -> None:
    """Do all that reads or writes the recordings too."""
    use(path, probes)
    with SpeakerStore.open(path) as store:
        with SpeakerStore.create(path.with_name("merged.db"), store.verifier) as merged:
            merged.merge(store)
        store.enroll("060", [Recording("new.wav", b"new", 1.0, probes[1])], "add")
        store.remove("061")


def refusal(work: Callable[[Path, torch.Tensor], None], path: Path, probes: torch.Tensor) -> InputError | str:
    """Return the sentence that a file is refused in, if it is; any other error is passed on."""
    try:
        work(path, probes)
    except InputError as error:
        return error
    return ""


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_cut_or_scratched_file_is_refused_in_a_sentence_or_answers(
    data: st.DataObject, filled: bytes, everyone: FeatureSet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damage") / "speakers.db"
    content = bytearray(filled)
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(1, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 200))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    told = str(refusal(use, path, everyone.features[:4]))
    assert "\n" not in told
    assert not told or "speakers.db" in told
    assert path.read_bytes() == bytes(content)  # looking changes nothing
    assert "\n" not in str(refusal(change, path, everyone.features[:4]))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_store_is_refused(share: float, filled: bytes, everyone: FeatureSet, tmp_path: Path) -> None:
    path = tmp_path / "speakers.db"
    path.write_bytes(filled[: int(share * len(filled))])
    with pytest.raises(StoreError, match=r"speakers\.db: this is not a store of speakers, or it is damaged"):
        use(path, everyone.features[:4])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("CREATE TRIGGER t AFTER DELETE ON speakers BEGIN DELETE FROM recordings; END", "other tables"),
        ("ALTER TABLE speakers ADD COLUMN extra", "other tables"),
        ("DROP TABLE recordings", "other tables"),
        ("DELETE FROM store", "it has no verifier"),
        ("UPDATE store SET verifier = 'text'", "it has no verifier"),
        ("UPDATE store SET verifier = zeroblob(100)", "not a speaker verifier"),
        ("UPDATE speakers SET model = zeroblob(3)", "has not the .* numbers"),
        ("UPDATE speakers SET model = 'text'", "has not the .* numbers"),
        ("UPDATE speakers SET n_recordings = 0 WHERE id = 3", "a speaker has no recordings"),
        ("UPDATE speakers SET n_recordings = 'two'", "a speaker's row has other values"),
        ("UPDATE speakers SET seconds = 'long'", "a speaker's row has other values"),
        ("UPDATE speakers SET name = CAST(id AS BLOB)", "a speaker's row has other values"),
        ("UPDATE speakers SET name = CAST(x'ff' || id AS TEXT)", "it is damaged .Could not decode"),
        ("UPDATE recordings SET seconds = 'long'", "a recording's row has other values"),
        ("UPDATE recordings SET path = CAST(path AS BLOB)", "a recording's row has other values"),
        ("UPDATE recordings SET digest = 'text' || id", "a recording's row has other values"),
        ("UPDATE recordings SET vector = 'text'", "has not the .* numbers|other values"),
        ("UPDATE speakers SET name = 'unknown' WHERE id = 3", "'unknown' cannot be a speaker's name"),
        ("UPDATE speakers SET name = char(27) || '[31m' WHERE id = 3", "cannot be a speaker's name"),
        ("PRAGMA user_version = 7", "has the format 7, expected 1"),
        ("PRAGMA application_id = 7", "this is not a store of speakers"),
    ],
)
def test_hostile_contents_are_refused(
    damage: str, told: str, filled: bytes, everyone: FeatureSet, tmp_path: Path
) -> None:
    path = tmp_path / "speakers.db"
    path.write_bytes(filled)
    with sqlite3.connect(path) as connection:
        connection.execute(damage)
    connection.close()
    with pytest.raises(InputError, match=told):
        change(path, everyone.features[:4])


def test_a_hostile_verifier_in_a_store_is_refused(verifier: SpeakerVerifier, tmp_path: Path) -> None:
    broken = replace(verifier, encoder={**verifier.encoder, "options": 3})
    with pytest.raises(VerifierError, match=r"s\.db: this is not a speaker verifier.*its encoder is no spec"):
        SpeakerStore.create(tmp_path / "s.db", broken)


def test_vectors_that_are_no_numbers_are_refused(filled: bytes, everyone: FeatureSet, tmp_path: Path) -> None:
    path = tmp_path / "speakers.db"
    path.write_bytes(filled)
    with sqlite3.connect(path) as connection:
        size = connection.execute("SELECT length(model) FROM speakers").fetchone()[0]
        spoiled = np.full(size // 4, np.nan, "<f4").tobytes()
        connection.execute("UPDATE speakers SET model = ? WHERE id = 5", [spoiled])
    connection.close()
    with pytest.raises(StoreError, match="a vector holds NaN or infinity"):
        use(path, everyone.features[:4])


def test_what_is_no_store_is_left_alone(verifier: SpeakerVerifier, tmp_path: Path) -> None:
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
            SpeakerStore.create(path, verifier)
        assert path.read_bytes() == before
    with pytest.raises(StoreError, match=r"none\.db: no such file. Expected a store of speakers"):
        SpeakerStore.open(tmp_path / "none.db")
    with pytest.raises(StoreError, match=r"this is a folder\. Expected a store"):
        SpeakerStore.open(tmp_path)
    with pytest.raises(StoreError, match=r"notes\.txt.*cannot be written|cannot be used"):
        SpeakerStore.create(text / "speakers.db", verifier)


def test_a_full_disk_leaves_the_store_as_it_was(
    store: SpeakerStore, everyone: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.enroll_features(part(everyone, 60, 65))
    connect = sqlite3.connect

    def on_a_full_disk(*arguments: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)  # type: ignore[call-overload]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        return connection

    monkeypatch.setattr(sqlite3, "connect", on_a_full_disk)
    with SpeakerStore.open(store.path) as full:
        with pytest.raises(StoreError, match="the disk is full; the store is as it was before"):
            full.enroll_features(part(everyone, 0, 60))
        assert len(full) == 5
    assert len(store) == 5


def test_a_writer_that_never_ends_is_told_of(
    store: SpeakerStore, everyone: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verification.store_file.PATIENCE", 0.1)
    store.enroll_features(part(everyone, 60, 65))
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with SpeakerStore.open(store.path) as waiting:
        with pytest.raises(StoreError, match="another process has been writing to this store"):
            waiting.remove("060")
        assert len(waiting) == 5  # one can read meanwhile
        other.execute("ROLLBACK")
        waiting.remove("060")
    other.close()
    assert len(store) == 4


ENROLL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from verification import Recording, SpeakerStore, SpeakerVerifier
folder, name = Path(sys.argv[2]), sys.argv[3]
verifier = SpeakerVerifier.load(folder / "verifier.pt")
generator = torch.Generator().manual_seed(int(name))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[4])):
    rows = torch.randn(3, verifier.encoder["dim"], generator=generator)
    recordings = [Recording(f"{number}-{row}", f"{name}-{number}-{row}".encode(), 1.0, rows[row]) for row in range(3)]
    with SpeakerStore.create(folder / "speakers.db", verifier) as store:
        store.enroll(f"{name}-{number}", recordings)
    print(number, flush=True)
"""


def start_writer(folder: Path, name: int, count: int) -> subprocess.Popen[str]:
    """Start a process that enrols speakers of three recordings, once it is told to."""
    command = [sys.executable, "-c", ENROLL, str(ROOT), str(folder), str(name), str(count)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    return writer


def go(*writers: subprocess.Popen[str]) -> None:
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()


def test_several_writers_lose_nothing(verifier: SpeakerVerifier, tmp_path: Path) -> None:
    verifier.save(tmp_path / "verifier.pt")
    writers = [start_writer(tmp_path, name, 15) for name in range(3)]
    go(*writers)  # the first of them makes the file
    for writer in writers:
        writer.communicate(timeout=100)
        assert writer.returncode == 0
    with SpeakerStore.open(tmp_path / "speakers.db") as store:
        assert {each.name for each in store.speakers()} == {f"{name}-{n}" for name in range(3) for n in range(15)}
        assert {each.n_recordings for each in store.speakers()} == {3}


def test_a_killed_writer_leaves_whole_speakers(verifier: SpeakerVerifier, tmp_path: Path) -> None:
    verifier.save(tmp_path / "verifier.pt")
    random = np.random.default_rng(0)
    promised = 0
    for name in range(4):
        writer = start_writer(tmp_path, name, 10_000)
        go(writer)
        time.sleep(float(random.uniform(0.0, 0.4)))
        writer.kill()
        printed, _ = writer.communicate()
        promised += len(printed.splitlines())
        if not (tmp_path / "speakers.db").exists():
            continue
        with SpeakerStore.create(tmp_path / "speakers.db", verifier) as store:
            speakers = store.speakers()
            assert len(speakers) >= promised  # what was said to be done is done
            assert all(each.n_recordings == 3 for each in speakers)
            if speakers:
                probe = torch.randn(1, int(verifier.encoder["dim"]), generator=torch.Generator().manual_seed(1))
                assert store.nearest(probe, 1).n_speakers == len(speakers)
        with sqlite3.connect(tmp_path / "speakers.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            orphans = "SELECT count(*) FROM recordings WHERE speaker NOT IN (SELECT id FROM speakers)"
            assert connection.execute(orphans).fetchone() == (0,)
        connection.close()
    assert promised > 0
