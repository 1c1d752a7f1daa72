"""`speaker_verification.py evaluate`, `train` and `verify`: trials, backends and verifiers."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import soundfile

from verification import SpeakerStore, SpeakerVerifier

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]
VERIFY = "speaker_verification.py"


def test_evaluation_writes_metrics_and_pictures(trained_features: Path, run_script: Run, tmp_path: Path) -> None:
    done = run_script(VERIFY, "evaluate", "--features_path", trained_features, "--output_dir", tmp_path)
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
    assert f"speaker_verification.py evaluate --features_path {trained_features}" in metrics["command"]
    for picture in ("det_curve.png", "score_histogram.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_table_in_markdown_is_printed_and_written(trained_features: Path, call_script: Run, tmp_path: Path) -> None:
    command = [VERIFY, "evaluate", "--features_path", trained_features, "--output_dir", tmp_path]
    done = call_script(*command, "--table_format", "markdown", "--picture_formats", "svg")
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table.startswith("| backend | trials |")
    assert done.stdout.startswith(table)
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".html", ".json", ".md", ".svg"}


def test_drawn_trials_can_be_scored_again(trained_features: Path, call_script: Run, tmp_path: Path) -> None:
    command = [VERIFY, "evaluate", "--features_path", trained_features, "--output_dir"]
    drawn = call_script(*command, tmp_path / "drawn", "--triplets", 200)
    assert drawn.returncode == 0, drawn.stderr
    rows = json.loads((tmp_path / "drawn" / "metrics.json").read_text())["rows"]
    assert (rows[0]["n_target"], rows[0]["n_nontarget"]) == (200, 200)
    again = call_script(*command, tmp_path / "again", "--trials", tmp_path / "drawn" / "trials.txt")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["rows"] == rows


def test_trained_backends_score_other_speakers(trained_features: Path, call_script: Run, tmp_path: Path) -> None:
    command = [VERIFY, "evaluate", "--features_path", trained_features, "--output_dir", tmp_path]
    done = call_script(*command, "--backend", "within", "plda", "--as_norm")
    assert done.returncode == 0, done.stderr
    assert "trained on 2 of the speakers" in done.stdout


def test_verifier_is_trained_and_used(
    trained_features: Path, corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    saved = tmp_path / "verifier.pt"
    done = call_script(VERIFY, "train", "--features_path", trained_features, "--backend", "within", "--output", saved)
    assert done.returncode == 0, done.stderr
    assert "within: trained on 2 speakers, calibrated on 2 speakers with an EER of " in done.stdout
    one, other = (corpus_root / "101/1010" / f"101-1010-000{number}.flac" for number in (0, 1))
    done = call_script(VERIFY, "verify", one, other, "--verifier", saved, "--p_target", 0.3)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^score -?\d\.\d+, log-likelihood ratio [+-]\d+\.\d\d$", done.stdout, re.MULTILINE)
    assert re.match(
        r"(the same speaker|two speakers|unsure): probability of the same speaker \d+\.\d % \(prior 30 %\)",
        done.stdout.splitlines()[1],
    )
    assert re.fullmatch(
        r"Errors of this verifier, measured on the 2 speakers that calibrated it: [\d.]+ % of the pairs of two "
        r"speakers were accepted as one speaker, and [\d.]+ % of the pairs of one speaker were rejected "
        r"\(at a probability of 50 %; equal error rate [\d.]+ %\)\. Other recordings can have more errors\.",
        done.stdout.splitlines()[2],
    )
    copy = tmp_path / "copy.wav"
    soundfile.write(copy, *soundfile.read(one))
    done = call_script(VERIFY, "verify", one, copy, "--verifier", saved)
    assert done.stdout.splitlines()[1].startswith("the same audio: both files contain this recording, so the result ")
    # A verifier may be overwritten; files of other kinds may not.
    features, store = Path(shutil.copy(trained_features, tmp_path / "features.pt")), tmp_path / "speakers.db"
    SpeakerStore.create(store, SpeakerVerifier.load(saved)).close()
    assert call_script(VERIFY, "train", "--features_path", features, "--output", saved).returncode == 0
    before = features.read_bytes(), store.read_bytes()
    for arguments, word in (
        (["verify", one, tmp_path / "none.wav", "--verifier", saved], "none.wav"),
        (["verify", one, other, "--verifier", trained_features], "not a speaker verifier"),
        (["verify", one, other, "--p_target", 1], "--p_target is 1; expected above 0 and below 1."),
        (["verify", one, other, "--p_target", 0], "--p_target is 0; expected above 0 and below 1."),
        (["verify", one], "Expected two audio files, or one with --store and --name; found 1."),
        (["verify", one, one, one], "Expected two audio files, or one with --store and --name; found 3."),
        (["train"], "--features_path FILE"),
        (
            ["train", "--features_path", features, "--output", features],
            "this is an input, which the output would overwrite",
        ),
        (["train", "--features_path", features, "--output", store], "this is a store of speakers"),
    ):
        assert_refused(call_script(VERIFY, *arguments), word)
    assert (features.read_bytes(), store.read_bytes()) == before


def test_bad_trials_are_refused(
    trained_features: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    command = [VERIFY, "evaluate", "--features_path", trained_features, "--output_dir", tmp_path]
    trials = tmp_path / "t.txt"
    trials.write_text("101/1010/101-1010-0000.flac nobody.flac target\n")
    assert_refused(call_script(*command, "--trials", trials), "line 1", "'nobody.flac'")
    trials.write_text("101/1010/101-1010-0000.flac 101/1010/101-1010-0001.flac target\n")
    for flags, word in (
        (["--trials", trials], "1 target and 0 nontarget trials"),
        (["--trials", trials, "--backend", "plda"], "--train_features"),
        (["--trials", trials, "--triplets", 3], "give one of them"),
        (["--train_features", trained_features, "--backend", "within"], "40 recordings are both"),
        (["--backend"], "--backend is empty"),
    ):
        assert_refused(call_script(*command, *flags), word)
    assert_refused(call_script(VERIFY, "evaluate"), "--features_path FILE")
