"""`speaker_verification.py` without a trained verifier: enrol and ask, with the published weights of CAM++."""

import csv
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
SAMPLE = Path(__file__).parents[2] / "sample"
VERIFY = "speaker_verification.py"
READY = "Verifier: the ready one (encoder campplus, cosine)"


@pytest.fixture(scope="module")
def folder(real_campplus_weights: Path, run_script: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a working folder with a store of three speakers."""
    folder = tmp_path_factory.mktemp("ready")
    for name in ("9001", "9002", "9004"):
        done = run_script(
            VERIFY, "enroll", "--name", name, *sorted((SAMPLE / "LibriSpeech/synthetic" / name).rglob("*.flac"))[:3],
            "--encoder_weights", real_campplus_weights, cwd=folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (READY in done.stdout) == (name == "9001")  # the store keeps its verifier
    return folder


def test_enrolled_voices_are_identified_and_another_is_unknown(
    folder: Path, real_campplus_weights: Path, run_script: Run
) -> None:
    command = ["identify", SAMPLE / "held_out", "--encoder_weights", real_campplus_weights]
    done = run_script(VERIFY, *command, cwd=folder)
    assert done.returncode == 0, done.stderr
    with (folder / "outputs/identified.csv").open() as file:
        found = {Path(row["path"]).stem: row["speaker"] for row in csv.DictReader(file)}
    for name in ("9001", "9002", "9004"):
        assert [found[f"{name}_1"], found[f"{name}_2"]] == [name, name]
    assert [found[f"{name}_1"] for name in ("9006", "9008", "9012")] == ["unknown"] * 3


def test_list_shows_what_the_calibration_was_adapted_to(
    folder: Path, real_campplus_weights: Path, run_script: Run
) -> None:
    done = run_script(VERIFY, "list", cwd=folder)
    assert "adapted to 3 enrolled speakers (scores shifted by " in done.stdout
    background = ["enroll", "--background", SAMPLE / "held_out", "--encoder_weights", real_campplus_weights]
    done = run_script(VERIFY, *background, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "24 background recordings added\n"
    done = run_script(VERIFY, *background, cwd=folder)
    assert f"skipped: {SAMPLE / 'held_out/9001_1.flac'}: it is a background recording already\n" in done.stdout
    assert done.stdout.endswith("skipped: 14 more\n0 background recordings added, 24 skipped\n")
    done = run_script(VERIFY, "list", cwd=folder)
    # The recordings of enrolled speakers among them are left out.
    found = re.search(r"adapted to 3 enrolled speakers and (\d+) background recordings", done.stdout)
    assert found is not None
    assert 6 <= int(found[1]) <= 18
    done = run_script(VERIFY, "remove", "--background", cwd=folder)
    assert done.stdout == "24 background recordings removed\n"


def test_two_files_are_compared(folder: Path, real_campplus_weights: Path, run_script: Run) -> None:
    one, same, other = (SAMPLE / "held_out" / f"{name}.flac" for name in ("9002_1", "9002_2", "9006_1"))
    for second, words in ((same, "the same speaker: "), (other, "two speakers: ")):
        done = run_script(VERIFY, "verify", one, second, "--encoder_weights", real_campplus_weights, cwd=folder)
        assert READY in done.stdout
        assert done.stdout.splitlines()[-2].startswith(words)
        assert "measured on corpora that it was not calibrated on: 0.8 to 6.4 % of the pairs" in done.stdout


def test_trained_verifier_comes_before_the_ready_one(trained_features: Path, run_script: Run, tmp_path: Path) -> None:
    done = run_script(VERIFY, "train", "--features_path", trained_features, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = [SAMPLE / "held_out" / f"{name}.flac" for name in ("9002_1", "9002_2")]
    done = run_script(VERIFY, "verify", *files, cwd=tmp_path)
    assert done.stdout.startswith("Verifier: outputs/speaker_verifier.pt\n")


def test_missing_weights_are_described_in_a_sentence(run_script: Run, tmp_path: Path) -> None:
    nowhere = {"XDG_CACHE_HOME": str(tmp_path), "PIP_NO_INDEX": "1", "https_proxy": "http://127.0.0.1:9"}
    files = [SAMPLE / "held_out" / f"{name}.flac" for name in ("9002_1", "9002_2")]
    done = run_script(VERIFY, "verify", *files, "--verifier", "ready", cwd=tmp_path, env={**os.environ, **nowhere})
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "ERROR The encoder's weights, campplus_cn_en_common.pt, are not on this machine"
    )
