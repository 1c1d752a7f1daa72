"""One network for each session: what is trained, continued, skipped and reported."""

import gc
import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corpora import Corpus
from files import read_csv
from heads import SpeakerClassifier
from metrics import mean_interval
from training import TrainedSessions, TrainingError, train_sessions
from training.training_run import TrainingRun

TrainSessions = Callable[..., TrainedSessions]
MEETINGS = ("A/1", "a_1", "B", "alone")


@pytest.fixture
def meetings(corpus: Corpus) -> Corpus:
    """Return the corpus of four speakers with ten utterances each as three meetings of two, and one of one speaker."""
    places = dict(zip(corpus.speakers, ((0, 2), (0, 2), (1, 1), (1, 3)), strict=True))
    counts = dict.fromkeys(corpus.speakers, 0)
    utterances = []
    for utterance in corpus:
        number = counts[utterance.speaker]
        counts[utterance.speaker] += 1
        utterances.append(replace(utterance, session=MEETINGS[places[utterance.speaker][number % 2]]))
    return Corpus(tuple(utterances), corpus.root, corpus.name)


@pytest.fixture
def train_meetings(meetings: Corpus, tmp_path: Path) -> TrainSessions:
    def run(**settings: Any) -> TrainedSessions:
        given = {"epochs": 2, "batch_size": 4, "n_frames": 30, "num_workers": 0, "device": "cpu", "progress": False}
        split = {"fractions": (0.8, 0.2, 0.0), "seed": 42}
        chosen = {"output_dir": tmp_path / "run", **given, **split, **settings}
        return train_sessions(chosen.pop("corpus", meetings), chosen.pop("network", "conv1d"), **chosen)

    return run


def test_each_session_has_its_own_classifier_and_figures(
    train_meetings: TrainSessions, meetings: Corpus, tmp_path: Path
) -> None:
    done = train_meetings(head="bn_mlp")
    assert list(done.trained) == ["A/1", "B", "a_1"]
    folders = [each.classifier.parent.name for each in done.trained.values() if each.classifier is not None]
    assert folders == ["A_1", "B", "a_1_2"]  # names that differ in case alone are one folder on some systems
    for session, trained in done.trained.items():
        assert trained.classifier is not None
        assert trained.classifier.name == f"{trained.classifier.parent.name}-best.pt"
        own = [each for each in meetings if each.session == session]
        classifier = SpeakerClassifier.load(trained.classifier)
        assert classifier.speakers == tuple(sorted({each.speaker for each in own}))
        assert classifier.predict([own[0].path], device="cpu")[0].error is None
    rows = read_csv(tmp_path / "run/metrics.csv")
    assert [(row["session"], row["epoch"]) for row in rows] == [
        (session, str(epoch)) for session in done.trained for epoch in (1, 2)
    ]
    for row in rows:
        assert float(row["train_loss"]) > 0
        assert 0 <= float(row["validation_accuracy"]) <= 1
        assert 0 <= float(row["validation_macro_f1"]) <= 1
    selected = {row["session"]: row for row in rows if row["selected"] == "1"}
    for line in read_csv(tmp_path / "run/sessions.csv"):
        assert line["accuracy"] == selected[line["session"]]["validation_accuracy"]
        assert line["loss"] == selected[line["session"]]["validation_loss"]
    text = done.table.text()
    mean, low, high = mean_interval([each.figures["accuracy"] for each in done.trained.values()])
    assert f"mean accuracy of {len(done.trained)} sessions: {100 * mean:.1f} %" in text
    assert f"95 % interval {100 * max(low, 0):.1f} to {100 * min(high, 1):.1f} %" in text
    assert "are of the same sessions as those of training" in text


def test_an_interrupted_command_goes_on_with_the_session_and_epoch_where_it_was(
    train_meetings: TrainSessions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    undisturbed = train_meetings(output_dir=tmp_path / "undisturbed")
    original = TrainingRun._train_epoch
    epochs: list[tuple[str, int]] = []

    def train_epoch(run: TrainingRun, *arguments: Any) -> None:
        if len(epochs) == 3:  # the second epoch of the second session
            epochs.append(("", 0))
            raise KeyboardInterrupt
        epochs.append((run._checkpoint.parent.name, run.state.epoch))
        original(run, *arguments)

    monkeypatch.setattr(TrainingRun, "_train_epoch", train_epoch)
    with pytest.raises(KeyboardInterrupt):
        train_meetings()
    before = epochs[:3]
    epochs[:] = [("", 0)] * 4
    continued = train_meetings()
    after = epochs[4:]
    assert before[0][0] == before[1][0] != before[2][0]
    assert after[0] == (before[2][0], 1)  # the finished epochs are not trained again
    assert len(before) + len(after) == 2 * len(undisturbed.trained)
    figures = [[row["loss"] for row in done.rows] for done in (undisturbed, continued)]
    assert figures[0] == figures[1]


def test_the_network_of_a_session_is_freed_before_the_next(
    train_meetings: TrainSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TrainingRun.fit
    models: list[weakref.ref[Any]] = []

    def fit(run: TrainingRun) -> None:
        assert all(model() is None for model in models)
        models.append(weakref.ref(run.members[0].model))
        original(run)

    monkeypatch.setattr(TrainingRun, "fit", fit)
    gc.disable()
    try:
        train_meetings(epochs=1)
    finally:
        gc.enable()
    assert len(models) == 3


def test_training_starts_with_a_session(train_meetings: TrainSessions, tmp_path: Path) -> None:
    done = train_meetings(start_session="B", epochs=1)
    assert "A/1" not in done.trained
    assert "B" in done.trained
    assert not (tmp_path / "run/A_1").exists()
    assert {row["session"] for row in train_meetings(epochs=1).rows} == {*done.trained, "A/1"}
    with pytest.raises(TrainingError, match="no session 'C' to start with; it has A/1, B, a_1, alone"):
        train_meetings(start_session="C")


def test_sessions_that_cannot_be_trained_are_named(
    train_meetings: TrainSessions, meetings: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    done = train_meetings(epochs=1)
    assert done.skipped == {"alone": "it has one speaker"}
    assert "Session alone is not trained: it has one speaker" in caplog.text
    assert "alone is not trained: it has one speaker" in done.table.text()
    with pytest.raises(TrainingError, match="None of 1 session can be trained; the first: it has one speaker"):
        train_meetings(start_session="alone")


def test_the_splits_of_the_corpus_are_used_within_each_session(
    train_meetings: TrainSessions, meetings: Corpus, tmp_path: Path
) -> None:
    counts: dict[tuple[str, str], int] = {}
    utterances = []
    for utterance in meetings:
        key = utterance.session, utterance.speaker
        counts[key] = counts.get(key, 0) + 1
        given = "test" if counts[key] == 1 else "validation" if counts[key] == 2 else "train"
        utterances.append(replace(utterance, split=None if utterance.session == "B" else given))
    corpus = Corpus(tuple(utterances), meetings.root, meetings.name)
    done = train_meetings(corpus=corpus, split_by="given", epochs=1)
    assert list(done.trained) == ["A/1", "a_1"]
    assert "the corpus gives no train split" in done.skipped["B"]
    for row in done.rows:
        n_utterances = sum(each.session == row["session"] for each in corpus)
        n_speakers = row["speakers"]
        assert (row["part"], row["utterances"]) == ("test", n_speakers)
        assert row["train_utterances"] == n_utterances - 2 * n_speakers


def test_the_interval_of_a_mean_is_that_of_students_t() -> None:
    mean, low, high = mean_interval([1.0, 2.0, 3.0, math.nan])
    # t(0.975, 2) = 4.302653; the standard error is 1 / sqrt(3).
    assert (mean, low, high) == pytest.approx((2.0, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-6)
    assert mean_interval([0.5])[0] == 0.5
    assert math.isnan(mean_interval([0.5])[1])
    assert all(map(math.isnan, mean_interval([])))
