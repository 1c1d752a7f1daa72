"""The recipes of meetings: their settings, and a run of each with a tiny random model."""

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import parse
from config import TrainingConfig
from corpora import Corpus
from files import read_csv
from heads import SpeakerClassifier

RECIPES = Path(__file__).parents[2] / "recipes"
TRANSFER, BASELINE = RECIPES / "aishell4_transfer.yaml", RECIPES / "aishell4_baseline.yaml"
Run = Callable[..., "subprocess.CompletedProcess[str]"]
TINY = ["--epochs", 1, "--steps_per_epoch", 2, "--n_frames", 4_000, "--num_workers", 0, "--device", "cpu"]


@pytest.fixture
def model(speech_model: Callable[..., Path]) -> Path:
    large = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    return speech_model(num_hidden_layers=9, **large)


@pytest.fixture
def manifest(corpus: Corpus, tmp_path: Path) -> Path:
    """Return a manifest of the small corpus as two meetings of two speakers."""
    path = tmp_path / "meetings.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "session"])
        for utterance in corpus:
            meeting = "M1" if corpus.speakers.index(utterance.speaker) < 2 else "M2"
            writer.writerow([utterance.path, f"{meeting}_{utterance.speaker}", meeting])
    return path


def test_recipes_have_the_published_settings() -> None:
    transfer, baseline = (parse(TrainingConfig, ["corpus", "--config", str(path)]) for path in (TRANSFER, BASELINE))
    assert (transfer.network, transfer.freeze_feature_extractor, transfer.freeze_layers) == (("wav2vec2",), True, 8)
    assert (transfer.pooling, transfer.head, transfer.per_session) == ("mean+std", "bn_mlp", True)
    assert (transfer.fractions, transfer.seed, transfer.split_by) == ((0.8, 0.2, 0.0), 42, "utterance")
    assert (transfer.batch_size, transfer.lr, transfer.epochs) == (2, 3e-5, 40)
    assert (baseline.pooling, baseline.head, baseline.per_session) == ("mean", "linear", False)
    assert (baseline.fractions, baseline.batch_size, baseline.lr) == ((0.9, 0.1, 0.0), 8, 1e-4)
    assert (baseline.schedule, baseline.freeze_layers) == ("step", 0)


def test_a_network_is_trained_for_each_meeting(manifest: Path, model: Path, call_script: Run, tmp_path: Path) -> None:
    output = tmp_path / "output"
    done = call_script(
        "train_encoder.py", manifest, "--config", TRANSFER, "--init_weights", model, *TINY, "--output_dir", output
    )
    assert done.returncode == 0, done.stderr
    assert "mean accuracy of 2 sessions" in done.stdout
    assert [row["session"] for row in read_csv(output / "metrics.csv")] == ["M1", "M2"]
    for meeting in ("M1", "M2"):
        folder = output / meeting
        assert f"Saved {folder / 'report.html'}" in done.stdout
        assert (folder / "confusion.png").is_file()
        classifier = SpeakerClassifier.load(folder / f"{meeting}-best.pt")
        assert all(speaker.startswith(meeting) for speaker in classifier.speakers)
    predictions = tmp_path / "predictions.csv"
    inferred = call_script(
        "speaker_recognition_inference.py", read_csv(manifest)[0]["path"],
        "--classifier", output / "M1/M1-best.pt", "--output", predictions,
    )  # fmt: skip
    assert inferred.returncode == 0, inferred.stderr
    assert read_csv(predictions)[0]["speaker"].startswith("M1_")
    refused = call_script("make_report.py", output)
    assert refused.returncode == 2
    assert f"no such file. Give one of the folders with results in {output}: M1, M2." in refused.stderr
    assert call_script("make_report.py", output / "M1").returncode == 0


@pytest.mark.parametrize("name", ["metrics.json", "M2-best.pt"])
def test_other_files_in_the_folder_of_a_meeting_are_not_overwritten(
    name: str, manifest: Path, call_script: Run, tmp_path: Path
) -> None:
    path = tmp_path / "output/M2" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"rows": [], "summary": []}')
    arguments = ["--network", "conv1d", "--per_session", *TINY, "--output_dir", tmp_path / "output"]
    done = call_script("train_encoder.py", manifest, *arguments)
    assert done.returncode == 2
    assert f"{path}: this is a file of results, " in done.stderr
    assert "would overwrite it; give another --output_dir." in done.stderr
    assert not (tmp_path / "output/M1").exists()


def test_one_network_is_trained_for_all_meetings(manifest: Path, model: Path, call_script: Run, tmp_path: Path) -> None:
    output = tmp_path / "output"
    done = call_script(
        "train_encoder.py", manifest, "--config", BASELINE, "--init_weights", model, *TINY, "--output_dir", output
    )
    assert done.returncode == 0, done.stderr
    (path,) = output.glob("speaker_classifier_*.pt")
    classifier = SpeakerClassifier.load(path)
    assert {speaker[:2] for speaker in classifier.speakers} == {"M1", "M2"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--network", "wav2vec2"], "Give them with --init_weights, as a folder or an id"),
        (["--per_session", "--split_by", "session"], "--split_by utterance or given, within each session"),
        (["--start_session", "M2"], "--start_session is for --per_session"),
        (["--pooling", "mean", "--network_options", "pooling=mean"], "The pooling is given with --pooling and with"),
        (["--network", "conv1d", "--pooling", "mean"], "no option 'pooling'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags_that_do_not_fit_are_refused(
    arguments: list[str],
    sentence: str,
    manifest: Path,
    call_script: Run,
    tmp_path: Path,
) -> None:
    done = call_script("train_encoder.py", manifest, *arguments, *TINY, "--output_dir", tmp_path / "output")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_the_pooling_of_other_networks_is_given_as_an_option(manifest: Path, call_script: Run, tmp_path: Path) -> None:
    """`pooling` has its own flag, but commands that give it as an option of the network stay valid."""
    given = ["--network", "bilstm", "--network_options", "pooling=last", "--batch_size", 4]
    done = call_script(
        "train_encoder.py", manifest, *TINY, "--n_frames", 30, *given, "--output_dir", tmp_path / "output"
    )
    assert done.returncode == 0, done.stderr
