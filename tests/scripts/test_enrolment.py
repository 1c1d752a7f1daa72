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
    done = call_script(*command, corpus_root / "101/1011")
    assert done.returncode == 0, done.stderr
    assert {record["predictions"][0]["speaker"] for record in json.loads(output.read_text())} == {"anna"}
    done = call_script(*command, "--audio_path", corpus_root / "104/1040", "--p_known", 0.001)
    assert "unknown" in done.stdout
    names = [each["speaker"] for record in json.loads(output.read_text()) for each in record["predictions"]]
    assert set(names[::2]) == {"unknown"}


def test_score_and_threshold_are_shown(enrolled: Path, corpus_root: Path, call_script: Run, tmp_path: Path) -> None:
    output, paths = tmp_path / "identified.csv", [corpus_root / "101/1011", corpus_root / "104/1040"]
    command = [VERIFY, "identify", "--store", enrolled, "--output", output]
    thresholds = []
    for flags in ([], ["--p_known", 0.001], ["--far", 0.1]):
        done = call_script(*command, *paths, *flags)
        assert done.returncode == 0, done.stderr
        printed = done.stdout.splitlines()
        assert any(line.split() == ["file", "speaker", "percent", "score", "threshold", "then"] for line in printed)
        with output.open() as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0])[-3:] == ["error", "score", "threshold"]
        assert len(rows) == 10
        # The decision is whether the score reaches the threshold, which is the same for all files.
        assert all((row["speaker"] != "unknown") == (float(row["score"]) >= float(row["threshold"])) for row in rows)
        assert len({row["threshold"] for row in rows}) == 1
        thresholds.append(float(rows[0]["threshold"]))
    assert thresholds[1] > thresholds[0]
    assert "The threshold accepts 10 % of the recordings of unknown speakers" in done.stdout


def test_failures_are_printed_before_the_file_that_is_saved(
    enrolled: Path, corpus_root: Path, call_script: Run, tmp_path: Path
) -> None:
    broken, output = tmp_path / "broken.wav", tmp_path / "identified.csv"
    broken.write_text("text")
    command = [VERIFY, "identify", "--store", enrolled, "--output", output, broken]
    done = call_script(*command)
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"failed: {broken}: this is not audio")
    assert lines[1:] == [f"No file could be used; {output} contains the reasons."]
    calls = tmp_path / "calls"
    calls.mkdir()
    shutil.copy(next((corpus_root / "101/1011").iterdir()), calls)
    (calls / "call.gsm").write_bytes(bytes(range(1, 200)))
    done = call_script(*command, calls)
    assert done.returncode == 3
    assert done.stdout.splitlines()[-2].startswith(f"failed: {calls / 'call.gsm'}: this is not audio")
    with output.open() as file:
        errors = {Path(row["path"]).name: row["error"] for row in csv.DictReader(file)}
    assert "ffmpeg -f gsm -ar 8000 -i x.gsm x.wav" in errors["call.gsm"]
    assert done.stdout.splitlines()[-1] == f"Saved {output}"


def test_all_speakers_of_a_corpus_are_enrolled(
    enrolled: Path, corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    people = tmp_path / "people"
    for name, chapter in (("cleo", "103/1030"), ("dora", "104/1040")):
        shutil.copytree(corpus_root / chapter, people / name)
    shutil.copy(people / "cleo" / "103-1030-0000.flac", people / "dora" / "copy.flac")
    (people / "dora" / "broken.wav").write_text("text")
    (people / "eve").mkdir()
    (people / "eve" / "call.3gp").write_bytes(b"\0\0\0\x18ftyp3gp4" + bytes(200))
    shutil.copytree(corpus_root / "103/1031", people / "unknown")
    store = Path(shutil.copy(enrolled, tmp_path / "speakers.db"))
    done = call_script(VERIFY, "enroll", "--store", store, "--data_dir", people)
    assert done.returncode == 3, done.stderr
    broken, call, *unknown = done.stdout.splitlines()[:7]
    assert broken.startswith(f"failed: {people / 'dora' / 'broken.wav'}: this is not audio")
    assert call.startswith(f"failed: {people / 'eve' / 'call.3gp'}: this is not audio")
    for line, path in zip(unknown, sorted((people / "unknown").iterdir()), strict=True):
        assert line.startswith(f"failed: {path}: 'unknown' cannot be a speaker's name; ")
    assert done.stdout.splitlines()[7:] == [
        f"failed: {people / 'dora' / 'copy.flac'}: this recording of dora is already enrolled as cleo",
        "no recording of these speakers could be used: eve, unknown",
        f"10 recordings enrolled; {store} has 4 speakers",
    ]
    assert_refused(call_script(VERIFY, "enroll", "--store", store, "--data_dir", people), "'cleo' is enrolled already")
    replaced = call_script(VERIFY, "enroll", "--store", store, "--data_dir", people, "--existing", "replace")
    assert f"10 recordings enrolled; {store} has 4 speakers" in replaced.stdout


def test_pattern_names_the_speakers_of_a_corpus(
    enrolled: Path, corpus_root: Path, call_script: Run, tmp_path: Path
) -> None:
    store = Path(shutil.copy(enrolled, tmp_path / "speakers.db"))
    day = tmp_path / "days" / "2024-05-01"
    day.mkdir(parents=True)
    for name, chapter in (("cleo", "103/1030"), ("dora", "104/1040")):
        for path in (corpus_root / chapter).iterdir():
            shutil.copy(path, day / f"{name}_{path.name}")
    enroll = [VERIFY, "enroll", "--store", store, "--data_dir", tmp_path / "days"]
    done = call_script(*enroll, "--pattern", "{session}/{speaker}_*")
    assert done.stdout == f"10 recordings enrolled; {store} has 4 speakers\n", done.stderr
    listed = call_script(VERIFY, "list", "--store", store).stdout.splitlines()
    assert [line.split()[0] for line in listed[2:6]] == ["anna", "ben", "cleo", "dora"]


def test_parts_of_a_recording_are_enrolled(
    enrolled: Path, write_audio: Callable[..., Path], call_script: Run, tmp_path: Path
) -> None:
    store, long = Path(shutil.copy(enrolled, tmp_path / "speakers.db")), write_audio(tmp_path / "long.wav", seconds=6)
    enroll = [VERIFY, "enroll", "--store", store, "--name", "carl", long, "--existing", "add"]
    for part in (["--start", 1.5, "--duration", 2], ["--start", 4], ["--duration", 2]):
        done = call_script(*enroll, *part)
        assert done.stdout == f"1 recording enrolled; {store} has 3 speakers\n"
    again = call_script(*enroll, "--start", 4)
    assert again.stdout.splitlines()[0] == f"skipped: {long}#4-: carl is already enrolled with this recording"
    listed = call_script(VERIFY, "list", "--store", store).stdout.splitlines()
    assert [line.split()[:3] for line in listed if line.startswith("carl")] == [["carl", "3", "6.0"]]


def test_segments_of_an_rttm_file_are_enrolled(
    enrolled: Path, write_audio: Callable[..., Path], call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    store = Path(shutil.copy(enrolled, tmp_path / "speakers.db"))
    meeting, rttm = write_audio(tmp_path / "meeting.wav", seconds=9), tmp_path / "meeting.rttm"
    lines = ["meeting 1 0 2 <NA> <NA> eva", "meeting 1 3.0 2 <NA> <NA> finn", "meeting 1 6.0 2.5 <NA> <NA> eva", "bad"]
    rttm.write_text("".join(f"SPEAKER {line} <NA> <NA>\n" for line in lines))
    enroll = [VERIFY, "enroll", "--store", store, "--rttm", rttm, meeting]
    assert_refused(call_script(*enroll, "--name", "carl"), "there are several speakers (eva, finn)", "--rttm_speaker")
    done = call_script(*enroll, "--name", "carl", "--rttm_speaker", "finn")
    assert done.stdout == f"1 recording enrolled; {store} has 3 speakers\n"
    done = call_script(*enroll, "--rttm_speaker", "eva")
    assert done.stdout == f"2 recordings enrolled; {store} has 4 speakers\n"
    done = call_script(*enroll, "--existing", "add")
    assert f"failed: {meeting}#3-2: this recording of finn is already enrolled as carl" in done.stdout


def test_recording_is_verified_against_an_enrolled_speaker(enrolled: Path, corpus_root: Path, call_script: Run) -> None:
    one = corpus_root / "101/1011/101-1011-0002.flac"
    done = call_script(VERIFY, "verify", "--store", enrolled, "--name", "anna", one)
    assert done.stdout.splitlines()[1].startswith("anna: probability of anna ")
    done = call_script(VERIFY, "verify", "--store", enrolled, "--name", "ben", one, "--p_target", 0.001)
    assert done.stdout.splitlines()[1].startswith("not ben: probability of ben ")
    done = call_script(
        VERIFY, "verify", "--store", enrolled, "--name", "anna", corpus_root / "101/1010/101-1010-0002.flac"
    )
    assert done.stdout.splitlines()[1].startswith("the same audio: anna is enrolled with this recording")


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
    skipped = call_script(*again, "--existing", "add")
    assert skipped.returncode == 0
    *lines, last = skipped.stdout.splitlines()
    assert last == f"0 recordings enrolled, 5 skipped; {store} has 2 speakers"
    files = [corpus_root / f"101/1011/101-1011-000{number}.flac" for number in range(5)]
    assert lines == [f"skipped: {file}: anna is already enrolled with this recording" for file in files]
    removed = call_script(VERIFY, "remove", "--store", store, "--name", "anna")
    assert f"anna is removed; {store} has 1 speaker" in removed.stdout
    assert_refused(call_script(VERIFY, "remove", "--store", store, "--name", "bem"), "perhaps you meant 'ben'")


def test_speakers_of_a_features_file_and_a_store_are_enrolled(
    enrolled: Path, trained_features: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    store, merged = (Path(shutil.copy(enrolled, tmp_path / name)) for name in ("speakers.db", "merged.db"))
    call_script(VERIFY, "remove", "--store", store, "--name", "anna")
    enroll = [VERIFY, "enroll", "--store", store, "--features_path", trained_features]
    done = call_script(*enroll)
    assert done.returncode == 3, done.stderr
    *failed, last = done.stdout.splitlines()
    assert len(failed) == 2
    assert all(line.endswith(": this recording of 102 is already enrolled as ben") for line in failed)
    assert last == f"38 recordings enrolled; {store} has 5 speakers"
    call_script(VERIFY, "remove", "--store", store, "--name", "ben")
    again = call_script(*enroll, "--existing", "replace")
    assert again.stdout == f"40 recordings enrolled; {store} has 4 speakers\n"
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
    # Stores may have any name.
    table, rttm = (Path(shutil.copy(enrolled, tmp_path / name)) for name in ("table.csv", "voice.rttm"))
    cut.write_bytes(enrolled.read_bytes()[:50_000])
    for command, *words in (
        (["identify", "--store", tmp_path / "none.db", "--audio_path", one], "none.db: no such file"),
        (["identify", "--store", empty, "--audio_path", one], "empty.db: ", "enrolled"),
        (
            ["identify", "--store", cut, "--audio_path", one],
            "cut.db: this is not a store of speakers, or it is damaged",
        ),
        (["identify", "--store", ".", "--audio_path", one], "this is a folder. Expected a store"),
        (["identify", *store], "No recording is given. Give files or folders, as arguments or with --audio_path."),
        (["identify", *store, one, "--audio_path", one], "in one of the two ways"),
        (["identify", *store, one, "--far", 0.01, "--p_known", 0.5], "--far and --p_known both set the threshold"),
        (["identify", *store, one, "--p_known", 1], "--p_known is 1; expected above 0 and below 1."),
        (["identify", *store, one, "--far", 0.0001], "A false-accept rate of 0.0001 is not known", "40 recordings"),
        (["identify", *store, "--audio_path", one, "--p_known", 1], "--p_known is 1; expected above 0 and below 1."),
        (["identify", *store, "--timeline", "--audio_path", one, "--output", enrolled], "ends in .rttm"),
        (["identify", "--store", table, one, "--output", table], "table.csv: this is an input"),
        (["identify", "--store", rttm, one, "--timeline", "--output", rttm], "voice.rttm: this is an input"),
        (["score", "--store", table, "--features_path", one, "--output", table], "table.csv: this is an input"),
        (["score", *store, "--features_path", table, "--output", table], "table.csv: this is an input"),
        (["score", *store], "--features_path FILE"),
        (["score", *store, "--features_path", one, "--output", enrolled], "ends in .csv"),
        (["verify", *store, "--name", "anna", short], "short.wav: the audio is 0.30 s long", "0.5"),
        (["verify", *store, one], "--store and --name must be given together."),
        (["verify", *store, "--name", "anna", one, one], "Expected one audio file to compare with 'anna'; found 2."),
        (["enroll", *store, "--name", "carl", short], "give at least 0.5 s. No speaker was enrolled."),
        (["enroll", *new, "--name", "carl", short, "--verifier", verifier], "0.5"),
        (["enroll", *store, "--name", "unknown", one], "'unknown' cannot be a speaker's name"),
        (["enroll", *store, "--name", "carl"], "--name NAME AUDIO"),
        (["enroll", *store, corpus_root], "--data_dir FOLDER with a folder for each"),
        (["enroll", *store, "--name", "carl", "--data_dir", corpus_root], "--data_dir enrols all speakers"),
        (["enroll", *store, "--data_dir", corpus_root, "--features_path", one], "both give the speakers"),
        (["enroll", *store, "--name", "carl", one, one, "--start", 1], "a part of one recording; found 2"),
        (["enroll", *store, "--name", "carl", corpus_root, "--duration", 1], "one recording; found 40"),
        (["enroll", *store, "--name", "carl", one, "--start", 100], "the span starts at 100 s, but the file ends"),
        (["enroll", *store, "--name", "carl", one, "--rttm_speaker", "a"], "give --rttm FILE too"),
        (["enroll", *store, one, "--rttm", one, "--start", 1], "--rttm and --start"),
        (["enroll", *store, "--rttm", one], "--rttm FILE AUDIO"),
        (["enroll", *store, "--name", "carl", one, "--pattern", "{speaker}_*"], "give --data_dir FOLDER too"),
        # Before audio is embedded, which would be too short.
        (["enroll", *store, "--background", short.parent, "--features_path", one], "not a features file"),
        (["enroll", *store, "--background", short.parent], "background recordings have no effect on this store"),
        (["enroll", *new, "--name", "carl", one, "--verifier", one], "not a speaker verifier"),
        (["remove", *store], "--name NAME"),
        (["merge", *store], "--other FILE"),
    ):
        assert_refused(call_script(VERIFY, *command), *words)
    assert table.read_bytes() == rttm.read_bytes() == enrolled.read_bytes()
    assert not (tmp_path / "new.db").exists()
    assert "2 speakers" in call_script(VERIFY, "list", *store).stdout


def test_speakers_with_invalid_names_are_not_embedded(
    enrolled: Path, corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    store, people = Path(shutil.copy(enrolled, tmp_path / "speakers.db")), tmp_path / "people"
    for name in ("unknown", "ben "):
        (people / name).mkdir(parents=True)
        (people / name / "0.wav").write_text("this is not read")
    command = [VERIFY, "enroll", "--data_dir", people, "--store", store]
    assert_refused(call_script(*command), "cannot be a speaker's name", "No speaker was enrolled.")
    shutil.copytree(corpus_root / "103" / "1030", people / "carl")
    done = call_script(*command)
    assert done.returncode == 3, done.stderr
    assert "5 recordings enrolled" in done.stdout
    assert done.stdout.count("cannot be a speaker's name") == 2
    assert "not audio" not in done.stdout
