"""One network for each session: what is trained, continued, skipped and reported."""

import gc
import math
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corpora import Corpus, Split
from files import OutputError, read_csv
from heads import SpeakerClassifier
from metrics import mean_interval
from training import TrainedEncoder, TrainedSessions, TrainingError, session_folders, train_sessions
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
    assert [name.rpartition("_")[0] if name.startswith("A_1") else name for name in folders] == ["A_1", "B", "a_1"]
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
    assert not list((tmp_path / "run").glob("A_1*"))
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
    with pytest.raises(TrainingError, match="No session can be trained; the first, alone: it has one speaker"):
        train_meetings(epochs=1, start_session="alone")


def test_the_splits_of_the_corpus_are_used_within_each_session(
    train_meetings: TrainSessions, meetings: Corpus, tmp_path: Path
) -> None:
    counts: dict[tuple[str, str], int] = {}
    utterances = []
    for utterance in meetings:
        key = utterance.session, utterance.speaker
        counts[key] = counts.get(key, 0) + 1
        given: Split = "test" if counts[key] == 1 else "validation" if counts[key] == 2 else "train"
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


def test_folders_of_sessions_do_not_depend_on_the_others(corpus: Corpus, tmp_path: Path) -> None:
    def names(*sessions: str) -> list[str]:
        utterances = [replace(corpus.utterances[row], session=session) for row, session in enumerate(sessions)]
        return [path.name for path in session_folders(Corpus(tuple(utterances), corpus.root, "x"), tmp_path).values()]

    assert names("x/1") + names("x_1") == names("x/1", "x_1")
    assert names("x_1", "m 2", "é") == ["m 2", "x_1", "é"]
    for others in (["x_1", "X_1"], ["x/1", "x\\1", "x_1"], ["metrics.csv", "sessions.csv", "Metrics.json", ".."]):
        found = names(*others)
        assert len({name.casefold() for name in found}) == len(others)
        assert not {name.casefold() for name in found} & {"metrics.csv", "sessions.csv", "metrics.json"}


def test_a_file_in_the_place_of_a_folder_is_refused_before_training(
    train_meetings: TrainSessions, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/B").touch()
    with pytest.raises(OutputError, match=r"B: nothing can be written into this folder \(Not a directory\)"):
        train_meetings()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["B"]


def test_results_of_a_run_and_of_sessions_are_not_mixed(
    train_meetings: TrainSessions, train: Callable[..., TrainedEncoder], tmp_path: Path
) -> None:
    train_meetings(epochs=1, start_session="a_1")
    with pytest.raises(TrainingError, match="run: this folder holds results of --per_session; give another"):
        train(epochs=1)
    train(epochs=1, output_dir=tmp_path / "one")
    with pytest.raises(TrainingError, match="one: this folder holds results without --per_session; give another"):
        train_meetings(output_dir=tmp_path / "one")


@pytest.mark.parametrize(
    ("changed", "difference"),
    [({"lr": 0.1}, r"lr was 0\.001, now it is 0\.1"), ({"fractions": (0.6, 0.4, 0.0)}, r"fractions was \[0\.8")],
    ids=str,
)
def test_sessions_with_other_settings_are_refused_before_training(
    changed: dict[str, Any], difference: str, train_meetings: TrainSessions, tmp_path: Path
) -> None:
    train_meetings(epochs=1)
    shutil.rmtree(tmp_path / "run/B")
    (tmp_path / "run/a_1/training.ckpt").unlink()
    with pytest.raises(TrainingError, match=f"holds a training run with other settings: {difference}"):
        train_meetings(epochs=1, start_session="B", **changed)
    assert not (tmp_path / "run/B").exists()


def test_a_session_that_has_changed_is_trained_again_without_its_files(
    train_meetings: TrainSessions, meetings: Corpus, tmp_path: Path
) -> None:
    train_meetings(epochs=1)
    row = next(row for row, each in enumerate(meetings) if each.session == "B")
    fewer = Corpus(meetings.utterances[:row] + meetings.utterances[row + 1 :], meetings.root, meetings.name)
    with pytest.raises(TrainingError, match=r"run/B: .* are others\. .* delete its training\.ckpt and metrics\.json"):
        train_meetings(corpus=fewer, epochs=1)
    for name in ("training.ckpt", "metrics.json"):
        (tmp_path / "run/B" / name).unlink()
    assert len(train_meetings(corpus=fewer, epochs=1).trained) == 3


def test_a_session_that_cannot_be_trained_any_more_is_not_in_the_table(
    train_meetings: TrainSessions, meetings: Corpus, tmp_path: Path
) -> None:
    train_meetings(epochs=1)
    of_b = {each.speaker for each in meetings if each.session == "B"}
    kept = tuple(each for each in meetings if each.session != "B" or each.speaker == min(of_b))
    done = train_meetings(corpus=Corpus(kept, meetings.root, meetings.name), epochs=1)
    assert "B" in done.skipped
    assert [row["session"] for row in done.rows] == ["A/1", "a_1"]
    assert [row["session"] for row in read_csv(tmp_path / "run/sessions.csv")] == ["A/1", "a_1"]
    assert "mean accuracy of 2 sessions" in done.table.text()


@pytest.mark.parametrize("n_damaged_speakers", [1, 2])
def test_files_of_skipped_sessions_that_cannot_be_read_are_listed(
    n_damaged_speakers: int, train_meetings: TrainSessions, meetings: Corpus, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.flac"
    damaged.write_bytes(b"no audio")
    of_b = sorted({each.speaker for each in meetings if each.session == "B"})[:n_damaged_speakers]
    utterances = [
        replace(each, path=damaged, start=float(row)) if each.session == "B" and each.speaker in of_b else each
        for row, each in enumerate(meetings)
    ]
    done = train_meetings(corpus=Corpus(tuple(utterances), meetings.root, meetings.name), epochs=1)
    assert "B" in done.skipped
    assert len(done.failures) == sum(each.path == damaged for each in utterances)


def test_the_figures_of_several_networks_are_those_of_the_ensemble(
    train_meetings: TrainSessions, tmp_path: Path
) -> None:
    done = train_meetings(network=["conv1d", "conv2d"], epochs=1, start_session="a_1")
    (row,) = read_csv(tmp_path / "run/metrics.csv")
    own = done.trained["a_1"].rows
    assert [each["network"] for each in own] == ["conv1d", "conv2d", "conv1d", "conv2d", "ensemble"]
    assert float(row["validation_loss"]) == done.rows[0]["loss"] == own[-1]["loss"]
    assert float(row["train_loss"]) == pytest.approx((own[0]["loss"] + own[1]["loss"]) / 2)
    assert done.rows[0]["seconds"] == pytest.approx(own[0]["seconds"] + own[-1]["seconds"])


def test_sessions_without_validation_and_test_have_no_mean(train_meetings: TrainSessions) -> None:
    assert "mean" not in train_meetings(epochs=1, fractions=(1.0, 0.0, 0.0), start_session="a_1").table.text()


def test_the_interval_of_a_mean_is_that_of_students_t() -> None:
    mean, low, high = mean_interval([1.0, 2.0, 3.0, math.nan])
    # t(0.975, 2) = 4.302653; the standard error is 1 / sqrt(3).
    assert (mean, low, high) == pytest.approx((2.0, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-6)
    assert mean_interval([0.5])[0] == 0.5
    assert math.isnan(mean_interval([0.5])[1])
    assert all(map(math.isnan, mean_interval([])))
