"""`speaker_verification.py identify` with --timeline and --segments: files, the page, and bad input."""

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from corpora import Corpus, Utterance
from encoders import Encoder
from features import FeatureSet
from verification import Recording, SpeakerStore, SpeakerVerifier

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]
VERIFY = "speaker_verification.py"


@pytest.fixture(scope="module")
def store(features: FeatureSet, corpus: Corpus, spectral: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with the first two of the corpus's four speakers, enrolled with their first chapters."""
    path, verifier = tmp_path_factory.mktemp("timelines") / "speakers.db", SpeakerVerifier.train(features)
    with SpeakerStore.create(path, verifier) as store:
        for name, first in (("anna", 0), ("ben", 10)):
            rows = verifier.embed([Utterance(corpus.utterances[first + k].path, "", "") for k in range(5)], spectral)
            store.enroll(name, [Recording.of(row) for row in rows])
    return path


@pytest.fixture(scope="module")
def meeting(corpus_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording: anna 0 to 3.5 s, silence to 5.5 s, ben to 9 s."""
    path = tmp_path_factory.mktemp("meeting") / "the day.wav"
    voices = [sorted((corpus_root / chapter).iterdir()) for chapter in ("101/1011", "102/1021")]
    parts = [np.concatenate([soundfile.read(each)[0] for each in paths]) for paths in voices]
    soundfile.write(path, np.concatenate([parts[0], np.zeros(32_000), parts[1]]), 16_000)
    return path


def write_rttm(path: Path, *segments: tuple[float, float, str], recording: str = "the_day") -> Path:
    lines = (f"SPEAKER {recording} 1 {start} {end - start} <NA> <NA> {who}\n" for start, end, who in segments)
    path.write_text("".join(lines))
    return path


def test_timeline_is_saved_as_rttm_as_csv_and_as_a_page(
    store: Path, meeting: Path, call_script: Run, tmp_path: Path
) -> None:
    output = tmp_path / "day.rttm"
    command = [VERIFY, "identify", meeting, "--timeline", "--store", store, "--window", 0.8, "--hop", 0.2]
    done = call_script(*command, "--output", output, "--switch_cost", 2, "--min_turn", 0.6, "--p_known", 0.9)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        f"Saved {output.with_suffix(suffix)}" for suffix in (".rttm", ".csv", ".html")
    ]
    with output.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["speaker"] for row in rows if row["speaker"] != "unknown"] == ["anna", "ben"]
    assert all(float(row["end"]) - float(row["start"]) >= 0.6 for row in rows)
    assert "the day.wav: 2 enrolled speakers in 0:09" in output.with_suffix(".html").read_text()
    page = output.with_suffix(".html").read_text()
    assert all(text in page for text in ("speakers.db (2 speakers)", "0.8 s long, every 0.2 s", "with their pauses"))
    hint = "If all speakers of the recording are enrolled, --p_known 0.99 names more of them.\n"
    assert hint not in done.stdout
    again = call_script(*command, "--output", output)
    assert again.returncode == 0, again.stderr
    assert "unknown" in output.with_suffix(".csv").read_text()
    assert (hint in again.stdout) == ("unknown" in output.with_suffix(".csv").read_text())


def test_only_speech_has_a_speaker(
    store: Path,
    speech_weights: Path,
    make_conversation: Callable[..., NDArray[np.float64]],
    call_script: Run,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    room = 0.003 * np.random.default_rng(0).standard_normal(5 * 16_000)
    soundfile.write(tmp_path / "room.flac", room, 16_000)
    soundfile.write(tmp_path / "silence.flac", np.zeros(5 * 16_000), 16_000)
    # Speech is from 5.5 to 6.7 s, and from 7.5 to 8.7 s.
    soundfile.write(tmp_path / "day.flac", np.concatenate([room, make_conversation(2)]), 16_000)
    command = [VERIFY, "identify", "--timeline", "--store", store, "--output", tmp_path / "x.rttm"]
    found = {}
    for name in ("room", "day"):
        for flags in ([], ["--vad"]):
            done = call_script(*command, tmp_path / f"{name}.flac", *flags)
            assert done.returncode == 0, done.stderr
            with (tmp_path / "x.csv").open() as file:
                turns = [(float(row["start"]), float(row["end"])) for row in csv.DictReader(file)]
            found[name, bool(flags)] = turns
            assert (f"{tmp_path / 'room.flac'}: no speech was found\n" in done.stdout) == (not turns)
            assert ("no speech in 0:05" in (tmp_path / "x.html").read_text()) == (not turns)
    done = call_script(*command, tmp_path / "silence.flac", "--vad")
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'silence.flac'}: no speech was found\n" in done.stdout
    assert "all samples are zero" in caplog.text
    assert found["room", False] == [(0.0, 5.0)]
    assert found["room", True] == []
    assert (tmp_path / "x.rttm").is_file()
    assert sum(end - start for start, end in found["day", False]) == pytest.approx(8.7, abs=0.01)
    assert found["day", True][0][0] == pytest.approx(5.5, abs=0.2)
    assert 2.0 < sum(end - start for start, end in found["day", True]) < 3.6


def test_labels_of_a_diarisation_get_names(store: Path, meeting: Path, call_script: Run, tmp_path: Path) -> None:
    rttm = write_rttm(tmp_path / "x.rttm", (5.5, 9.0, "A"), (0.0, 1.5, "B"), (1.6, 3.5, "B"), (4.0, 4.2, "C"))
    command = [VERIFY, "identify", meeting, "--segments", rttm, "--store", store, "--output", tmp_path / "named.rttm"]
    done = call_script(*command)
    assert done.returncode == 0, done.stderr
    table = [line.split()[:2] for line in done.stdout.splitlines()[2:5]]
    assert table == [["B", "anna"], ["C", "unknown"], ["A", "ben"]]
    lines = [line.split() for line in (tmp_path / "named.rttm").read_text().splitlines()]
    assert [(line[3], line[7]) for line in lines] == [
        ("0.000", "anna"), ("1.600", "anna"), ("4.000", "unknown_C"), ("5.500", "ben"),
    ]  # fmt: skip
    with (tmp_path / "named.csv").open() as file:
        rows = list(csv.DictReader(file))
    # No part of C is long enough to be used.
    assert [(row["label"], row["probability"] == "") for row in rows] == [
        ("B", False), ("B", False), ("C", True), ("A", False),
    ]  # fmt: skip
    assert (tmp_path / "named.html").is_file()


def test_two_labels_of_one_person_need_a_flag(store: Path, meeting: Path, call_script: Run, tmp_path: Path) -> None:
    rttm = write_rttm(tmp_path / "x.rttm", (5.5, 9.0, "A"), (0.0, 1.7, "B"), (1.7, 3.5, "C"))
    command = [VERIFY, "identify", meeting, "--segments", rttm, "--store", store, "--output", tmp_path / "named.rttm"]
    for flags, names in (([], ["anna", "ben", "unknown"]), (["--allow_repeats"], ["anna", "anna", "ben"])):
        done = call_script(*command, *flags)
        assert sorted(line.split()[1] for line in done.stdout.splitlines()[2:5]) == names, done.stderr
        unknown = "".join(line.split()[0] for line in done.stdout.splitlines()[2:5] if "unknown" in line)
        assert ("--allow_repeats" in done.stdout) == bool(unknown)
        if unknown:
            owner = "BC".replace(unknown, "")
            assert f"\n{unknown} is most similar to anna, who has the label {owner}; give" in done.stdout


def test_bad_input_is_refused(
    store: Path, meeting: Path, corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    whole = (0.0, 3.0, "A")
    other = write_rttm(tmp_path / "other.rttm", whole, recording="another_day")
    late = write_rttm(tmp_path / "late.rttm", whole, (600.0, 610.0, "B"))
    short = write_rttm(tmp_path / "short.rttm", (0.0, 0.3, "A"))
    good = write_rttm(tmp_path / "good.rttm", whole)
    empty = tmp_path / "empty.rttm"
    empty.write_text("")
    notes = tmp_path / "notes.csv"
    notes.write_text("my,notes\n")
    command = [VERIFY, "identify", meeting, "--store", store]
    for flags, *words in (
        (["--segments", other], "describes the recordings another_day, but the given files are the day.wav"),
        (["--segments", late], "the segment on line 2 ends at 610.00 s, but", "is 9.00 s long"),
        (["--segments", short], "no segment has 0.5 s of sound"),
        (["--segments", empty], "there is no segment in this file"),
        (["--segments", meeting], "it is an audio file"),
        (["--segments", tmp_path / "none.rttm"], "none.rttm: this file cannot be read"),
        (["--segments", good, "--timeline"], "give one of the two"),
        (["--timeline", "--allow_repeats"], "give --segments FILE too"),
        (["--segments", good, "--output", good], "good.rttm: this is an input"),
        (["--timeline", "--output", tmp_path / "notes.rttm"], "notes.csv: this is a file of an unknown kind"),
    ):
        assert_refused(call_script(*command, *flags), *words)
    several = call_script(VERIFY, "identify", corpus_root, "--store", store, "--segments", good)
    assert_refused(several, "found 40 recordings; --segments expects one")
    assert notes.read_text() == "my,notes\n"
    assert not (tmp_path / "notes.rttm").exists()
