"""`speaker_verification.py export`, enrolment from its file, and `remove --recording`."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]
VERIFY = "speaker_verification.py"


@pytest.fixture(scope="module")
def verifier(trained_features: Path, run_script: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verifier") / "verifier.pt"
    done = run_script(VERIFY, "train", "--features_path", trained_features, "--output", path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def store(verifier: Path, corpus_root: Path, call_script: Run, tmp_path: Path) -> Path:
    """Return a store of two speakers with five recordings each."""
    store = tmp_path / "speakers.db"
    for name, chapter in (("anna", "101/1010"), ("ben", "102/1020")):
        enroll = [VERIFY, "enroll", corpus_root / chapter, "--store", store, "--name", name, "--verifier", verifier]
        done = call_script(*enroll)
        assert done.returncode == 0, done.stderr
    return store


def test_speakers_are_exported_and_enrolled(
    store: Path, verifier: Path, corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    voices, other = tmp_path / "voices.npz", tmp_path / "other.db"
    done = call_script(VERIFY, "export", "--store", store, "--output", voices)
    assert done.stdout.splitlines() == ["2 speakers, 10 recordings", f"Saved {voices}"]
    with np.load(voices, allow_pickle=False) as file:
        assert file["speakers"].tolist() == ["anna", "ben"]
        assert file["models"].shape[0] == 2
    enroll = [VERIFY, "enroll", "--store", other, "--features_path", voices]
    # The ready verifier has another encoder, so no store is made.
    assert_refused(call_script(*enroll, "--verifier", "ready"), "'campplus'", f"{voices} uses a different encoder")
    assert not other.exists()
    done = call_script(*enroll, "--verifier", verifier)
    assert done.stdout.splitlines() == [
        f"Created {other}", f"10 recordings enrolled; {other} has 2 speakers",
    ]  # fmt: skip
    outputs = []
    for each in (store, other):
        output = tmp_path / f"{each.stem}.csv"
        done = call_script(VERIFY, "identify", corpus_root / "101/1011", "--store", each, "--output", output)
        assert done.returncode == 0, done.stderr
        outputs.append(output.read_text())
    assert outputs[0] == outputs[1]
    assert_refused(call_script(*enroll), "'anna' is enrolled already")
    done = call_script(VERIFY, "export", "--store", store, "--output", voices)  # replaces a file of its kind
    assert done.returncode == 0, done.stderr
    np.savez(voices, mine=np.ones(3))
    assert_refused(call_script(VERIFY, "export", "--store", store, "--output", voices), f"{voices}: ")
    assert_refused(call_script(VERIFY, "export", "--store", store, "--output", tmp_path / "voices.csv"), ".npz")


def test_the_exported_file_is_scored_as_features(store: Path, call_script: Run, tmp_path: Path) -> None:
    voices = tmp_path / "voices.npz"
    assert call_script(VERIFY, "export", "--store", store, "--output", voices).returncode == 0
    score = [VERIFY, "score", "--store", store, "--features_path", voices, "--output", tmp_path / "scores.csv"]
    done = call_script(*score)
    assert done.returncode == 0, done.stderr
    assert "10 recordings against 2 speakers" in done.stdout


def test_one_recording_is_removed(store: Path, corpus_root: Path, call_script: Run, assert_refused: Check) -> None:
    file = corpus_root / "101/1010/101-1010-0002.flac"
    remove = [VERIFY, "remove", "--store", store, "--recording", file]
    assert_refused(call_script(*remove), "--recording is a recording of one speaker; give --name NAME too.")
    assert_refused(call_script(*remove, "--name", "ben"), f"'ben' has no recording '{file}'")
    done = call_script(*remove, "--name", "anna")
    assert done.stdout == "1 recording of anna removed; anna has 4 recordings\n"
    listed = call_script(VERIFY, "list", "--store", store, "--name", "anna").stdout
    assert len(listed.splitlines()) == 6
    assert str(file) not in listed
    done = call_script(VERIFY, "enroll", file, "--store", store, "--name", "ben", "--existing", "add")
    assert "1 recording enrolled" in done.stdout
