"""`speaker_recognition_librispeech.py` on a corpus in the folders ``train`` and ``test``."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

COMPARE = "speaker_recognition_librispeech.py"
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]


@pytest.fixture
def voices(corpus_root: Path, tmp_path: Path) -> Path:
    """Return three speakers with seven recordings in ``train`` and three in ``test``; a fourth is in ``test`` only."""
    root = tmp_path / "voices"
    for speaker in sorted(corpus_root.iterdir()):
        for number, path in enumerate(sorted(speaker.rglob("*.flac"))):
            part = "train" if number < 7 and speaker.name != "104" else "test"
            target = root / part / speaker.name / f"{number}.flac"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return root


def test_given_splits_are_trained_and_tested(voices: Path, call_script: Run, tmp_path: Path) -> None:
    flags = ["--encoder", "spectral", "--heads", "lda", "--device", "cpu", "--output_dir", tmp_path / "out"]
    done = call_script(COMPARE, voices, *flags, "--split_by", "given")
    assert done.returncode == 0, done.stderr
    assert "[spectral, split by given: 21 train (including 3 validation), 9 test utterances]" in done.stdout
    assert "10 utterances of 1 speaker without training utterances (104)" in done.stdout
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["best"]["split_by"] == "given"
    assert metrics["untested"] == {"given": ["104"]}
    assert "those of the test split that the corpus gives" in (tmp_path / "out/report.html").read_text()
    answers = (tmp_path / "out/answers.csv").read_text().splitlines()[1:]
    assert len(answers) == 9
    assert all(line.split(",")[1].startswith("test/") for line in answers)
    # The splits are in the features file, and the default split is that of before.
    features = tmp_path / "out/voices_features_spectral.pt"
    for split_by in ("given", "utterance"):
        again = call_script(COMPARE, "--features_path", features, *flags[2:], "--split_by", split_by)
        assert again.returncode == 0, again.stderr
        assert f"split by {split_by}:" in again.stdout


def test_splits_without_a_common_speaker_are_refused_before_extraction(
    voices: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    for name in ("101", "102", "103"):
        shutil.rmtree(voices / "test" / name)
    flags = ["--encoder", "spectral", "--output_dir", tmp_path / "out", "--split_by", "given"]
    assert_refused(call_script(COMPARE, voices, *flags), "closed-set identification is not possible")
    assert not list(tmp_path.glob("out/*.pt*"))
