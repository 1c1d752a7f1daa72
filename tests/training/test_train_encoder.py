"""Training runs: what they save, what they continue, and what they refuse."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from audio import read_audio
from corpora import Corpus, split
from encoders import load_encoder
from files import read_csv
from heads import SpeakerClassifier
from training import TrainedEncoder, TrainingError
from training.training_run import TrainingRun

Train = Callable[..., TrainedEncoder]
TIMES = {"seconds", "crops_per_second"}


class KilledError(Exception):
    """Stands for the end of the process."""


def without_times(trained: TrainedEncoder) -> list[dict[str, Any]]:
    """Return the rows without what depends on the machine; NaN as None, which is equal to itself."""
    return [
        {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in row.items()
            if name not in TIMES
        }
        for row in trained.rows
    ]


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that ends the next run before its step of this number, counted from 0."""
    original = TrainingRun._train_step

    def arrange(number: int) -> None:
        done = [0]

        def step(run: TrainingRun, batch: Any) -> Any:
            if done[0] == number:
                raise KilledError
            done[0] += 1
            return original(run, batch)

        monkeypatch.setattr(TrainingRun, "_train_step", step)

    return arrange


def test_saved_encoder_and_classifier_are_those_of_the_run(train: Train, corpus: Corpus, tmp_path: Path) -> None:
    trained = train()
    encoder = load_encoder("trained", trained.paths[0], device="cpu")
    waveforms = [read_audio(utterance.path, 16_000) for utterance in corpus.utterances[:3]]
    assert encoder.encode(waveforms).shape == (3, 512)
    assert trained.classifier is not None
    classifier = SpeakerClassifier.load(trained.classifier)
    assert classifier.speakers == corpus.speakers
    tested = [corpus.utterances[row] for row in split([each.speaker for each in corpus])[2]]
    predicted = classifier.predict([each.path for each in tested], encoder_weights=trained.paths[0], device="cpu")
    right = [answer.speakers[0] == each.speaker for answer, each in zip(predicted, tested, strict=True)]
    assert trained.figures["part"] == "test"
    assert trained.figures["n_utterances"] == len(tested) == 4
    assert trained.figures["accuracy"] == pytest.approx(sum(right) / len(right))
    saved = torch.load(trained.paths[0], weights_only=True)
    assert saved["speakers"] == list(corpus.speakers)
    assert saved["corpora"] == [corpus.name]
    assert all(torch.isfinite(tensor).all() for tensor in saved["tensors"].values())


def test_each_epoch_has_a_row_for_each_part(train: Train, tmp_path: Path) -> None:
    trained = train(test_every_epoch=True, patience=5)
    rows = [(row["epoch"], row["part"]) for row in trained.rows]
    assert rows[:6] == [(epoch, part) for epoch in (1, 2) for part in ("train", "validation", "test")]
    assert rows[6][1] == "test"
    assert len(rows) == 7
    assert all(0 <= row["accuracy"] <= 1 and row["loss"] > 0 for row in trained.rows)
    written = json.loads((tmp_path / "run/metrics.json").read_text())
    assert [row["loss"] for row in written["rows"]] == [row["loss"] for row in trained.rows]
    assert len(read_csv(tmp_path / "run/metrics.csv")) == 7
    assert written["selected_epoch"] == rows[6][0]


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "cosine", "warmup_steps": 3, "max_norm": 1.0, "mask_probability": 0.5},
        {"network": "query_transformer", "objective": "triplet", "split_by": "utterance", "batch_size": 8},
    ],
    ids=["classification", "triplet"],
)
def test_a_run_that_is_killed_and_continued_ends_with_the_same_weights(
    settings: dict[str, Any],
    train: Train,
    kill_at: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("training.training_run.CHECKPOINT_SECONDS", 0.0)
    undisturbed = train(**settings, output_dir=tmp_path / "undisturbed")
    for number in (1, 2):
        kill_at(number)
        with pytest.raises(KilledError):
            train(**settings)
    kill_at(-1)
    continued = train(**settings)
    expected, found = (
        torch.load(trained.paths[0], weights_only=True)["tensors"] for trained in (undisturbed, continued)
    )
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert without_times(continued) == without_times(undisturbed)


def test_a_folder_of_another_run_is_refused(train: Train) -> None:
    train()
    with pytest.raises(TrainingError, match=r"other settings: lr was 0\.001, now it is 0\.01"):
        train(lr=0.01)


def test_a_finished_run_is_not_trained_again(train: Train, kill_at: Callable[[int], None]) -> None:
    first = train()
    kill_at(0)
    assert without_times(train()) == without_times(first)


def test_a_loss_that_is_not_finite_stops_with_the_utterances(train: Train) -> None:
    with pytest.raises(TrainingError, match=r"The loss of conv1d is nan in step \d of epoch \d.*\d-0000\.flac"):
        train(lr=1e30)


def test_triplets_are_validated_on_other_speakers(train: Train) -> None:
    trained = train("query_transformer", "triplet", split_by="speaker", fractions=(0.5, 0.5, 0.0), batch_size=4)
    validation = [row for row in trained.rows if row["part"] == "validation"]
    assert len(validation) == 2
    assert all(0 <= row["eer"] <= 1 for row in validation)
    assert all(math.isnan(row["accuracy"]) for row in validation)
    assert trained.classifier is None


def test_networks_of_an_ensemble_are_averaged(train: Train, corpus: Corpus) -> None:
    trained = train(["conv1d", "conv2d"])
    assert [path.name for path in trained.paths] == ["encoder_conv1d.pt", "encoder_conv2d.pt"]
    assert [row["network"] for row in trained.rows if row["part"] == "test"] == ["conv1d", "conv2d", "ensemble"]
    assert trained.classifier is not None
    classifier = SpeakerClassifier.load(trained.classifier)
    answers = classifier.predict([corpus.utterances[0].path], encoder_weights=trained.paths, device="cpu")
    assert len(classifier.members) == 2
    assert sum(answers[0].probabilities) == pytest.approx(1, abs=1e-4)
