"""`speaker_recognition_librispeech.py`: the comparison of heads, from a corpus or from features files."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from files import write_tensors
from heads import SpeakerClassifier

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]
COMPARE = "speaker_recognition_librispeech.py"
INFER = "speaker_recognition_inference.py"
VERIFY = "speaker_verification.py"
EXTRACT = "extract_features.py"


def test_main_job_writes_all_its_files(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == [
        "answers.csv",
        "calibration.png",
        "confusion.csv",
        "confusion.png",
        "embedding_map.csv",
        "embedding_map.png",
        "head_accuracies.png",
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
        "notes", "command", "versions", "created", "differences",
    }  # fmt: skip
    assert [row["head"] for row in metrics["rows"]] == 2 * ["linear", "mlp", "lda"]
    assert [row["split_by"] for row in metrics["rows"]] == 3 * ["utterance"] + 3 * ["session"]
    assert "--lr 0.01" in metrics["command"]


def test_second_run_uses_the_cache_and_prints_the_same_table(
    trained_features: Path, corpus_root: Path, run_script: Run, tmp_path: Path
) -> None:
    before = trained_features.stat().st_mtime_ns
    tables = []
    for data in (["--data_dir", corpus_root], ["--features_path", trained_features]):
        done = run_script(
            COMPARE, *data, "--encoder", "spectral", "--features_path", trained_features, "--output_dir", tmp_path,
            "--lr", 0.01,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if not line.startswith(("Features", "Saved"))]
        tables.append([line.rsplit(maxsplit=1)[0] for line in lines])
        if data[0] == "--data_dir":
            assert "0 of them computed now" in done.stderr
    assert tables[0] == tables[1]
    assert trained_features.stat().st_mtime_ns == before


def test_default_encoder_without_weights_says_where_to_get_them(
    corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encoders.weights.PRETRAINED_FOLDER", "no_such_folder")
    done = call_script(COMPARE, "--data_dir", corpus_root, "--output_dir", tmp_path)
    assert_refused(done, "music_speech_audioset_epoch_15_esc_89.98.pt", "--encoder_weights", "'spectral'")


@pytest.mark.parametrize(
    ("below", "flags", "words"),
    [
        ("101", [], ["All 10 utterances are of one speaker (101)", "Add recordings of another speaker"]),
        ("", ["--heads", "weighted"], ["'weighted' takes several layers", "linear"]),
        ("", ["--heads", "lda", "--head_options", "margin=0.3"], ["'margin'", "none of the heads lda"]),
        ("", ["--head_options", "marign=0.3"], ["'marign'", "perhaps you meant 'margin'"]),
        ("", ["--encoder", "spectral", "spectral"], ["librispeech_features_spectral.pt", "give each encoder once"]),
        ("", ["--encoder", "spectral", "campplus", "--encoder_weights", "auto", "none.pt"], ["none.pt: no such file"]),
    ],
)
def test_what_cannot_be_compared_is_refused_before_the_extraction(
    below: str,
    flags: list[str],
    words: list[str],
    corpus_root: Path,
    call_script: Run,
    assert_refused: Check,
    tmp_path: Path,
) -> None:
    data = ["--data_dir", corpus_root / below, "--encoder", "spectral", "--output_dir", tmp_path / "out"]
    assert_refused(call_script(COMPARE, *data, *flags), *words)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_corpus_without_utterances_for_validation_is_refused_before_the_extraction(
    corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    lines = ["path,speaker", *(f"{next(folder.rglob('*.flac'))},{folder.name}" for folder in corpus_root.iterdir())]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    flags = ["--data_dir", manifest, "--encoder", "spectral", "--output_dir", tmp_path / "out"]
    assert_refused(call_script(COMPARE, *flags), "No speaker has an utterance to spare for validation")
    assert list((tmp_path / "out").iterdir()) == []


def test_clap_works_from_weights_to_inference(
    corpus_root: Path, clap_weights: Path, call_script: Run, tmp_path: Path
) -> None:
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
        # The path of the default weights is no other encoder.
        given = ["--encoder_weights", clap_weights, "--output_dir", "given"]
        done = call_script(EXTRACT, "--data_dir", corpus_root / "101" / "1010", *given)
        assert "Features: given/librispeech_features_audiosep.pt" in done.stdout
    elsewhere = call_script(
        INFER, "--audio_path", corpus_root / "102", "--classifier",
        tmp_path / "outputs" / "speaker_classifier_librispeech.pt",
        "--encoder_weights", clap_weights, "--output", tmp_path / "p.csv",
    )  # fmt: skip
    assert elsewhere.returncode == 0, elsewhere.stderr


def test_wav2vec2_layers_work_from_weights_to_inference(
    corpus_root: Path, speech_model: Callable[..., Path], call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    model = speech_model()
    arguments = ["--data_dir", corpus_root, "--encoder", "wav2vec2", "--encoder_weights", model]
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
    assert_refused(call_script(COMPARE, *finished, "--layers", "1-2"), "number of one layer")
    assert_refused(call_script(COMPARE, *finished, "--layers", "9"), "no layer 9")
    audio = ["--audio_path", corpus_root / "101" / "1010", "--encoder_weights", model, "--output", tmp_path / "p.json"]
    done = call_script(INFER, *audio, "--classifier", tmp_path / "speaker_classifier_librispeech.pt")
    assert done.returncode == 0, done.stderr
    predictions = json.loads((tmp_path / "p.json").read_text())
    assert len(predictions) == 5
    assert all(prediction["error"] is None for prediction in predictions)


def test_existing_download_is_used(
    corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(corpus_root, tmp_path / "LibriSpeech" / "dev-clean")
    arguments = ["--encoder", "spectral", "--heads", "lda", "--output_dir", tmp_path / "out"]
    earlier = tmp_path / "out" / "speaker_classifier_librispeech.pt"
    write_tensors(earlier, {"members": [], "speakers": ["anna"]})
    done = call_script(COMPARE, "--download", "--data_dir", tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert "lda *" in done.stdout
    assert f"{earlier}: this classifier of an earlier run knows 1 speaker who is not in these features" in caplog.text
    assert "anna" not in SpeakerClassifier.load(earlier).speakers
    gone = ["--download_url", "http://127.0.0.1:9/dev-clean.tar.gz", "--data_dir", tmp_path / "new"]
    assert_refused(call_script(COMPARE, "--download", *gone, *arguments), "dev-clean.tar.gz", "by hand")


def test_bad_input_is_refused(corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "ann").mkdir(parents=True)
    for number in range(4):
        shutil.copy(ROOT / "sample" / "held_out" / "9001_1.flac", tmp_path / "one" / "ann" / f"{number}.flac")
    (tmp_path / "text.pt").write_text("text")
    (tmp_path / "file").touch()
    base = ["--encoder", "spectral", "--output_dir", tmp_path / "out"]
    one = ["--data_dir", tmp_path / "one", *base]
    for arguments, *words in (
        (["--data_dir", tmp_path / "none", *base], "none", "no such folder"),
        (["--data_dir", tmp_path / "empty", *base], "empty", "no audio"),
        (["--data_dir", tmp_path / "one", "--layout", "voxceleb", *base], "voxceleb", "--layout auto"),
        (one, "one speaker (ann)"),
        (["--features_path", tmp_path / "text.pt", *base], "text.pt", "not a features file"),
        (["--features_path", tmp_path / "none.pt", *base], "none.pt", "no such file"),
        ([*one, "--output_dir", tmp_path / "file"], "nothing can be written into this folder"),
        (["--data_dir", corpus_root, *base, "--device", "gpu"], "'gpu'"),
        ([*one, "--max_duration", "0"], "--max_duration", "0.01"),
        ([*one, "--max_duration", "nan"], "--max_duration"),
        ([*one, "--seed", "-1"], "--seed"),
        ([*one, "--epochs", "0"], "--epochs"),
        ([*one, "--lr", "nan"], "--lr"),
        ([*one, "--heads"], "--heads is empty"),
        ([*one, "--fractions", "0.8", "0.1", "0.2"], "--fractions", "sum to 1"),
        ([*one, "--fractions", "nan", "0", "0"], "--fractions"),
        (["--data_dir", corpus_root, *base, "--encoder_weights", "w.pt"], "no weights"),
    ):
        assert_refused(call_script(COMPARE, *arguments), *words)


def test_several_encoders_and_an_ensemble_work(
    corpus_root: Path, clap_weights: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    heads = ["--heads", "lda", "centroid", "--ensemble", "--seeds", 2, "--output_dir", tmp_path, "--device", "cpu"]
    both = ["--encoder", "spectral", "audiosep", "--encoder_weights", "auto", clap_weights]
    done = call_script(COMPARE, "--data_dir", corpus_root, *both, *heads)
    assert done.returncode == 0, done.stderr
    assert "[spectral + audiosep, split by session: " in done.stdout
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert {row["encoder"] for row in rows} == {"spectral", "audiosep", "spectral + audiosep"}
    assert {row["seed"] for row in rows} == {0, 1}
    files = sorted(tmp_path.glob("librispeech_features_*.pt"), reverse=True)
    from_files = call_script(COMPARE, "--features_path", *files, *heads)
    assert from_files.returncode == 0, from_files.stderr
    again = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in rows]

    # An ensemble over both encoders embeds with both, whichever head is the best here.
    for file in files:
        made = call_script(COMPARE, "--features_path", file, "--heads", "lda", "--output_dir", tmp_path / file.stem)
        assert made.returncode == 0, made.stderr
    members = [
        member
        for file in files
        for member in SpeakerClassifier.load(tmp_path / file.stem / "speaker_classifier_librispeech.pt").members
    ]
    loaded = SpeakerClassifier.load(tmp_path / "speaker_classifier_librispeech.pt")
    ensemble = SpeakerClassifier(tuple(members), loaded.speakers).save(tmp_path / "both.pt")
    audio = ["--audio_path", corpus_root / "103", "--classifier", ensemble, "--output", tmp_path / "p.json"]
    done = call_script(INFER, *audio, "--encoder_weights", "auto", clap_weights)
    assert done.returncode == 0, done.stderr
    predictions = json.loads((tmp_path / "p.json").read_text())
    assert [entry["predictions"][0]["speaker"] for entry in predictions] == ["103"] * 10
    done = call_script(INFER, *audio, "--encoder_weights", clap_weights)
    assert_refused(done, "for 2 encoders (spectral, audiosep)")


def test_tuning_and_head_options_have_flags(trained_features: Path, call_script: Run, tmp_path: Path) -> None:
    features = ["--features_path", trained_features, "--output_dir", tmp_path]
    quick = ["--heads", "lda", "cosine", "--epochs", 3, "--device", "cpu"]
    done = call_script(COMPARE, *features, *quick, "--tune", "--tune_budget", 3, "--scaler", "within+length")
    assert done.returncode == 0, done.stderr
    assert "tuned: 3 settings of each head on each split" in done.stdout
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert {row["scaler"] for row in rows} == {"within+length"}
    assert all(row["settings"] for row in rows)
    done = call_script(COMPARE, *features, "--heads", "cosine", "--head_options", "margin=35e-2", "margin_type=aam")
    assert done.returncode == 0, done.stderr
    head = SpeakerClassifier.load(tmp_path / "speaker_classifier_librispeech.pt").members[0].head
    settings = head.hyper_parameters()
    assert (settings["margin"], settings["margin_type"], settings["lr"]) == (0.35, "aam", 0.003)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--head_options", "margn=0.1"], "'margn'; perhaps you meant 'margin'"),
        (["--head_options", "margin=wide"], "margin='wide'; expected a number"),
        (["--head_options", "margin"], "expected NAME=VALUE"),
        (["--head_options", "C=1"], "'C', but none of the heads cosine has this option"),
        (["--head_options", "lr=1"], "but lr has its own flag; give --lr 1."),
        (["--head_options", "margin=0.1", "margin=0.2"], "--head_options has more than one value of margin; give one."),
        (["--class_weight", "balanced", "--balanced_sampling"], "give one of them"),
        (["--seeds", 0], "--seeds is 0"),
        (["--split_by", "given"], "The features hold no splits that the corpus gives"),
        (["--split_by", "given", "--fractions", "0.6", "0.2", "0.2"], "--fractions has no effect on the splits"),
        (["--encoder", "spectral", "audiosep", "--encoder_weights", "x"], "has 1 value, but --encoder has 2"),
        (["--features_path", "a.pt", "b.pt", "--data_dir", "x"], "has 2 files for 1 encoders"),
    ],
)
def test_bad_options_are_refused(
    flags: list[object],
    expected: str,
    trained_features: Path,
    call_script: Run,
    assert_refused: Check,
    tmp_path: Path,
) -> None:
    command = [COMPARE, "--features_path", trained_features, "--output_dir", tmp_path, "--heads", "cosine"]
    assert_refused(call_script(*command, *flags), expected)


def test_features_of_an_earlier_version_cause_one_warning(
    trained_features: Path, call_script: Run, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    content = torch.load(trained_features, weights_only=True)
    del content["audio"]["offset"]
    torch.save(content, tmp_path / "old.pt")
    for command in ((COMPARE, "--heads", "cosine"), (VERIFY, "evaluate")):
        for path, n_warnings in ((tmp_path / "old.pt", 1), (trained_features, 0)):
            caplog.clear()
            made = call_script(*command, "--features_path", path, "--output_dir", tmp_path / Path(command[0]).stem)
            assert made.returncode == 0, made.stderr
            assert caplog.text.count("did not remove DC offsets; run extract_features.py again") == n_warnings
