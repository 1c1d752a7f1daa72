"""`train_encoder.py`: from a corpus to an encoder that the other scripts use."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from features import FeatureSet

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]
TRAIN, EXTRACT, INFER = "train_encoder.py", "extract_features.py", "speaker_recognition_inference.py"
# A run that takes seconds: few, short crops.
SHORT = ["--epochs", 1, "--batch_size", 16, "--n_frames", 32, "--num_workers", 0, "--device", "cpu"]


def test_encoder_and_classifier_are_used_by_the_other_scripts(
    corpus_root: Path, run_script: Run, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    done = run_script(TRAIN, corpus_root, *SHORT, "--output_dir", tmp_path)
    assert done.returncode == 0, done.stderr
    encoder, classifier = tmp_path / "encoder_conv1d.pt", tmp_path / "speaker_classifier_librispeech.pt"
    assert f"Saved {encoder}" in done.stdout
    assert f"Saved {classifier}" in done.stdout
    features = tmp_path / "features.pt"
    extracted = call_script(
        EXTRACT, corpus_root, "--encoder", "trained", "--encoder_weights", encoder, "--features_path", features
    )
    assert extracted.returncode == 0, extracted.stderr
    assert FeatureSet.load(features).features.shape == (40, 512)
    output = tmp_path / "predictions.csv"
    inferred = call_script(
        INFER, corpus_root / "101", "--classifier", classifier, "--encoder_weights", encoder, "--output", output
    )
    assert inferred.returncode == 0, inferred.stderr
    assert len(output.read_text().splitlines()) == 11
    moved = tmp_path / "elsewhere" / classifier.name
    moved.parent.mkdir()
    classifier.rename(moved)
    refused = call_script(INFER, corpus_root / "101", "--classifier", moved, "--output", output)
    assert_refused(refused, "--encoder_weights FILE")


def test_ensemble_is_one_classifier_for_inference(corpus_root: Path, call_script: Run, tmp_path: Path) -> None:
    recipe = ["--config", ROOT / "recipes/image_ensemble.yaml"]
    done = call_script(TRAIN, corpus_root, *recipe, *SHORT, "--steps_per_epoch", 1, "--output_dir", tmp_path)
    assert done.returncode == 0, done.stderr
    classifier, output = tmp_path / "speaker_classifier_librispeech.pt", tmp_path / "predictions.csv"
    inferred = call_script(INFER, corpus_root / "102", "--classifier", classifier, "--output", output)
    assert inferred.returncode == 0, inferred.stderr
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    for row in rows:
        names = [row["speaker"], *(row[f"speaker_{number}"] for number in (2, 3, 4))]
        assert sorted(names) == ["101", "102", "103", "104"]


def test_files_that_failed_are_listed_and_the_code_is_3(corpus_root: Path, call_script: Run, tmp_path: Path) -> None:
    root = shutil.copytree(corpus_root, tmp_path / "corpus")
    header, middle = sorted(root.rglob("*.flac"))[3:5]
    header.write_bytes(b"no audio")
    content = bytearray(middle.read_bytes())
    content[len(content) // 3 : -len(content) // 3] = bytes(len(content) // 3)
    middle.write_bytes(content)
    done = call_script(TRAIN, root, *SHORT, "--n_frames", "None", "--output_dir", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    for path in (header, middle):
        assert f"failed: {path.relative_to(root).as_posix()}: " in done.stdout
    assert "2 files failed; the others are done. Fix what failed, and give another --output_dir" in done.stdout
    assert (tmp_path / "run/encoder_conv1d.pt").is_file()


def test_download_gets_librispeech(
    corpus_root: Path, call_script: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(folder: Path, url: str) -> Path:
        asked.append((folder, url))
        return corpus_root

    monkeypatch.setattr("corpora.download_librispeech", download)
    url = "https://www.openslr.org/resources/12/dev-clean.tar.gz"
    for number, arguments in enumerate(([], ["--data_dir", tmp_path / "audio"])):
        done = call_script(TRAIN, "--download", *arguments, *SHORT, "--output_dir", tmp_path / str(number))
        assert done.returncode == 0, done.stderr
    assert asked == [(Path("data"), url), (tmp_path / "audio", url)]


def test_a_corpus_is_required(call_script: Run, assert_refused: Check, tmp_path: Path) -> None:
    assert_refused(call_script(TRAIN, *SHORT, "--output_dir", tmp_path), "No corpus is given.")


@pytest.mark.parametrize(
    ("device", "words"),
    [("cuda:63", "There is no device 'cuda:63'; this machine has "), ("gpu", "There is no device 'gpu'.")],
)
def test_a_device_that_is_not_there_is_refused(
    device: str, words: str, corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    assert_refused(call_script(TRAIN, corpus_root, "--device", device, "--output_dir", tmp_path), words)
    assert not (tmp_path / "training.ckpt").exists()


def test_subsets_are_trained_together(subsets: Path, call_script: Run, assert_refused: Check, tmp_path: Path) -> None:
    mixed = [*SHORT, "--split_by", "mixed", "--output_dir", tmp_path]
    done = call_script(TRAIN, subsets, *mixed, "--subsets", "train-small", "test-small")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "metrics.json").read_text())
    assert results["speakers"] == ["101", "102", "104"]
    assert "The validation part has no utterances, so the last epoch is selected." in results["notes"]
    refused = call_script(TRAIN, subsets, *mixed, "--subsets", "train-small", "dev-clean")
    assert_refused(refused, "'dev-clean'", "dev-small, test-small, train-small")


@pytest.mark.parametrize(
    ("absent", "words"),
    [
        (["lightning"], "The package lightning is not installed"),
        (
            ["torchvision", "pytorch_metric_learning"],
            "The packages pytorch-metric-learning, torchvision are not installed",
        ),
    ],
)
def test_absent_packages_of_training_are_named_in_a_sentence(
    absent: list[str], words: str, corpus_root: Path, assert_refused: Check, tmp_path: Path
) -> None:
    command = [TRAIN, str(corpus_root), "--output_dir", str(tmp_path)]
    code = (
        "import runpy, sys\n"
        f"for name in {absent!r}:\n"
        "    sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"sys.argv = {command!r}\n"
        f"runpy.run_path({str(ROOT / TRAIN)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert_refused(done, words, "which training a network needs. Run: pip install -r requirements-training.txt")
    assert list(tmp_path.iterdir()) == []
