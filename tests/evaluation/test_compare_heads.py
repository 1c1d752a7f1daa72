"""`compare_heads`: splits, selection, figures, files."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score
from sklearn.model_selection import train_test_split

from corpora import CorpusError
from evaluation import compare_heads
from evaluation.summary import key_of, rank_by_validation, summarise
from features import FeatureSet
from files import VERSION, commit
from heads import HEADS, ClassifierError, HeadError, SpeakerClassifier, create_scaler
from heads.minibatch import MinibatchHead

VECTOR_HEADS = [name for name in HEADS if name != "weighted"]
MadeUp = Callable[..., FeatureSet]
QUICK = {"epochs": 20, "lr": 0.01, "device": "cpu"}
ROW = [
    "features", "encoder", "layer", "head", "scaler", "split_by", "seed", "settings", "val_accuracy", "val_log_loss",
    "test_accuracy", "test_macro_f1", "test_top3", "test_top5", "test_log_loss", "test_ece", "n_parameters", "seconds",
]  # fmt: skip


def figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if not key.startswith("seconds")} for row in rows]


def test_each_head_has_a_row_with_the_documented_keys(made_up: MadeUp) -> None:
    comparison = compare_heads(made_up(), VECTOR_HEADS, options=QUICK)
    assert [(row["head"], row["split_by"]) for row in comparison.rows] == [
        (head, kind) for kind in ("utterance", "session") for head in VECTOR_HEADS
    ]
    assert all(sorted(row) == sorted(ROW) for row in comparison.rows)
    shares = [key for key in ROW if key.startswith("test_") and key != "test_log_loss"]
    assert all(0 <= row[key] <= 1 for row in comparison.rows for key in shares)


def test_same_seed_gives_the_same_figures(made_up: MadeUp) -> None:
    features = made_up()
    first = compare_heads(features, options=QUICK, seed=3)
    again = compare_heads(features, options=QUICK, seed=3)
    other = compare_heads(features, options=QUICK, seed=4)
    assert figures(first.rows) == figures(again.rows)
    assert figures(first.rows) != figures(other.rows)
    without_seconds = [re.sub(r" +\d+\.\d\d$", "", line) for line in first.table().splitlines()]
    assert without_seconds == [re.sub(r" +\d+\.\d\d$", "", line) for line in again.table().splitlines()]


@pytest.mark.parametrize("head", VECTOR_HEADS)
def test_figures_equal_those_of_scikit_learn(head: str, made_up: MadeUp) -> None:
    features = made_up()
    comparison = compare_heads(features, [head], fractions=(0.8, 0, 0.2), seed=42, options=QUICK, refit=False)
    labels = features.labels.numpy()
    _, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=42)
    classifier = comparison.classifier
    scores = classifier.members[0].head.decision_function(
        classifier.members[0].scaler.transform(features.features[test])
    )
    row = comparison.rows[0]
    assert row["test_accuracy"] == pytest.approx(accuracy_score(labels[test], scores.argmax(1)))
    assert row["test_macro_f1"] == pytest.approx(f1_score(labels[test], scores.argmax(1), average="macro"))
    assert row["test_top3"] == pytest.approx(top_k_accuracy_score(labels[test], scores, k=3))
    assert row["test_top5"] == pytest.approx(top_k_accuracy_score(labels[test], scores, k=5))
    assert row["n_parameters"] == classifier.members[0].head.n_parameters_


def test_test_rows_do_not_affect_selection_or_classifier(made_up: MadeUp) -> None:
    features = made_up()
    comparison = compare_heads(features, options=QUICK, seed=1, refit=False)
    _, test = train_test_split(np.arange(240), test_size=0.1, stratify=features.labels.numpy(), random_state=1)
    spoiled = features.features.clone()
    spoiled[test] = 100 * torch.randn(len(test), 10)
    other = compare_heads(replace(features, features=spoiled), options=QUICK, seed=1, refit=False)
    assert comparison.best["head"] == other.best["head"]
    probe = comparison.classifier.members[0].scaler.transform(features.features)
    assert torch.equal(probe, other.classifier.members[0].scaler.transform(features.features))
    np.testing.assert_array_equal(
        comparison.classifier.members[0].head.decision_function(probe),
        other.classifier.members[0].head.decision_function(probe),
    )
    assert comparison.rows[0]["test_accuracy"] != other.rows[0]["test_accuracy"]


def test_without_validation_part_all_of_train_is_used(made_up: MadeUp) -> None:
    features = made_up()
    comparison = compare_heads(features, ["lda"], fractions=(0.8, 0, 0.2), seed=0, refit=False)
    assert "192 train (including 24 validation), 48 test utterances" in comparison.table()
    labels = features.labels.numpy()
    train, _ = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    torch.testing.assert_close(comparison.classifier.members[0].scaler.mean_, features.features[train].mean(0))
    assert comparison.classifier.training["n_utterances"] == len(train)


def test_best_is_selected_by_validation_alone() -> None:
    def record(head: str, val: float, loss: float, test: float, split_by: str = "utterance") -> dict[str, Any]:
        return {"head": head, "val_accuracy": val, "val_log_loss": loss, "test_accuracy": test, "split_by": split_by}

    summary = [record("a", 0.90, 0.2, 0.99), record("b", 0.95, 0.3, 0.80), record("c", 0.95, 0.1, 0.70)]
    summary += [record("d", 0.99, 0.2, 0.9, "session"), record("e", 0.95, 0.1, 0.8, "session")]
    assert rank_by_validation(summary, "utterance")[0]["head"] == "c"
    assert rank_by_validation(summary, "session")[0]["head"] == "e"  # by log loss


def test_summary_averages_over_seeds(made_up: MadeUp) -> None:
    comparison = compare_heads(made_up(), ["lda"], seed=0, seeds=2)
    rows = [row for row in comparison.rows if row["split_by"] == "utterance"]
    alone = compare_heads(made_up(), ["lda"], seed=1).rows[0]
    assert figures(rows)[1] == figures([alone])[0]
    (record,) = summarise(rows)
    assert record == {key: value for key, value in comparison.best.items() if key in record}
    values = [row["test_accuracy"] for row in rows]
    assert record["seeds"] == [0, 1]
    assert record["test_accuracy"] == pytest.approx(np.mean(values))
    assert record["test_accuracy_std"] == pytest.approx(np.std(values))


@pytest.fixture
def leaking_features(made_up: MadeUp) -> FeatureSet:
    """Return features that depend on the session alone, so that unseen sessions cannot be classified."""
    features = made_up(n_sessions=8, n_each=40)
    noise = 0.1 * torch.randn(len(features), 96, generator=torch.Generator().manual_seed(0))
    return replace(features, features=torch.nn.functional.one_hot(features.sessions).float() + noise)


def test_sessions_are_not_divided(leaking_features: FeatureSet) -> None:
    features = leaking_features
    for seed in range(3):
        assert compare_heads(features, ["lda"], seed=seed).rows[0]["test_accuracy"] > 0.6
        assert compare_heads(features, ["lda"], split_by="session", seed=seed).rows[0]["test_accuracy"] < 0.4


def test_validation_uses_new_sessions_if_there_are_enough(made_up: MadeUp, leaking_features: FeatureSet) -> None:
    comparison = compare_heads(leaking_features, ["lda"], split_by="session", fractions=(0.75, 0, 0.25))
    assert comparison.rows[0]["val_accuracy"] < 0.4
    assert "selected by cross-validated log loss over sessions" in comparison.table()
    assert "known sessions select the head" not in comparison.table()
    few = compare_heads(made_up(n_sessions=2), ["lda"]).table()
    assert "split by session: no speaker has two sessions to train on, so known sessions select the head" in few


def test_saved_classifier_is_fitted_on_all_rows(made_up: MadeUp) -> None:
    features = made_up()
    for head, scaler in (("lda", "within"), ("mlp", "standard")):
        comparisons = {
            refit: compare_heads(features, [head], scaler=scaler, options=QUICK, refit=refit) for refit in (True, False)
        }
        again, split = (comparisons[refit].classifier for refit in (True, False))
        assert (again.training["n_utterances"], split.training["n_utterances"]) == (240, 192)
        expected = create_scaler(scaler).fit(features.features, features.labels)
        torch.testing.assert_close(
            again.members[0].scaler.transform(features.features), expected.transform(features.features)
        )
        assert again.threshold == split.threshold
        assert again.members[0].temperature == split.members[0].temperature
        assert figures(comparisons[True].rows) == figures(comparisons[False].rows)
        assert comparisons[True].open_set == comparisons[False].open_set
        note = "the saved classifier is fitted on all 240 utterances, after the figures were made"
        assert note in comparisons[True].notes
        assert note not in comparisons[False].notes
        test = comparisons[False].outcomes[key_of(comparisons[False].best)][0].rows
        of_test = features.select(test.tolist())
        right = [
            np.mean(
                [names[0] == of_test.speakers[label] for (names, _), label in zip(found, of_test.labels, strict=True)]
            )
            for found in (again.predict_features(of_test), split.predict_features(of_test))
        ]
        assert right[0] >= right[1]
    assert isinstance(again.members[0].head, MinibatchHead)
    assert isinstance(split.members[0].head, MinibatchHead)
    assert again.members[0].head.epochs == split.members[0].head.best_epoch_


def test_second_fit_trains_for_the_best_number_of_epochs(made_up: MadeUp) -> None:
    features = made_up()
    settings = {**QUICK, "epochs": 60, "lr": 0.1}
    classifier = compare_heads(features, ["mlp"], fractions=(0.8, 0, 0.2), options=settings, refit=False).classifier
    assert isinstance(classifier.members[0].head, MinibatchHead)
    assert len(classifier.members[0].head.history_) == classifier.members[0].head.epochs < 60


def test_diverging_head_is_left_out(caplog: pytest.LogCaptureFixture, made_up: MadeUp) -> None:
    comparison = compare_heads(made_up(), ["mlp", "lda"], options={**QUICK, "lr": 1e12})
    assert {row["head"] for row in comparison.rows} == {"lda"}
    assert "mlp is left out: The training diverged" in caplog.text


def test_degenerate_head_does_not_stop_the_others(caplog: pytest.LogCaptureFixture, made_up: MadeUp) -> None:
    features = made_up()
    constant = replace(features, features=torch.ones(len(features), 4))
    comparison = compare_heads(constant, ["lda", "linear"], options=QUICK)
    assert {row["head"] for row in comparison.rows} == {"linear"}
    assert "lda is left out" in caplog.text


@pytest.mark.parametrize("scaler", ["standard", "whiten"])
def test_nan_rows_are_named(scaler: str, made_up: MadeUp) -> None:
    features = made_up()
    spoiled = features.features.clone()
    spoiled[[3, 7], 2] = torch.nan
    with pytest.raises(HeadError, match=r"NaN or infinity in 2 rows, the first is that of 3\.wav"):
        compare_heads(replace(features, features=spoiled), scaler=scaler)


def test_untested_speakers_are_named(made_up: MadeUp) -> None:
    features = made_up(n_speakers=4)
    unbalanced = features.select(np.r_[0:60, 60:61])  # the fourth speaker has one utterance
    comparison = compare_heads(unbalanced, ["lda"])
    assert comparison.untested == {"utterance": ("speaker 03",), "session": ("speaker 03",)}
    assert "not tested by the split by utterance: 1 speaker (speaker 03)" in comparison.table()
    assert comparison.classifier.training["untested"] == ["speaker 03"]
    assert "speaker 03" in comparison.classifier.predict_features(unbalanced, top_k=4)[0][0]


def test_head_without_enough_rows_does_not_stop_the_others(caplog: pytest.LogCaptureFixture, made_up: MadeUp) -> None:
    few = made_up(n_speakers=6).select([0, 1, 2, 20, 40, 60, 80, 100])  # three of one speaker, one of the others
    comparison = compare_heads(few, ["lda", "linear"], options=QUICK)
    assert {row["head"] for row in comparison.rows} == {"linear"}
    assert re.search("lda is left out: .* more training rows than speakers", caplog.text)
    with pytest.raises(HeadError, match="No head could be fitted"):
        compare_heads(few, ["lda"])


def test_too_few_utterances_for_validation_are_refused(made_up: MadeUp) -> None:
    pairs = made_up(n_speakers=3, n_each=2)
    with pytest.raises(HeadError, match="No speaker has an utterance to spare"):
        compare_heads(pairs, ["linear"], options=QUICK)
    assert compare_heads(pairs, ["linear"], fractions=(0.8, 0.2, 0), options=QUICK).best["head"] == "linear"


def test_copies_of_training_recordings_are_reported(features: FeatureSet) -> None:
    comparison = compare_heads(features, ["lda"])
    assert "is in training too" not in comparison.table()
    assert features.audio is not None
    tested = comparison.outcomes[key_of(comparison.best)][0].rows
    digest = features.audio.digest.clone()
    digest[np.setdiff1d(np.arange(len(features)), tested)[0]] = digest[tested[0]].clone()
    copied = compare_heads(replace(features, audio=replace(features.audio, digest=digest)), ["lda"])
    assert any(
        "audio of 1 test utterance, whole or in part, is in training too" in sentence for sentence in copied.leaks
    )
    assert features.ids[tested[0]] in copied.table()


def test_one_speaker_is_refused(made_up: MadeUp) -> None:
    with pytest.raises(HeadError, match=r"All 20 utterances are of one speaker \(speaker 02\)"):
        compare_heads(made_up().select(range(40, 60)))


@pytest.fixture
def layered_features(made_up: MadeUp) -> FeatureSet:
    """Return features with three layers, of which the second (number 4) separates the speakers."""
    features = made_up()
    noise = torch.randn(2, *features.features.shape, generator=torch.Generator().manual_seed(0))
    layers = torch.stack([noise[0], features.features, noise[1]], dim=1)
    encoder = {"name": "x", "layers": [3, 4, 5], "options": {"layers": "3-5"}}
    return replace(features, features=layers, encoder=encoder)


def test_best_layer_is_selected_by_validation(tmp_path: Path, layered_features: FeatureSet) -> None:
    features = layered_features
    comparison = compare_heads(features, ["linear", "lda", "weighted"], options=QUICK)
    assert [record["layer"] for record in comparison.layers] == [3, 4, 5, 3, 4, 5]
    assert comparison.selected_layer("x") == 4
    assert [(row["head"], row["layer"]) for row in comparison.rows[:3]] == [
        ("linear", 4),
        ("lda", 4),
        ("weighted", None),
    ]
    alone = compare_heads(features.layer(4), ["linear", "lda"], options=QUICK)
    for row, expected in zip(comparison.rows[:2], alone.rows[:2], strict=True):
        assert {**row, "seconds": 0} == {**expected, "seconds": 0}
    assert "heads that take one vector use layer 4 of x, the best by validation" in comparison.table()
    table = comparison.layer_table("x")
    assert re.search(r"^4 \*", table, re.MULTILINE)
    weighted = compare_heads(features, ["weighted"], options=QUICK)
    assert [record["layer"] for record in weighted.layers[:3]] == [3, 4, 5]
    assert "heads that take one vector" not in weighted.table()
    comparison.save(tmp_path, "x", "command")
    assert json.loads((tmp_path / "metrics.json").read_text())["layers"] == comparison.layers


@pytest.mark.parametrize("heads", [["lda"], ["weighted"]])
def test_saved_classifier_has_its_layer(heads: list[str], tmp_path: Path, layered_features: FeatureSet) -> None:
    features = layered_features
    classifier = compare_heads(features, heads, options=QUICK).classifier
    loaded = SpeakerClassifier.load(classifier.save(tmp_path / "c.pt"))
    table = compare_heads(features, heads, options=QUICK).table()
    assert ("largest layer weights of weighted: 4 (" in table) == (heads == ["weighted"])
    assert loaded.members[0].encoder["layers"] == ([4] if heads == ["lda"] else [3, 4, 5])
    assert loaded.members[0].encoder["options"]["layers"] == ("4" if heads == ["lda"] else "3-5")
    predictions = loaded.predict_features(features)
    assert predictions == classifier.predict_features(features)
    right = [
        names[0] == features.speakers[label] for (names, _), label in zip(predictions, features.labels, strict=True)
    ]
    assert np.mean(right) > 0.5
    if heads == ["lda"]:
        assert loaded.predict_features(features.layer(4)) == predictions
        with pytest.raises(ClassifierError, match="layers is"):
            loaded.predict_features(features.layer(3))


def test_weighted_head_needs_several_layers(
    caplog: pytest.LogCaptureFixture, made_up: MadeUp, layered_features: FeatureSet
) -> None:
    comparison = compare_heads(made_up(), ["lda", "weighted"], options=QUICK)
    assert {row["head"] for row in comparison.rows} == {"lda"}
    assert "extract --layers all" in caplog.text
    with pytest.raises(HeadError, match="No head could be fitted"):
        compare_heads(layered_features, ["weighted"], scaler="whiten", options=QUICK)
    assert "'whiten' takes one layer" in caplog.text


def test_unknown_names_are_refused_with_the_valid_ones(made_up: MadeUp) -> None:
    with pytest.raises(HeadError, match="linear, mlp, bn_mlp, weighted"):
        compare_heads(made_up(), ["liner"])
    with pytest.raises(ValueError, match="none, standard, whiten"):
        compare_heads(made_up(), ["lda"], scaler="whitening")
    with pytest.raises(CorpusError, match="sum to 1"):
        compare_heads(made_up(), ["lda"], fractions=(0.8, 0.1, 0.2))


def test_files_hold_the_results(tmp_path: Path, made_up: MadeUp) -> None:
    features = made_up()
    comparison = compare_heads(features, options=QUICK)
    paths = comparison.save(tmp_path, "hard", "python script.py")
    assert sorted(path.name for path in paths) == [
        "answers.csv",
        "confusion.csv",
        "hard_scaler.pt",
        "metrics.csv",
        "metrics.json",
        "per_speaker.csv",
        "speaker_classifier_hard.pt",
    ]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["rows"] == comparison.rows
    assert metrics["summary"] == comparison.summary
    assert metrics["best"] == comparison.best
    assert metrics["command"] == "python script.py"
    assert metrics["versions"]["voxprobe"] == VERSION
    assert metrics["versions"]["commit"] == commit()
    assert "torch" in metrics["versions"]
    with open(tmp_path / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["test_accuracy"]) for row in table] == [row["test_accuracy"] for row in comparison.rows]
    scaler = torch.load(tmp_path / "hard_scaler.pt", weights_only=True)
    expected = (features.features - scaler["mean"]) * scaler["scale"]
    torch.testing.assert_close(comparison.classifier.members[0].scaler.transform(features.features), expected)
    loaded = SpeakerClassifier.load(tmp_path / "speaker_classifier_hard.pt")
    assert loaded.predict_features(features) == comparison.classifier.predict_features(features)


def test_missing_figures_are_null_in_json(tmp_path: Path, made_up: MadeUp) -> None:
    comparison = compare_heads(made_up(), ["lda"], fractions=(0.8, 0.2, 0.0))
    comparison.save(tmp_path, "hard", "")
    assert json.loads((tmp_path / "metrics.json").read_text())["rows"][0]["test_accuracy"] is None
    assert " - " in comparison.table()


def test_table_marks_the_selected_head(made_up: MadeUp) -> None:
    comparison = compare_heads(made_up(), options=QUICK)
    lines = comparison.table().splitlines()
    assert max(len(line) for line in lines if "session gap" not in line) <= 100
    assert "* selected by validation accuracy (ties broken by log loss)" in comparison.table()
    assert [line.split()[0] for line in lines if " * " in line] == [comparison.best["head"]]


PUBLISHED = Path(__file__).parents[3] / "shared/data/published/audiosep_unet_librispeech_devclean_features.pt"


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs the published features in ../shared/data")
@pytest.mark.parametrize(("head", "scaler", "minimum"), [("lda", "standard", 0.995), ("linear", "whiten", 0.98)])
def test_published_features_reach_the_stated_figures(head: str, scaler: str, minimum: float) -> None:
    features = FeatureSet.load(PUBLISHED)
    comparison = compare_heads(
        features, [head], scaler=scaler, fractions=(0.8, 0, 0.2), seed=42, options={"device": "cpu"}
    )
    assert comparison.rows[0]["test_accuracy"] >= minimum
