"""Files of a training run: figures after each epoch, charts of the data, scores, and curves for TensorBoard."""

import json
import logging
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from corpora import Corpus
from files import read_csv
from training import TrainedEncoder
from training.training_run import TrainingRun

Train = Callable[..., TrainedEncoder]


class KilledError(Exception):
    """Stands for the end of the process."""


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the points (step, value) of each curve as TensorBoard shows them."""
    events = EventAccumulator(str(folder)).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.fixture
def kill_in_epoch(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None, int], None]:
    """Return a function that ends the next run in an epoch, after `n_steps` of its steps."""
    original = TrainingRun._train_step

    def arrange(epoch: int | None, n_steps: int = 0) -> None:
        def step(run: TrainingRun, batch: Any) -> Any:
            if (run.state.epoch, run.state.step) == (epoch, n_steps):
                raise KilledError
            return original(run, batch)

        monkeypatch.setattr(TrainingRun, "_train_step", step)

    return arrange


def test_figures_are_written_after_each_epoch(train: Train, kill_in_epoch: Callable[..., None], tmp_path: Path) -> None:
    kill_in_epoch(2)
    with pytest.raises(KilledError):
        train(epochs=3, test_every_epoch=True)
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    rows = read_csv(tmp_path / "run/metrics.csv")
    assert [(row["epoch"], row["part"]) for row in metrics["rows"]] == [
        (epoch, part) for epoch in (1, 2) for part in ("train", "validation", "test")
    ]
    assert len(rows) == 6
    assert not metrics["finished"]
    assert metrics["selected_epoch"] in (1, 2)
    kill_in_epoch(None)
    train(epochs=3, test_every_epoch=True)
    continued = json.loads((tmp_path / "run/metrics.json").read_text())
    assert continued["rows"][:6] == metrics["rows"]
    assert continued["finished"]


def test_confusion_counts_the_test_part(train: Train, tmp_path: Path) -> None:
    trained = train()
    cells = read_csv(tmp_path / "run/confusion.csv")
    assert sum(int(cell["count"]) for cell in cells) == trained.figures["n_utterances"]
    right = sum(int(cell["count"]) for cell in cells if cell["speaker"] == cell["predicted"])
    assert right / trained.figures["n_utterances"] == pytest.approx(trained.figures["accuracy"])
    assert not (tmp_path / "run/det_curve.csv").exists()


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.0), (0.5, 0.0, 0.5)], ids=["validation", "test"])
def test_det_curve_crosses_at_the_equal_error_rate(fractions: tuple[float, ...], train: Train, tmp_path: Path) -> None:
    trained = train("query_transformer", "triplet", split_by="speaker", fractions=fractions, batch_size=4)
    points = read_csv(tmp_path / "run/det_curve.csv")
    accepts, misses = (np.array([float(point[name]) for point in points]) for name in ("false_accept", "miss"))
    place = int(np.argmax(accepts >= misses))
    assert misses[place] <= trained.figures["eer"] <= accepts[place]
    assert not (tmp_path / "run/confusion.csv").exists()


def test_tables_of_the_data_count_every_utterance(train: Train, corpus: Corpus, tmp_path: Path) -> None:
    train(epochs=1)
    speakers = read_csv(tmp_path / "run/training_speakers.csv")
    counted = {one["speaker"]: sum(int(one[part]) for part in ("train", "validation", "test")) for one in speakers}
    assert counted == Counter(utterance.speaker for utterance in corpus)
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert sum(part["n_utterances"] for part in metrics["parts"]) == len(corpus)
    bins = read_csv(tmp_path / "run/training_histograms.csv")
    of = {name: [one for one in bins if one["quantity"] == name] for name in {one["quantity"] for one in bins}}
    assert sum(int(one["count"]) for one in of["duration"]) == len(corpus)
    seconds = sum(int(one["count"]) * (float(one["low"]) + float(one["high"])) / 2 for one in of["duration"])
    assert seconds == pytest.approx(3600 * sum(part["hours"] for part in metrics["parts"]), rel=0.02)
    n_train = metrics["parts"][0]["n_utterances"]
    for name in ("smallest_log_mel", "largest_log_mel"):
        assert sum(int(one["count"]) for one in of[name]) == n_train
    filled = {name: [float(one["low"]) for one in of[name] if int(one["count"])] for name in of}
    assert -101 <= min(filled["smallest_log_mel"]) < max(filled["largest_log_mel"]) < 60


def test_curves_for_tensorboard_have_the_figures_of_the_rows(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("training.training_run.STEPS_PER_POINT", 2)
    trained = train(test_every_epoch=True, batch_size=4)
    curves = read_curves(tmp_path / "run/tensorboard")
    for part in ("train", "validation", "test"):
        rows = [row for row in trained.rows if row["part"] == part][:2]
        for figure in ("loss", "accuracy"):
            assert [value for _, value in curves[f"{figure}/{part}"]] == pytest.approx([row[figure] for row in rows])
    n_steps = curves["loss/train"][0][0]
    assert [step for step, _ in curves["loss/train"]] == [n_steps, 2 * n_steps]
    assert [step for step, _ in curves["step/loss"]] == list(range(2, 2 * n_steps + 1, 2))
    assert [value for _, value in curves["step/learning_rate"]] == pytest.approx([1e-3] * n_steps)


def test_a_continued_run_continues_the_curves(
    train: Train, kill_in_epoch: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("training.training_run.STEPS_PER_POINT", 1)
    settings: dict[str, Any] = {"batch_size": 4, "epochs": 3}
    train(**settings, output_dir=tmp_path / "undisturbed")
    kill_in_epoch(1, 2)  # two steps after the checkpoint, which are done again
    with pytest.raises(KilledError):
        train(**settings)
    kill_in_epoch(None)
    train(**settings)
    train(**settings)  # a finished run adds nothing
    expected, found = (read_curves(tmp_path / name / "tensorboard") for name in ("undisturbed", "run"))
    for curves in (expected, found):
        curves.pop("crops_per_second/train")
    assert found == expected


def test_the_log_has_the_parts_and_a_line_for_each_epoch(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="training"):
        trained = train()
    validation = [row for row in trained.rows if row["part"] == "validation"]
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:3] == [
        "train: 32 utterances of 4 speakers, 22 s",
        "validation: 4 utterances of 4 speakers, 3 s",
        "test: 4 utterances of 4 speakers, 3 s",
    ]
    for number, row in enumerate(validation, start=1):
        line = next(line for line in lines if line.startswith(f"Epoch {number} of 2: training loss "))
        assert f"validation accuracy {100 * row['accuracy']:.1f} %" in line
        assert "crops/s" in line
    assert lines[3].endswith("; the best so far")


def test_networks_of_an_ensemble_have_their_own_curves(train: Train, tmp_path: Path) -> None:
    trained = train(["conv1d", "conv2d"], epochs=1)
    curves = read_curves(tmp_path / "run/tensorboard")
    rows = {row["network"]: row for row in trained.rows if row["part"] == "validation"}
    for name in ("conv1d", "conv2d", "ensemble"):
        (point,) = curves[f"accuracy/validation/{name}"]
        assert point[1] == pytest.approx(rows[name]["accuracy"])
    cells = read_csv(tmp_path / "run/confusion.csv")
    right = sum(int(cell["count"]) for cell in cells if cell["speaker"] == cell["predicted"])
    assert right == round(trained.figures["accuracy"] * trained.figures["n_utterances"])
    assert math.isfinite(trained.figures["accuracy"])
