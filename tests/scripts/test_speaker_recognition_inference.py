"""`speaker_recognition_inference.py`: the speakers of files and folders, and unknown speakers."""

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from features import FeatureSet
from heads import SpeakerClassifier

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]
INFER = "speaker_recognition_inference.py"


def test_folder_gives_speakers_and_lists_bad_files(
    classifier: Path, corpus_root: Path, run_script: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "räume und so"
    for number, speaker in enumerate(("101", "103")):
        source = sorted((corpus_root / speaker).rglob("*.flac"))[0]
        (folder / "deep" / speaker).mkdir(parents=True)
        shutil.copy(source, folder / "deep" / speaker / f"take {number}.WAV")  # FLAC under another suffix
    (folder / "broken.wav").write_text("text")
    (folder / "call.gsm").write_bytes(bytes(range(1, 200)))
    (folder / "notes.txt").write_text("no audio")
    output = tmp_path / "new" / "predictions.csv"
    arguments = ["--audio_path", folder, "--classifier", classifier, "--top_k", 2, "--output", output]
    done = run_script(INFER, *arguments)
    assert done.returncode == 3, done.stderr
    assert f"failed: {folder / 'broken.wav'}: this is not audio" in done.stdout
    assert f"failed: {folder / 'call.gsm'}: this is not audio that libsndfile or PyAV decodes; a .gsm" in done.stdout
    assert f"INFO {folder}: passed over: 1 .txt" in done.stderr
    with output.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "speaker", "probability", "speaker_2", "probability_2", "error"]
    assert {Path(row["path"]).name: row["speaker"] for row in rows} == {
        "take 0.WAV": "101", "take 1.WAV": "103", "broken.wav": "", "call.gsm": "",
    }  # fmt: skip


def test_missing_classifier_is_refused_with_those_beside_it(
    classifier: Path, corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    missing = classifier.with_name("speaker_classifier_calls.pt")
    done = call_script(INFER, "--audio_path", corpus_root, "--classifier", missing, "--output", tmp_path / "x.csv")
    assert_refused(done, "no such file, but there is", classifier.name, "--classifier")


def test_one_file_gives_json_with_all_speakers(
    classifier: Path, corpus_root: Path, run_script: Run, tmp_path: Path
) -> None:
    path = sorted((corpus_root / "102").rglob("*.flac"))[0]
    done = run_script(INFER, "--audio_path", path, "--classifier", classifier, "--output", tmp_path / "p.json")
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((tmp_path / "p.json").read_text())
    assert record["path"] == str(path)
    assert record["error"] is None
    assert record["predictions"][0]["speaker"] == "102"
    assert len(record["predictions"]) == 4  # the default is 5, but there are 4 speakers


def test_unknown_speakers_are_rejected(
    trained_features: Path, corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    train = ["speaker_recognition_librispeech.py", "--features_path", trained_features, "--output_dir", tmp_path]
    done = call_script(*train, "--heads", "linear", "--lr", 0.01)  # lda needs more than four speakers
    assert done.returncode == 0, done.stderr
    strict = tmp_path / "strict.pt"
    loaded = SpeakerClassifier.load(tmp_path / "speaker_classifier_librispeech.pt")
    replace(loaded, threshold=1e6).save(strict)
    command = [INFER, "--audio_path", corpus_root / "101", "--classifier", strict, "--reject", "--top_k", 9]
    for output in (tmp_path / "out.csv", tmp_path / "out.json"):
        done = call_script(*command, "--output", output)
        assert done.returncode == 0, done.stderr
        assert "unknown speakers (4 held out in turn, " in " ".join(done.stdout.split())
        assert re.search(r"0000\.flac +unknown +101 ", done.stdout)
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["speaker"], row["probability"], row["speaker_2"]) for row in rows} == {("unknown", "", "101")}
    assert all(row["speaker_5"] and row["probability_5"] for row in rows)
    first = json.loads((tmp_path / "out.json").read_text())[0]["predictions"]
    assert first[0] == {"speaker": "unknown", "probability": None}
    replace(loaded, threshold=None).save(strict)
    assert_refused(call_script(*command), "no threshold for unknown speakers")


def test_rejection_is_refused_by_a_classifier_of_too_few_speakers(
    trained_features: Path, corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    features = FeatureSet.load(trained_features)
    three = features.select((features.labels < 3).numpy()).save(tmp_path / "three.pt")
    train = ["speaker_recognition_librispeech.py", "--features_path", three, "--output_dir", tmp_path]
    done = call_script(*train, "--heads", "linear", "--lr", 0.01)
    assert done.returncode == 0, done.stderr
    classifier = ["--classifier", tmp_path / "speaker_classifier_librispeech.pt", "--output", tmp_path / "p.csv"]
    done = call_script(INFER, "--audio_path", corpus_root / "101", *classifier, "--reject")
    assert_refused(
        done, "no threshold for unknown speakers: it knows 3 speakers, and linear needs at least 4", "enroll"
    )
    assert not (tmp_path / "p.csv").exists()


def test_bad_input_is_refused(
    classifier: Path, trained_features: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    sound = ["--audio_path", ROOT / "sample" / "held_out" / "9001_1.flac"]
    known = ["--classifier", classifier]
    for arguments, *words in (
        (["--audio_path", tmp_path / "none", *known], "none", "no such file or folder"),
        (["--audio_path", tmp_path / "empty", *known], "empty", "no audio"),
        ([*sound, "--classifier", trained_features], "not a speaker classifier"),
        ([*sound, "--classifier", tmp_path / "none.pt"], "none.pt", "no such file"),
        ([*sound, *known, "--output", tmp_path / "p.txt"], ".csv or .json"),
        ([*sound, *known, "--output", tmp_path / "file" / "p.csv"], "written"),
        ([*sound, *known, "--encoder_weights", "w.pt"], "no weights"),
        ([*sound, *known, "--top_k", "0"], "--top_k"),
        ([*sound, *known, "--output", tmp_path], ".csv or .json"),
    ):
        assert_refused(call_script(INFER, *arguments), *words)
