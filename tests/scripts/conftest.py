"""Fixtures of the scripts' tests: the output of the main job, and the check of a refusal."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def trained(corpus_root: Path, run_script: Callable[..., object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of the main job. Read it; copy it to change it."""
    outputs = tmp_path_factory.mktemp("trained")
    done = run_script(
        "speaker_recognition_librispeech.py", "--data_dir", corpus_root, "--encoder", "spectral",
        "--output_dir", outputs, "--lr", 0.01,
    )  # fmt: skip
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == 0, done.stderr
    return outputs


@pytest.fixture(scope="session")
def trained_features(trained: Path) -> Path:
    """Return the features file of the main job."""
    return trained / "librispeech_features_spectral.pt"


@pytest.fixture(scope="session")
def classifier(trained: Path) -> Path:
    """Return the classifier that the main job saved."""
    return trained / "speaker_classifier_librispeech.pt"


@pytest.fixture(scope="session")
def assert_refused() -> Callable[..., None]:
    """Return a function that checks a refusal: exit code 2, one sentence that contains `words`, no traceback."""

    def check(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        message = done.stderr.strip().splitlines()[-1]
        assert message.startswith("ERROR ")
        for word in words:
            assert word in message

    return check
