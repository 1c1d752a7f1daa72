"""The scripts as a user runs them."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from heads import SpeakerClassifier

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
SCRIPTS = [
    "extract_features.py",
    "speaker_recognition_librispeech.py",
    "speaker_recognition_inference.py",
]
VERIFY = "speaker_verification.py"
COMPARE = "speaker_recognition_librispeech.py"
INFER = "speaker_recognition_inference.py"


def assert_one_sentence(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """Check that a script refused its input as promised: exit code 2, a sentence, no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ERROR ")
    for word in words:
        assert word in message


@pytest.fixture(scope="module")
def trained(corpus_root: Path, run_script: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of the main job."""
    outputs = tmp_path_factory.mktemp("trained")
    done = run_script(
        COMPARE, "--data_dir", corpus_root, "--encoder", "spectral", "--output_dir", outputs, "--lr", 0.01
    )
    assert done.returncode == 0, done.stderr
    return outputs


@pytest.mark.parametrize("script", [*SCRIPTS, "make_report.py"])
def test_help_needs_no_heavy_library(script: str, run_script: Run) -> None:
    done = run_script(script, "--help")
    assert done.returncode == 0
    assert "--log_level" in done.stdout
    probe = (
        "import sys, runpy; sys.argv = [sys.argv[1], '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'sklearn', 'soundfile', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    )
    loaded = subprocess.run([sys.executable, "-c", probe, str(ROOT / script)], cwd=ROOT, capture_output=True, text=True)
    assert loaded.stderr.strip() == "[]"


def test_the_main_job_writes_what_it_promises(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == [
        "answers.csv",
        "calibration.png",
        "confusion.csv",
        "confusion.png",
        "embedding_map.csv",
        "embedding_map.png",
        "learning_curves.png",
        "librispeech_features_spectral.pt",
        "librispeech_scaler.pt",
        "metrics.csv",
        "metrics.json",
        "per_speaker.csv",
        "report.html",
        "speaker_classifier_librispeech.pt",
        "speakers.png",
    ]
    metrics = json.loads((trained / "metrics.json").read_text())
    assert set(metrics) == {
        "rows", "summary", "best", "sizes", "untested", "session_gap", "open_set", "speakers", "curves", "origins",
        "notes", "command", "versions",
    }  # fmt: skip
    assert [row["head"] for row in metrics["rows"]] == 2 * ["linear", "mlp", "lda"]
    assert [row["split_by"] for row in metrics["rows"]] == 3 * ["utterance"] + 3 * ["session"]
    assert "--lr 0.01" in metrics["command"]


def test_a_second_run_reuses_the_cache_and_prints_the_same_table(
    trained: Path, corpus_root: Path, run_script: Run, tmp_path: Path
) -> None:
    features = trained / "librispeech_features_spectral.pt"
    before = features.stat().st_mtime_ns
    tables = []
    for data in (["--data_dir", corpus_root], ["--features_path", features]):
        done = run_script(
            COMPARE, *data, "--encoder", "spectral", "--features_path", features, "--output_dir", tmp_path, "--lr", 0.01
        )
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if not line.startswith(("Features", "Saved"))]
        tables.append([line.rsplit(maxsplit=1)[0] for line in lines])
        if data[0] == "--data_dir":
            assert "0 of them computed now" in done.stderr
    assert tables[0] == tables[1]
    assert features.stat().st_mtime_ns == before


def test_the_report_is_made_again(trained: Path, call_script: Run, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(trained, again)
    (again / "report.html").unlink()
    done = call_script("make_report.py", "--output_dir", again)
    assert done.returncode == 0, done.stderr
    assert (again / "report.html").read_bytes() == (trained / "report.html").read_bytes()
    assert_one_sentence(
        call_script("make_report.py", "--output_dir", tmp_path), "metrics.json", "no results can be read"
    )


def test_extraction_alone_names_its_file(corpus_root: Path, run_script: Run, call_script: Run, tmp_path: Path) -> None:
    done = run_script(
        "extract_features.py", "--data_dir", corpus_root, "--encoder", "spectral", "--output_dir", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "layout librispeech, 40 utterances, 4 speakers, 8 sessions" in done.stderr
    assert f"Features: {tmp_path / 'librispeech_features_spectral.pt'}" in done.stdout
    shorter = call_script(
        "extract_features.py", "--data_dir", corpus_root, "--encoder", "spectral", "--output_dir", tmp_path,
        "--max_duration", 0.5,
    )  # fmt: skip
    assert shorter.returncode == 0, shorter.stderr
    assert len(list(tmp_path.glob("librispeech_features_spectral*.pt"))) == 2


def test_inference_on_a_folder_names_speakers_and_lists_bad_files(
    trained: Path, corpus_root: Path, run_script: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "räume und so"
    for number, speaker in enumerate(("101", "103")):
        source = sorted((corpus_root / speaker).rglob("*.flac"))[0]
        (folder / "deep" / speaker).mkdir(parents=True)
        shutil.copy(source, folder / "deep" / speaker / f"take {number}.WAV")  # the suffix lies, in upper case
    (folder / "broken.wav").write_text("text")
    (folder / "notes.txt").write_text("no audio")
    output = tmp_path / "new" / "predictions.csv"
    done = run_script(
        INFER, "--audio_path", folder, "--classifier", trained / "speaker_classifier_librispeech.pt", "--top_k", 2,
        "--output", output,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert f"failed: {folder / 'broken.wav'}: this is not audio" in done.stdout
    with open(output, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "speaker", "probability", "speaker_2", "probability_2", "error"]
    assert {Path(row["path"]).name: row["speaker"] for row in rows} == {
        "take 0.WAV": "101", "take 1.WAV": "103", "broken.wav": "",
    }  # fmt: skip


def test_names_that_the_terminal_cannot_show_stop_nothing(
    trained: Path, corpus_root: Path, run_script: Run, tmp_path: Path
) -> None:
    path = Path(shutil.copy(sorted((corpus_root / "102").rglob("*.flac"))[0], tmp_path / "Ω š.flac"))
    classifier = trained / "speaker_classifier_librispeech.pt"
    arguments = ["--audio_path", path, "--classifier", classifier, "--output", tmp_path / "p.csv"]
    done = run_script(INFER, *arguments, env={**os.environ, "PYTHONIOENCODING": "cp1252"}, encoding="cp1252")
    assert done.returncode == 0, done.stderr
    assert "Ω š.flac" in (tmp_path / "p.csv").read_text(encoding="utf-8")


def test_a_classifier_of_another_name_is_pointed_at(
    trained: Path, corpus_root: Path, call_script: Run, tmp_path: Path
) -> None:
    absent = trained / "speaker_classifier_calls.pt"
    done = call_script(INFER, "--audio_path", corpus_root, "--classifier", absent, "--output", tmp_path / "x.csv")
    assert_one_sentence(done, "no such file, but there is", "speaker_classifier_librispeech.pt", "--classifier")


def test_inference_on_a_file_writes_json(trained: Path, corpus_root: Path, run_script: Run, tmp_path: Path) -> None:
    path = sorted((corpus_root / "102").rglob("*.flac"))[0]
    done = run_script(
        INFER, "--audio_path", path, "--classifier", trained / "speaker_classifier_librispeech.pt",
        "--output", tmp_path / "p.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((tmp_path / "p.json").read_text())
    assert record["path"] == str(path)
    assert record["error"] is None
    assert record["predictions"][0]["speaker"] == "102"
    assert len(record["predictions"]) == 4  # all there are, though five were asked for


def test_strangers_are_called_unknown(trained: Path, corpus_root: Path, call_script: Run, tmp_path: Path) -> None:
    classifier = trained / "speaker_classifier_librispeech.pt"
    strict = tmp_path / "strict.pt"
    loaded = SpeakerClassifier.load(classifier)
    replace(loaded, threshold=1e6).save(strict)
    for output in (tmp_path / "out.csv", tmp_path / "out.json"):
        ask = [INFER, "--audio_path", corpus_root / "101", "--classifier", strict, "--output", output, "--reject"]
        done = call_script(*ask, "--top_k", 9)
        assert done.returncode == 0, done.stderr
        assert "strangers (4 left out in turn, by utterance," in " ".join(done.stdout.split())
        assert re.search(r"0000\.flac +unknown +101 ", done.stdout)
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["speaker"], row["probability"], row["speaker_2"]) for row in rows} == {("unknown", "", "101")}
    assert all(row["speaker_5"] and row["probability_5"] for row in rows)
    first = json.loads((tmp_path / "out.json").read_text())[0]["predictions"]
    assert first[0] == {"speaker": "unknown", "probability": None}
    replace(loaded, threshold=None).save(strict)
    assert_one_sentence(call_script(*ask), "no threshold to tell strangers by")


def test_a_run_with_bad_files_ends_with_code_3_and_says_which(
    corpus_root: Path, call_script: Run, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(corpus_root, tmp_path / "data"))
    (data / "101" / "1010" / "101-1010-0090.flac").write_text("text")
    for script in ("extract_features.py", COMPARE):
        done = call_script(script, "--data_dir", data, "--encoder", "spectral", "--output_dir", tmp_path / "out")
        assert done.returncode == 3, done.stderr
        assert "failed: 101/1010/101-1010-0090.flac: this is not audio" in done.stdout
    assert (tmp_path / "out" / "speaker_classifier_librispeech.pt").exists()


def test_a_yaml_file_gives_defaults_and_flags_go_before_it(trained: Path, call_script: Run, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("heads: [lda, linear]\nseed: 7\nepochs: 3\nmax_duration: null\nfractions: [0.5, 0.25, 0.25]\n")
    features = trained / "librispeech_features_spectral.pt"
    done = call_script(
        COMPARE, "--config", settings, "--features_path", features, "--seed", 8, "--output_dir", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text())["rows"]
    assert [(row["head"], row["seed"]) for row in rows] == 2 * [("lda", 8), ("linear", 8)]
    settings.write_text("epoch: 3\n")
    assert_one_sentence(call_script(COMPARE, "--config", settings), "'epoch'", "perhaps you meant epochs")
    settings.write_text("output_dir:\n")
    assert_one_sentence(call_script(COMPARE, "--config", settings), "output_dir", "empty")
    settings.write_text("- 3\n")
    assert_one_sentence(call_script(COMPARE, "--config", settings), "settings.yaml", "list")
    assert_one_sentence(call_script(COMPARE, "--config", tmp_path / "none.yaml"), "none.yaml")


def test_unknown_flags_are_refused_with_the_nearest_valid_one(call_script: Run) -> None:
    done = call_script(COMPARE, "--head", "linear")
    assert done.returncode == 2
    assert "--heads" in done.stderr + done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_is_missing_is_asked_for(script: str, call_script: Run) -> None:
    assert_one_sentence(call_script(script), "--audio_path" if script == INFER else "--data_dir")


def test_a_refusal_reaches_the_shell(run_script: Run, tmp_path: Path) -> None:
    done = run_script(INFER, "--audio_path", tmp_path / "none")
    assert_one_sentence(done, "none", "no such file or folder")
    assert done.stdout == ""


def test_the_default_encoder_without_weights_says_where_to_get_them(
    corpus_root: Path, call_script: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encoders.weights.FOLDER", "no_such_folder")
    done = call_script(COMPARE, "--data_dir", corpus_root, "--output_dir", tmp_path)
    assert_one_sentence(done, "music_speech_audioset_epoch_15_esc_89.98.pt", "--encoder_weights", "'spectral'")


def test_clap_goes_all_the_way(corpus_root: Path, clap_weights: Path, call_script: Run, tmp_path: Path) -> None:
    """The default encoder: found by itself, trained on, and used by the classifier."""
    (tmp_path / "pretrained_models").mkdir()
    (tmp_path / "pretrained_models" / clap_weights.name).symlink_to(clap_weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        done = call_script(COMPARE, "--data_dir", corpus_root, "--heads", "lda", "--fractions", 0.6, 0.2, 0.2)
        assert done.returncode == 0, done.stderr
        assert "Features: outputs/librispeech_features_audiosep.pt" in done.stdout
        done = call_script(INFER, "--audio_path", corpus_root / "101", "--top_k", 1)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("101-10") == 10
        found = ["--encoder_weights", clap_weights, "--output_dir", "named"]
        done = call_script("extract_features.py", "--data_dir", corpus_root / "101" / "1010", *found)
        assert "Features: named/librispeech_features_audiosep.pt" in done.stdout, (
            "the default weights, named, are the default"
        )
    elsewhere = call_script(
        INFER, "--audio_path", corpus_root / "102", "--classifier",
        tmp_path / "outputs" / "speaker_classifier_librispeech.pt",
        "--encoder_weights", clap_weights, "--output", tmp_path / "p.csv",
    )  # fmt: skip
    assert elsewhere.returncode == 0, elsewhere.stderr


def test_all_layers_of_wav2vec2_go_all_the_way(
    corpus_root: Path, speech_model: Callable[..., Path], call_script: Run, tmp_path: Path
) -> None:
    model = speech_model()
    arguments = [
        "--data_dir",
        corpus_root,
        "--encoder",
        "wav2vec2",
        "--encoder_weights",
        model,
        "--store_dtype",
        "fp16",
    ]
    training = ["--heads", "linear", "weighted", "--epochs", 5, "--lr", 0.01, "--output_dir", tmp_path]
    done = call_script(COMPARE, *arguments, "--store_dtype", "fp16", *training)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^layer \(linear\) ", done.stdout, re.MULTILINE)
    assert re.search(r"^weighted", done.stdout, re.MULTILINE)
    assert (tmp_path / "layer_curve.png").read_bytes().startswith(b"\x89PNG")
    (features,) = tmp_path.glob("librispeech_features_wav2vec2_????????_fp16.pt")
    content = torch.load(features, weights_only=True)
    assert content["features"].shape == (40, 4, 32)
    assert content["features"].dtype == torch.float16
    finished = ["--features_path", features, "--heads", "linear", "--epochs", 2, "--output_dir", tmp_path / "one"]
    for layers in (2, "last"):
        done = call_script(COMPARE, *finished, "--layers", layers)
        assert done.returncode == 0, done.stderr
        assert "layer (" not in done.stdout
        rows = json.loads((tmp_path / "one" / "metrics.json").read_text())["rows"]
        assert {row["layer"] for row in rows} == {2 if layers == 2 else 3}
    assert_one_sentence(call_script(COMPARE, *finished, "--layers", "1-2"), "number of one layer")
    assert_one_sentence(call_script(COMPARE, *finished, "--layers", "9"), "no layer 9")
    heard = ["--audio_path", corpus_root / "101" / "1010", "--encoder_weights", model, "--output", tmp_path / "p.json"]
    done = call_script(INFER, *heard, "--classifier", tmp_path / "speaker_classifier_librispeech.pt")
    assert done.returncode == 0, done.stderr
    predictions = json.loads((tmp_path / "p.json").read_text())
    assert len(predictions) == 5
    assert all(prediction["error"] is None for prediction in predictions)


def test_windows_and_precision_are_flags(
    corpus_root: Path, clap_weights: Path, call_script: Run, tmp_path: Path
) -> None:
    from features import FeatureSet

    arguments = ["--data_dir", corpus_root / "101", "--encoder", "clap", "--encoder_weights", clap_weights]
    done = call_script(
        "extract_features.py", *arguments, "--window", 0.5, "--precision", "bf16", "--output_dir", tmp_path
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("librispeech_features_audiosep_????????.pt")
    features = FeatureSet.load(path)
    assert features.encoder["options"] == {"window": 0.5, "hop": 0.25}
    assert features.encoder["precision"] == "bf16"
    assert features.audio is not None
    assert features.audio.crop is None
    assert_one_sentence(call_script("extract_features.py", *arguments, "--hop", 1), "--hop", "give --window")
    done = call_script("extract_features.py", *arguments[:2], "--encoder", "spectral", "--window", 2)
    assert_one_sentence(done, "'spectral' has no option 'window'")


def test_a_download_that_is_there_already_is_used(corpus_root: Path, call_script: Run, tmp_path: Path) -> None:
    shutil.copytree(corpus_root, tmp_path / "LibriSpeech" / "dev-clean")
    arguments = ["--encoder", "spectral", "--heads", "lda", "--output_dir", tmp_path / "out"]
    done = call_script(COMPARE, "--download", "--data_dir", tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert "lda *" in done.stdout
    gone = ["--download_url", "http://127.0.0.1:9/dev-clean.tar.gz", "--data_dir", tmp_path / "new"]
    assert_one_sentence(call_script(COMPARE, "--download", *gone, *arguments), "dev-clean.tar.gz", "by hand")


def test_bad_input_is_answered_in_a_sentence(trained: Path, call_script: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "ann").mkdir(parents=True)
    for number in range(4):
        shutil.copy(ROOT / "sample" / "held_out" / "9001_1.flac", tmp_path / "one" / "ann" / f"{number}.flac")
    (tmp_path / "text.pt").write_text("text")
    (tmp_path / "file").touch()
    base = ["--encoder", "spectral", "--output_dir", tmp_path / "out"]
    for arguments, words in (
        (["--data_dir", tmp_path / "none", *base], ["none", "no such folder"]),
        (["--data_dir", tmp_path / "empty", *base], ["empty", "no audio"]),
        (["--data_dir", tmp_path / "one", "--layout", "voxceleb", *base], ["voxceleb", "--layout auto"]),
        (["--data_dir", tmp_path / "one", *base], ["one speaker (ann)"]),
        (["--features_path", tmp_path / "text.pt", *base], ["text.pt", "not a features file"]),
        (["--features_path", tmp_path / "none.pt", *base], ["none.pt", "no such file"]),
        (
            ["--data_dir", tmp_path / "one", *base[:2], "--output_dir", tmp_path / "file"],
            ["nothing can be written into this folder"],
        ),
        (["--data_dir", tmp_path / "one", *base, "--device", "gpu"], ["'gpu'"]),
        (["--data_dir", tmp_path / "one", *base, "--max_duration", "0"], ["--max_duration", "0.01"]),
        (["--data_dir", tmp_path / "one", *base, "--max_duration", "nan"], ["--max_duration"]),
        (["--data_dir", tmp_path / "one", *base, "--seed", "-1"], ["--seed"]),
        (["--data_dir", tmp_path / "one", *base, "--epochs", "0"], ["--epochs"]),
        (["--data_dir", tmp_path / "one", *base, "--lr", "nan"], ["--lr"]),
        (["--data_dir", tmp_path / "one", *base, "--heads"], ["--heads"]),
        (["--data_dir", tmp_path / "one", *base, "--fractions", "0.8", "0.1", "0.2"], ["--fractions", "sum to 1"]),
        (["--data_dir", tmp_path / "one", *base, "--fractions", "nan", "0", "0"], ["--fractions"]),
        (["--data_dir", tmp_path / "one", *base, "--encoder_weights", "w.pt"], ["no weights"]),
    ):
        assert_one_sentence(call_script(COMPARE, *arguments), *words)
    classifier = trained / "speaker_classifier_librispeech.pt"
    features = trained / "librispeech_features_spectral.pt"
    sound = ROOT / "sample" / "held_out" / "9001_1.flac"
    for arguments, words in (
        (["--audio_path", tmp_path / "none", "--classifier", classifier], ["none", "no such file or folder"]),
        (["--audio_path", tmp_path / "empty", "--classifier", classifier], ["empty", "no audio"]),
        (["--audio_path", sound, "--classifier", features], ["not a speaker classifier"]),
        (["--audio_path", sound, "--classifier", tmp_path / "none.pt"], ["none.pt", "no such file"]),
        (["--audio_path", sound, "--classifier", classifier, "--output", tmp_path / "p.txt"], [".csv or .json"]),
        (["--audio_path", sound, "--classifier", classifier, "--output", tmp_path / "file" / "p.csv"], ["written"]),
        (["--audio_path", sound, "--classifier", classifier, "--encoder_weights", "w.pt"], ["no weights"]),
        (["--audio_path", sound, "--classifier", classifier, "--top_k", "0"], ["--top_k"]),
        (["--audio_path", sound, "--classifier", classifier, "--output", tmp_path], [".csv or .json"]),
    ):
        assert_one_sentence(call_script(INFER, *arguments), *words)


def test_several_encoders_and_an_ensemble_go_all_the_way(
    corpus_root: Path, clap_weights: Path, call_script: Run, tmp_path: Path
) -> None:
    heads = ["--heads", "lda", "centroid", "--ensemble", "--seeds", 2, "--output_dir", tmp_path, "--device", "cpu"]
    both = ["--encoder", "spectral", "audiosep", "--encoder_weights", "auto", clap_weights]
    done = call_script(COMPARE, "--data_dir", corpus_root, *both, *heads)
    assert done.returncode == 0, done.stderr
    assert "[spectral + audiosep, by session: " in done.stdout
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert {row["encoder"] for row in rows} == {"spectral", "audiosep", "spectral + audiosep"}
    assert {row["seed"] for row in rows} == {0, 1}
    files = sorted(tmp_path.glob("librispeech_features_*.pt"), reverse=True)
    from_files = call_script(COMPARE, "--features_path", *files, *heads)
    assert from_files.returncode == 0, from_files.stderr
    again = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in rows]

    # An ensemble over both encoders listens with both, whichever head was best here.
    classifiers = [
        call_script(COMPARE, "--features_path", file, "--heads", "lda", "--output_dir", tmp_path / file.stem)
        for file in files
    ]
    assert [made.returncode for made in classifiers] == [0, 0]
    members = [
        member
        for file in files
        for member in SpeakerClassifier.load(tmp_path / file.stem / "speaker_classifier_librispeech.pt").members
    ]
    loaded = SpeakerClassifier.load(tmp_path / "speaker_classifier_librispeech.pt")
    ensemble = SpeakerClassifier(tuple(members), loaded.speakers).save(tmp_path / "both.pt")
    heard = ["--audio_path", corpus_root / "103", "--classifier", ensemble, "--output", tmp_path / "p.json"]
    done = call_script(INFER, *heard, "--encoder_weights", "auto", clap_weights)
    assert done.returncode == 0, done.stderr
    predictions = json.loads((tmp_path / "p.json").read_text())
    assert [entry["predictions"][0]["speaker"] for entry in predictions] == ["103"] * 10
    done = call_script(INFER, *heard, "--encoder_weights", clap_weights)
    assert_one_sentence(done, "1 places of weights for 2 encoders (spectral, audiosep)")


def test_tuning_and_settings_of_heads_go_by_flags(trained: Path, call_script: Run, tmp_path: Path) -> None:
    features = ["--features_path", trained / "librispeech_features_spectral.pt", "--output_dir", tmp_path]
    quick = ["--heads", "lda", "cosine", "--epochs", 3, "--device", "cpu"]
    done = call_script(COMPARE, *features, *quick, "--tune", "--tune_budget", 3, "--scaler", "within+length")
    assert done.returncode == 0, done.stderr
    assert "tuned: 3 settings of each head on each split" in done.stdout
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert {row["scaler"] for row in rows} == {"within+length"}
    assert all(row["settings"] for row in rows)
    done = call_script(COMPARE, *features, "--heads", "cosine", "--head_options", "margin=35e-2", "margin_type=aam")
    assert done.returncode == 0, done.stderr
    chosen = SpeakerClassifier.load(tmp_path / "speaker_classifier_librispeech.pt").members[0].head.hyper_parameters()
    assert (chosen["margin"], chosen["margin_type"], chosen["lr"]) == (0.35, "aam", 0.003)
    for flags, said in (
        (["--head_options", "margn=0.1"], "'margn'; perhaps you meant margin"),
        (["--head_options", "margin=wide"], "'margin' of the head 'cosine' is 'wide'; expected a number"),
        (["--head_options", "margin"], "expected NAME=VALUE"),
        (["--head_options", "C=1"], "none of the heads cosine has"),
        (["--head_options", "lr=1"], "a flag of its own: --lr 1"),
        (["--class_weight", "balanced", "--balanced_sampling"], "give one of them"),
        (["--seeds", 0], "--seeds is 0"),
        (["--encoder", "spectral", "audiosep", "--encoder_weights", "x"], "names 1, --encoder 2"),
        (["--features_path", "a.pt", "b.pt", "--data_dir", "x"], "2 --features_path for 1 encoders"),
    ):
        assert_one_sentence(call_script(COMPARE, *features, "--heads", "cosine", *flags), said)


def test_verification_writes_what_it_promises(trained: Path, run_script: Run, call_script: Run, tmp_path: Path) -> None:
    features = trained / "librispeech_features_spectral.pt"
    done = run_script(VERIFY, "evaluate", "--features_path", features, "--output_dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "det_curve.csv", "det_curve.png", "metrics.csv", "metrics.json", "report.html", "score_histogram.csv",
        "score_histogram.png",
    ]  # fmt: skip
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert [row["trials"] for row in metrics["rows"]] == ["all", "cross-session", "same-session"]
    row = metrics["rows"][0]
    keys = {"features", "backend", "trials", "n_target", "n_nontarget", "eer", "min_dcf_0.01", "min_dcf_0.05", "cllr"}
    assert keys <= row.keys()
    assert (row["n_target"], row["n_nontarget"]) == (180, 600)
    assert row["eer_low"] <= row["eer"] <= row["eer_high"]
    assert f"speaker_verification.py evaluate --features_path {features}" in metrics["command"]
    for picture in ("det_curve.png", "score_histogram.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")

    drawn = [VERIFY, "evaluate", "--features_path", features, "--output_dir", tmp_path / "drawn"]
    assert call_script(*drawn, "--triplets", 200).returncode == 0
    rows = json.loads((tmp_path / "drawn" / "metrics.json").read_text())["rows"]
    assert (rows[0]["n_target"], rows[0]["n_nontarget"]) == (200, 200)
    again = call_script(*drawn[:-1], tmp_path / "again", "--trials", tmp_path / "drawn" / "trials.txt")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["rows"] == rows

    trained_backend = call_script(*drawn, "--backend", "within", "plda", "--as_norm")
    assert trained_backend.returncode == 0, trained_backend.stderr
    assert "trained on 2 of the speakers, chosen by seed 0; the other 2 are scored" in trained_backend.stdout


def test_a_verifier_is_trained_and_asked(trained: Path, corpus_root: Path, call_script: Run, tmp_path: Path) -> None:
    features, saved = trained / "librispeech_features_spectral.pt", tmp_path / "verifier.pt"
    done = call_script(VERIFY, "train", "--features_path", features, "--backend", "within", "--output", saved)
    assert done.returncode == 0, done.stderr
    assert "within: trained on 2 speakers, calibrated on 2, whose EER is" in done.stdout
    one, other = (corpus_root / "101/1010" / f"101-1010-000{number}.flac" for number in (0, 1))
    done = call_script(VERIFY, "verify", one, other, "--verifier", saved, "--p_target", 0.3)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^score -?\d\.\d+, log-likelihood ratio [+-]\d+\.\d\d$", done.stdout, re.MULTILINE)
    assert re.fullmatch(
        r"(the same speaker|two speakers): probability of the same speaker \d+\.\d %, before anything was heard 30 %",
        done.stdout.splitlines()[1],
    )
    assert_one_sentence(call_script(VERIFY, "verify", one, tmp_path / "none.wav", "--verifier", saved), "none.wav")
    assert_one_sentence(call_script(VERIFY, "verify", one, other, "--verifier", features), "not a speaker verifier")
    assert_one_sentence(call_script(VERIFY, "verify", one, other, "--p_target", 2), "--p_target is 2")
    assert_one_sentence(call_script(VERIFY, "train"), "--features_path FILE")
    assert_one_sentence(call_script(VERIFY, "verify", one), "1 audio files are named; give two")


def test_verification_refuses_in_a_sentence(trained: Path, call_script: Run, tmp_path: Path) -> None:
    features = ["evaluate", "--features_path", trained / "librispeech_features_spectral.pt", "--output_dir", tmp_path]
    trials = tmp_path / "t.txt"
    trials.write_text("101/1010/101-1010-0000.flac nobody.flac target\n")
    assert_one_sentence(call_script(VERIFY, *features, "--trials", trials), "line 1", "'nobody.flac'")
    trials.write_text("101/1010/101-1010-0000.flac 101/1010/101-1010-0001.flac target\n")
    assert_one_sentence(
        call_script(VERIFY, *features, "--trials", trials), "1 target and 0 nontarget trials; error rates need both"
    )
    assert_one_sentence(call_script(VERIFY, *features, "--trials", trials, "--backend", "plda"), "--train_features")
    train = ["--train_features", features[2], "--backend", "within"]
    assert_one_sentence(call_script(VERIFY, *features, *train), "40 recordings are both trained on and scored")
    assert_one_sentence(call_script(VERIFY, "evaluate"), "--features_path FILE")
    assert_one_sentence(call_script(VERIFY, *features, "--trials", trials, "--triplets", 3), "give one of them")
    assert_one_sentence(call_script(VERIFY, "evalate"), "perhaps you meant evaluate")
    listed = call_script(VERIFY, "--help")
    assert listed.returncode == 0
    assert "evaluate    Score trials" in listed.stdout


@pytest.fixture(scope="module")
def enrolled(trained: Path, corpus_root: Path, run_script: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with two of the corpus's four speakers, enrolled by a folder and by single files."""
    folder = tmp_path_factory.mktemp("enrolled")
    verifier, store = folder / "verifier.pt", folder / "speakers.db"
    features = trained / "librispeech_features_spectral.pt"
    assert run_script(VERIFY, "train", "--features_path", features, "--output", verifier).returncode == 0
    first = ["enroll", "--store", store, "--name", "anna", corpus_root / "101/1010", "--verifier", verifier]
    done = run_script(VERIFY, *first)
    assert done.returncode == 0, done.stderr
    assert f"Made {store}\n5 recordings enrolled; {store} has 1 speaker\n" in done.stdout
    files = [corpus_root / "102/1020" / f"102-1020-000{number}.flac" for number in (0, 1, 7)]
    done = run_script(VERIFY, "enroll", *files, "--store", store, "--name", "ben")
    assert done.returncode == 3, done.stderr  # the third is not there, which costs the others nothing
    assert "2 recordings enrolled" in done.stdout
    assert f"failed: {files[2]}: no such file" in done.stdout
    return store


def test_the_enrolled_are_identified(enrolled: Path, corpus_root: Path, call_script: Run, tmp_path: Path) -> None:
    listed = call_script(VERIFY, "list", "--store", enrolled)
    assert listed.returncode == 0
    assert [line.split()[:2] for line in listed.stdout.splitlines()[2:4]] == [["anna", "5"], ["ben", "2"]]
    output = tmp_path / "identified.json"
    who = ["identify", "--store", enrolled, "--top_k", 2, "--output", output]
    done = call_script(VERIFY, *who, "--audio_path", corpus_root / "101/1011")
    assert done.returncode == 0, done.stderr
    assert {record["predictions"][0]["speaker"] for record in json.loads(output.read_text())} == {"anna"}
    strange = call_script(VERIFY, *who, "--audio_path", corpus_root / "104/1040", "--p_known", 0.001)
    assert "unknown" in strange.stdout
    names = [each["speaker"] for record in json.loads(output.read_text()) for each in record["predictions"]]
    assert set(names[::2]) == {"unknown"}
    one = corpus_root / "101/1011/101-1011-0002.flac"
    done = call_script(VERIFY, "verify", "--store", enrolled, "--name", "anna", one)
    assert done.stdout.splitlines()[1].startswith("anna: probability of anna ")
    done = call_script(VERIFY, "verify", "--store", enrolled, "--name", "ben", one, "--p_target", 0.001)
    assert done.stdout.splitlines()[1].startswith("not ben: probability of ben ")


def test_cached_embeddings_are_scored(enrolled: Path, trained: Path, call_script: Run, tmp_path: Path) -> None:
    features, table = trained / "librispeech_features_spectral.pt", tmp_path / "scores.csv"
    ask = ["score", "--store", enrolled, "--features_path", features, "--top_k", 9, "--output", table]
    done = call_script(VERIFY, *ask)
    assert done.returncode == 0, done.stderr
    assert "40 recordings against 2 speakers (the first 20 above)" in done.stdout
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "speaker", "score", "llr", "speaker_2", "score_2", "llr_2"]
    assert len(rows) == 40
    own = [row["speaker"] for row in rows if row["id"].startswith(("101/", "102/"))]
    assert own == ["anna"] * 10 + ["ben"] * 10
    assert all(float(row["llr"]) >= float(row["llr_2"]) for row in rows)


def test_stores_change_only_when_told(
    enrolled: Path, trained: Path, corpus_root: Path, call_script: Run, tmp_path: Path
) -> None:
    store, features = tmp_path / "speakers.db", trained / "librispeech_features_spectral.pt"
    shutil.copy(enrolled, store)
    again = ["enroll", "--store", store, "--name", "anna", corpus_root / "101/1011"]
    assert_one_sentence(call_script(VERIFY, *again), "'anna' is enrolled already", "--existing replace")
    assert "5 recordings enrolled" in call_script(VERIFY, *again, "--existing", "add").stdout
    assert "0 recordings enrolled, 5 were there already" in call_script(VERIFY, *again, "--existing", "add").stdout
    removed = call_script(VERIFY, "remove", "--store", store, "--name", "anna")
    assert f"anna is removed; {store} has 1 speaker" in removed.stdout
    assert_one_sentence(call_script(VERIFY, "remove", "--store", store, "--name", "bem"), "perhaps you meant 'ben'")
    assert_one_sentence(
        call_script(VERIFY, "enroll", "--store", store, "--features_path", features), "enrolled as 'ben' already"
    )
    call_script(VERIFY, "remove", "--store", store, "--name", "ben")
    done = call_script(VERIFY, "enroll", "--store", store, "--features_path", features)
    assert f"40 recordings enrolled; {store} has 4 speakers" in done.stdout
    merged = tmp_path / "merged.db"
    shutil.copy(enrolled, merged)
    call_script(VERIFY, "remove", "--store", merged, "--name", "ben")
    assert_one_sentence(call_script(VERIFY, "merge", "--store", merged, "--other", store), "enrolled as 'anna' already")
    call_script(VERIFY, "remove", "--store", merged, "--name", "anna")
    done = call_script(VERIFY, "merge", "--store", merged, "--other", store)
    assert f"40 recordings enrolled; {merged} has 4 speakers" in done.stdout


def test_a_timeline_is_a_table_and_rttm(enrolled: Path, corpus_root: Path, call_script: Run, tmp_path: Path) -> None:
    voices = [sorted((corpus_root / chapter).iterdir()) for chapter in ("101/1011", "102/1021")]
    parts = [np.concatenate([soundfile.read(path)[0] for path in paths]) for paths in voices]
    meeting = tmp_path / "the meeting.wav"
    soundfile.write(meeting, np.concatenate([parts[0], np.zeros(32_000), parts[1]]), 16_000)
    rttm = tmp_path / "out" / "meeting.rttm"
    ask = ["identify", "--timeline", "--store", enrolled, "--audio_path"]
    done = call_script(VERIFY, *ask, meeting, "--window", 0.8, "--hop", 0.2, "--output", rttm)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["from", "to", "speaker", "percent"]
    lines = [line.split() for line in rttm.read_text().splitlines()]
    assert {(line[0], line[1], line[2], len(line)) for line in lines} == {("SPEAKER", "the_meeting", "1", 10)}
    for name, start, end in (("anna", 0.0, 3.5), ("ben", 5.5, 9.0)):
        spans = [(float(line[3]), float(line[3]) + float(line[4])) for line in lines if line[7] == name]
        assert min(span[0] for span in spans) == pytest.approx(start, abs=0.5)
        assert max(span[1] for span in spans) == pytest.approx(end, abs=0.5)
    assert_one_sentence(call_script(VERIFY, *ask, corpus_root), "40 recordings; --timeline takes one")
    assert_one_sentence(call_script(VERIFY, *ask, meeting, "--hop", 3), "3 s apart")


def test_the_store_refuses_in_a_sentence(
    enrolled: Path, corpus_root: Path, write_audio: Callable[..., Path], call_script: Run, tmp_path: Path
) -> None:
    one, short = corpus_root / "101/1011/101-1011-0002.flac", write_audio(tmp_path / "short.wav", seconds=0.3)
    store = ["--store", enrolled]
    verifier, empty, cut = enrolled.with_name("verifier.pt"), tmp_path / "empty.db", tmp_path / "cut.db"
    shutil.copy(enrolled, empty)
    for name in ("anna", "ben"):
        call_script(VERIFY, "remove", "--store", empty, "--name", name)
    cut.write_bytes(enrolled.read_bytes()[:50_000])
    for command, *words in (
        (["identify", "--store", tmp_path / "none.db", "--audio_path", one], "none.db: no such file"),
        (["identify", "--store", empty, "--audio_path", one], "empty.db: nobody is enrolled here"),
        (
            ["identify", "--store", cut, "--audio_path", one],
            "cut.db: this is not a store of speakers, or it is damaged",
        ),
        (["identify", *store], "--audio_path FILE_OR_FOLDER"),
        (["identify", *store, "--audio_path", one, "--p_known", 1], "--p_known is 1"),
        (["score", *store], "--features_path FILE"),
        (["verify", *store, "--name", "anna", short], "short.wav: 0.30 s of audio say too little", "give 0.5 or more"),
        (["verify", *store, one], "--store and --name go together"),
        (["verify", *store, "--name", "anna", one, one], "give one to compare with 'anna'"),
        (["verify", one, one, one], "3 audio files are named; give two"),
        (["enroll", *store, "--name", "carl", short], "give 0.5 or more. Nobody was enrolled"),
        (["enroll", "--store", tmp_path / "new.db", "--name", "carl", short, "--verifier", verifier], "0.5 or more"),
        (["enroll", *store, "--name", "unknown", one], "'unknown' cannot be a speaker's name"),
        (["identify", "--store", ".", "--audio_path", one], "this is a folder. Expected a store"),
        (["identify", *store, "--timeline", "--audio_path", one, "--output", enrolled], "is written to a .rttm file"),
        (["score", *store, "--features_path", one, "--output", enrolled], "is written to a .csv file"),
        (["enroll", *store, "--name", "carl"], "--name NAME AUDIO"),
        (
            ["enroll", "--store", tmp_path / "new.db", "--name", "carl", one, "--verifier", one],
            "not a speaker verifier",
        ),
        (["remove", *store], "--name NAME"),
        (["merge", *store], "--other FILE"),
    ):
        assert_one_sentence(call_script(VERIFY, *command), *words)
    assert not (tmp_path / "new.db").exists()
    assert "2 speakers" in call_script(VERIFY, "list", *store).stdout
