"""`speaker_verification.py` with a store: enroll, identify, list, merge, remove and score."""

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]
VERIFY = "speaker_verification.py"


@pytest.fixture(scope="module")
def enrolled(
    trained_features: Path, corpus_root: Path, run_script: Run, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a store with two of the corpus's four speakers, enrolled with a folder and with single files."""
    folder = tmp_path_factory.mktemp("enrolled")
    verifier, store = folder / "verifier.pt", folder / "speakers.db"
    done = run_script(VERIFY, "train", "--features_path", trained_features, "--output", verifier)
    assert done.returncode == 0, done.stderr
    first = ["enroll", "--store", store, "--name", "anna", corpus_root / "101/1010", "--verifier", verifier]
    done = run_script(VERIFY, *first)
    assert done.returncode == 0, done.stderr
    assert f"Created {store}\n5 recordings enrolled; {store} has 1 speaker\n" in done.stdout
    files = [corpus_root / "102/1020" / f"102-1020-000{number}.flac" for number in (0, 1, 7)]
    done = run_script(VERIFY, "enroll", *files, "--store", store, "--name", "ben")
    # The third file does not exist; the others are enrolled.
    assert done.returncode == 3, done.stderr
    assert "2 recordings enrolled" in done.stdout
    assert f"failed: {files[2]}: no such file" in done.stdout
    return store


def test_enrolled_speakers_are_identified(enrolled: Path, corpus_root: Path, call_script: Run, tmp_path: Path) -> None:
    listed = call_script(VERIFY, "list", "--store", enrolled)
    assert listed.returncode == 0
    assert [line.split()[:2] for line in listed.stdout.splitlines()[2:4]] == [["anna", "5"], ["ben", "2"]]
    output = tmp_path / "identified.json"
    command = [VERIFY, "identify", "--store", enrolled, "--top_k", 2, "--output", output]
    done = call_script(*command, "--audio_path", corpus_root / "101/1011")
    assert done.returncode == 0, done.stderr
    assert {record["predictions"][0]["speaker"] for record in json.loads(output.read_text())} == {"anna"}
    done = call_script(*command, "--audio_path", corpus_root / "104/1040", "--p_known", 0.001)
    assert "unknown" in done.stdout
    names = [each["speaker"] for record in json.loads(output.read_text()) for each in record["predictions"]]
    assert set(names[::2]) == {"unknown"}


def test_recording_is_verified_against_an_enrolled_speaker(enrolled: Path, corpus_root: Path, call_script: Run) -> None:
    one = corpus_root / "101/1011/101-1011-0002.flac"
    done = call_script(VERIFY, "verify", "--store", enrolled, "--name", "anna", one)
    assert done.stdout.splitlines()[1].startswith("anna: probability of anna ")
    done = call_script(VERIFY, "verify", "--store", enrolled, "--name", "ben", one, "--p_target", 0.001)
    assert done.stdout.splitlines()[1].startswith("not ben: probability of ben ")


def test_cached_embeddings_are_scored(enrolled: Path, trained_features: Path, call_script: Run, tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    command = [VERIFY, "score", "--store", enrolled, "--features_path", trained_features, "--output", table]
    done = call_script(*command, "--top_k", 9)
    assert done.returncode == 0, done.stderr
    assert "40 recordings against 2 speakers (the first 20 are shown)" in done.stdout
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "speaker", "score", "llr", "speaker_2", "score_2", "llr_2"]
    assert len(rows) == 40
    own = [row["speaker"] for row in rows if row["id"].startswith(("101/", "102/"))]
    assert own == ["anna"] * 10 + ["ben"] * 10
    assert all(float(row["llr"]) >= float(row["llr_2"]) for row in rows)


def test_enrolled_speaker_changes_only_with_a_flag(
    enrolled: Path, corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    store = Path(shutil.copy(enrolled, tmp_path / "speakers.db"))
    again = [VERIFY, "enroll", "--store", store, "--name", "anna", corpus_root / "101/1011"]
    assert_refused(call_script(*again), "'anna' is enrolled already", "--existing replace")
    assert "5 recordings enrolled;" in call_script(*again, "--existing", "add").stdout
    assert "0 recordings enrolled, 5 skipped" in call_script(*again, "--existing", "add").stdout
    removed = call_script(VERIFY, "remove", "--store", store, "--name", "anna")
    assert f"anna is removed; {store} has 1 speaker" in removed.stdout
    assert_refused(call_script(VERIFY, "remove", "--store", store, "--name", "bem"), "perhaps you meant 'ben'")


def test_speakers_of_a_features_file_and_a_store_are_enrolled(
    enrolled: Path, trained_features: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    store, merged = (Path(shutil.copy(enrolled, tmp_path / name)) for name in ("speakers.db", "merged.db"))
    call_script(VERIFY, "remove", "--store", store, "--name", "anna")
    enroll = [VERIFY, "enroll", "--store", store, "--features_path", trained_features]
    assert_refused(call_script(*enroll), "it is already enrolled as 'ben'. No speaker was enrolled.")
    call_script(VERIFY, "remove", "--store", store, "--name", "ben")
    assert f"40 recordings enrolled; {store} has 4 speakers" in call_script(*enroll).stdout
    call_script(VERIFY, "remove", "--store", merged, "--name", "ben")
    merge = [VERIFY, "merge", "--store", merged, "--other", store]
    assert_refused(call_script(*merge), "it is already enrolled as 'anna'.")
    call_script(VERIFY, "remove", "--store", merged, "--name", "anna")
    assert f"40 recordings enrolled; {merged} has 4 speakers" in call_script(*merge).stdout


def test_timeline_is_a_table_and_rttm(
    enrolled: Path, corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    voices = [sorted((corpus_root / chapter).iterdir()) for chapter in ("101/1011", "102/1021")]
    parts = [np.concatenate([soundfile.read(path)[0] for path in paths]) for paths in voices]
    meeting = tmp_path / "the meeting.wav"
    soundfile.write(meeting, np.concatenate([parts[0], np.zeros(32_000), parts[1]]), 16_000)
    rttm = tmp_path / "out" / "meeting.rttm"
    command = [VERIFY, "identify", "--timeline", "--store", enrolled, "--audio_path"]
    done = call_script(*command, meeting, "--window", 0.8, "--hop", 0.2, "--output", rttm)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["from", "to", "speaker", "percent"]
    lines = [line.split() for line in rttm.read_text().splitlines()]
    assert {(line[0], line[1], line[2], len(line)) for line in lines} == {("SPEAKER", "the_meeting", "1", 10)}
    for name, start, end in (("anna", 0.0, 3.5), ("ben", 5.5, 9.0)):
        segments = [(float(line[3]), float(line[3]) + float(line[4])) for line in lines if line[7] == name]
        assert min(segment[0] for segment in segments) == pytest.approx(start, abs=0.5)
        assert max(segment[1] for segment in segments) == pytest.approx(end, abs=0.5)
    assert_refused(call_script(*command, corpus_root), "found 40 recordings; --timeline expects one")
    assert_refused(call_script(*command, meeting, "--hop", 3), "3 s apart")


def test_bad_input_is_refused(
    enrolled: Path,
    corpus_root: Path,
    write_audio: Callable[..., Path],
    call_script: Run,
    assert_refused: Check,
    tmp_path: Path,
) -> None:
    one, short = corpus_root / "101/1011/101-1011-0002.flac", write_audio(tmp_path / "short.wav", seconds=0.3)
    store, new = ["--store", enrolled], ["--store", tmp_path / "new.db"]
    verifier, empty, cut = enrolled.with_name("verifier.pt"), tmp_path / "empty.db", tmp_path / "cut.db"
    shutil.copy(enrolled, empty)
    for name in ("anna", "ben"):
        call_script(VERIFY, "remove", "--store", empty, "--name", name)
    cut.write_bytes(enrolled.read_bytes()[:50_000])
    for command, *words in (
        (["identify", "--store", tmp_path / "none.db", "--audio_path", one], "none.db: no such file"),
        (["identify", "--store", empty, "--audio_path", one], "empty.db: ", "enrolled"),
        (
            ["identify", "--store", cut, "--audio_path", one],
            "cut.db: this is not a store of speakers, or it is damaged",
        ),
        (["identify", "--store", ".", "--audio_path", one], "this is a folder. Expected a store"),
        (["identify", *store], "--audio_path FILE_OR_FOLDER"),
        (["identify", *store, "--audio_path", one, "--p_known", 1], "--p_known is 1; expected above 0 and below 1."),
        (["identify", *store, "--timeline", "--audio_path", one, "--output", enrolled], "ends in .rttm"),
        (["score", *store], "--features_path FILE"),
        (["score", *store, "--features_path", one, "--output", enrolled], "ends in .csv"),
        (["verify", *store, "--name", "anna", short], "short.wav: the audio is 0.30 s long", "0.5"),
        (["verify", *store, one], "--store and --name must be given together."),
        (["verify", *store, "--name", "anna", one, one], "Expected one audio file to compare with 'anna'; found 2."),
        (["enroll", *store, "--name", "carl", short], "give at least 0.5 s. No speaker was enrolled."),
        (["enroll", *new, "--name", "carl", short, "--verifier", verifier], "0.5"),
        (["enroll", *store, "--name", "unknown", one], "'unknown' cannot be a speaker's name"),
        (["enroll", *store, "--name", "carl"], "--name NAME AUDIO"),
        (["enroll", *new, "--name", "carl", one, "--verifier", one], "not a speaker verifier"),
        (["remove", *store], "--name NAME"),
        (["merge", *store], "--other FILE"),
    ):
        assert_refused(call_script(VERIFY, *command), *words)
    assert not (tmp_path / "new.db").exists()
    assert "2 speakers" in call_script(VERIFY, "list", *store).stdout
