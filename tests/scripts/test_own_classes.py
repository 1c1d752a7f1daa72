"""Own encoders, own heads and classifiers of scikit-learn on the command lines."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]
EXTRACT = "extract_features.py"
COMPARE = "speaker_recognition_librispeech.py"
INFER = "speaker_recognition_inference.py"
VERIFY = "speaker_verification.py"
OWN = """
from encoders.spectral import SpectralEncoder
from heads import MinibatchHead
from torch import nn

class OwnEncoder(SpectralEncoder):
    @classmethod
    def describe(cls, weights, options):
        return {**super().describe(weights, options), "name": "own"}

class OwnHead(MinibatchHead):
    def build(self, shape, n_classes):
        return nn.Linear(shape[-1], n_classes)
"""


@pytest.fixture
def new_session(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that forgets the registered classes, as a new process does."""

    def forget() -> None:
        monkeypatch.setattr("encoders.registry.OWN_ENCODERS", {})
        monkeypatch.setattr("heads.registry.OWN_HEADS", {})

    forget()
    return forget


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_session: Callable[[], None]) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def test_own_encoder_and_head_from_training_to_inference(
    own: Path, corpus_root: Path, call_script: Run, assert_refused: Check, new_session: Callable[[], None]
) -> None:
    out = own.parent / "out"
    encoder, head = f"{own}:OwnEncoder", f"{own}:OwnHead"
    done = call_script(
        COMPARE, "--data_dir", corpus_root, "--encoder", encoder, "--encoder_options", "n_mfcc=30", "--heads", head,
        "--epochs", 5, "--output_dir", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "OwnHead *" in done.stdout
    [features] = out.glob("librispeech_features_own_*.pt")
    infer = [INFER, "--classifier", out / "speaker_classifier_librispeech.pt", "--audio_path", corpus_root / "101"]
    infer += ["--output", out / "predictions.csv"]
    for given, words in (
        ([], ("its head 'OwnHead' is not", "--heads FILE.py:OwnHead")),
        (["--heads", head], ("the encoder 'own', which is not", "--encoder FILE.py:OwnEncoder")),
        (["--heads", head, "--encoder", f"{own}:OwnHead"], ("OwnHead is not a subclass of Encoder",)),
        (["--heads", head, "--encoder", "spectral"], ("--encoder has 'spectral'", "FILE.py:CLASS")),
    ):
        new_session()
        assert_refused(call_script(*infer, *given), *words)
    new_session()
    done = call_script(*infer, "--heads", head, "--encoder", encoder)
    assert done.returncode == 0, done.stderr
    new_session()
    done = call_script(COMPARE, "--features_path", features, "--heads", "lda", "--output_dir", out)
    assert done.returncode == 0, done.stderr


def test_own_encoder_of_a_verifier_and_a_store(
    own: Path, corpus_root: Path, call_script: Run, assert_refused: Check, new_session: Callable[[], None]
) -> None:
    folder, encoder = own.parent, ["--encoder", f"{own}:OwnEncoder"]
    features, verifier, store = folder / "own.pt", folder / "verifier.pt", folder / "speakers.db"
    recordings = sorted((corpus_root / "101").rglob("*.flac"))[:2]
    for arguments in (
        [EXTRACT, "--data_dir", corpus_root, "--features_path", features, *encoder],
        [VERIFY, "train", "--features_path", features, "--output", verifier],
        [VERIFY, "verify", *recordings, "--verifier", verifier, *encoder],
        [VERIFY, "enroll", "--name", "anna", *recordings, "--verifier", verifier, "--store", store, *encoder],
        [VERIFY, "identify", "--audio_path", recordings[0], "--store", store, *encoder],
    ):
        new_session()
        done = call_script(*arguments)
        assert done.returncode == 0, done.stderr
    new_session()
    refused = call_script(VERIFY, "verify", *recordings, "--verifier", verifier)
    assert_refused(refused, "the encoder 'own', which is not", "--encoder FILE.py:OwnEncoder")


def test_classifier_of_scikit_learn_is_compared_only(
    own: Path, features_path: Path, call_script: Run, assert_refused: Check
) -> None:
    out = own.parent / "out"
    compare = [COMPARE, "--features_path", features_path, "--output_dir", out, "--heads", "sklearn.svm:SVC"]
    done = call_script(*compare, "--head_options", "C=10", "kernel=linear")
    assert done.returncode == 0, done.stderr
    assert "SVC (not saved) *" in done.stdout
    assert "SVC is compared only, not saved" in done.stdout
    assert not list(out.glob("*.pt"))
    assert "SVC (not saved)" in (out / "report.html").read_text(encoding="utf-8")
    done = call_script(*compare, "lda", "--head_options", "C=10", "shrinkage=0.1")
    assert done.returncode == 0, done.stderr
    assert "lda *" in done.stdout
    assert json.loads((out / "metrics.json").read_text())["best"]["head"] == "lda"
    assert (out / "speaker_classifier_librispeech.pt").exists()
    assert_refused(call_script(*compare, "--head_options", "margin=0.3"), "margin", "none of the heads SVC")
    assert_refused(call_script(*compare, "--head_options", "CC=3"), "'CC'", "perhaps you meant 'C'")


def test_typos_are_answered_by_the_valid_names(
    own: Path, corpus_root: Path, call_script: Run, assert_refused: Check
) -> None:
    for script, flag, typo, *words in (
        (EXTRACT, "--encoder", "spectrl", "perhaps you meant 'spectral'", "campplus", "FILE.py:CLASS"),
        (COMPARE, "--encoder", "spectrl", "perhaps you meant 'spectral'", "campplus", "FILE.py:CLASS"),
        (COMPARE, "--heads", "lad", "perhaps you meant 'lda'", "centroid", "FILE.py:CLASS"),
        (COMPARE, "--heads", own, "own.py", "FILE.py:CLASS"),
        (EXTRACT, "--encoder", f"{own}:", "own.py:", "FILE.py:CLASS"),
    ):
        assert_refused(call_script(script, flag, typo), *words)
    for flag, name, right in (("--heads", "OwnHed", "OwnHead"), ("--encoder", "OwnEncodr", "OwnEncoder")):
        refused = call_script(COMPARE, "--data_dir", corpus_root, flag, f"{own}:{name}")
        assert_refused(refused, f"perhaps you meant '{right}'")
