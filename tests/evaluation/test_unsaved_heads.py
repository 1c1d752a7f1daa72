"""Comparisons with own heads and with classifiers of scikit-learn."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.svm import SVC

from evaluation import compare_heads
from features import FeatureSet
from heads import HEADS, HeadError, SpeakerClassifier

MadeUp = Callable[..., FeatureSet]
WORST = DummyClassifier(strategy="uniform")


class Nearest(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Nearest mean, with `predict` alone."""

    def fit(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> "Nearest":
        self.means_ = np.stack([X[y == label].mean(0) for label in np.unique(y)])
        return self

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.int64]:
        nearest: NDArray[np.int64] = ((X[:, None] - self.means_) ** 2).sum(2).argmin(1)
        return nearest


@pytest.fixture(autouse=True)
def _own_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heads.registry.OWN_HEADS", {})


def compare(features: FeatureSet, heads: Sequence[Any], **settings: Any) -> Any:
    return compare_heads(features, heads, options={"epochs": 2, "device": "cpu"}, **settings)


def test_best_head_that_can_be_saved_is_saved(made_up: MadeUp, tmp_path: Path) -> None:
    # An untrained head, which all others surpass.
    comparison = compare(made_up(n_sessions=1), [SVC(C=10), "linear", WORST], scaler="within")
    ranked = {row["head"]: row["val_accuracy"] for row in comparison.rows}
    assert ranked["SVC"] > ranked["linear"] > ranked["DummyClassifier"]
    assert comparison.best["head"] == "linear"
    assert [member.name for member in comparison.classifier.members] == ["linear"]
    table = comparison.table()
    assert "SVC (not saved) " in table
    assert "linear * " in table
    assert (
        "SVC, DummyClassifier are compared only, not saved; by validation, SVC would be selected before linear, which "
        "is saved"
    ) in comparison.notes
    assert not any("runner-up" in note for note in comparison.notes)
    comparison.save(tmp_path, "hard", "command")
    assert SpeakerClassifier.load(tmp_path / "speaker_classifier_hard.pt").members[0].name == "linear"
    assert json.loads((tmp_path / "metrics.json").read_text())["unsaved"] == ["SVC", "DummyClassifier"]


def test_empty_test_part_has_no_figures(made_up: MadeUp) -> None:
    comparison = compare_heads(made_up(n_sessions=1), [SVC(), "centroid"], fractions=(0.8, 0.2, 0))
    assert all(np.isnan(row["test_accuracy"]) for row in comparison.rows)


def test_head_that_is_worse_than_the_saved_one_is_noted_without_a_rank(made_up: MadeUp) -> None:
    comparison = compare(made_up(n_sessions=1), [WORST, "lda"])
    assert "DummyClassifier is compared only, not saved" in comparison.notes


def test_comparison_without_a_head_that_can_be_saved_has_no_classifier(made_up: MadeUp, tmp_path: Path) -> None:
    comparison = compare(made_up(), SVC)
    assert comparison.saved is None
    assert comparison.best["head"] == "SVC"
    assert comparison.best["test_accuracy"] > 0.5
    with pytest.raises(HeadError, match="There is no classifier, because SVC cannot be saved"):
        _ = comparison.classifier
    assert "SVC is compared only, not saved: there is no classifier; add a head of this project" in comparison.table()
    names = {path.name for path in comparison.save(tmp_path, "hard", "command")}
    assert names == {"metrics.json", "metrics.csv", "per_speaker.csv", "confusion.csv", "answers.csv"}


def test_ensembles_leave_out_what_is_not_saved(made_up: MadeUp) -> None:
    comparison = compare(made_up(n_sessions=1), ["lda", SVC, "centroid"], ensemble=True)
    assert [row["head"] for row in comparison.rows] == ["lda", "SVC", "centroid", "ensemble"]
    alone = compare(made_up(n_sessions=1), ["lda", "centroid"], ensemble=True)
    assert comparison.rows[-1]["test_log_loss"] == alone.rows[-1]["test_log_loss"]
    one = compare(made_up(n_sessions=1), ["lda", SVC], ensemble=True)
    assert [row["head"] for row in one.rows] == ["lda", "SVC"]


def test_all_heads_are_compared_with_others(made_up: MadeUp) -> None:
    comparison = compare(made_up(n_sessions=1, n_speakers=4), ["all", SVC])
    assert [row["head"] for row in comparison.rows] == [*(name for name in HEADS if name != "weighted"), "SVC"]


def test_votes_are_noted(made_up: MadeUp) -> None:
    comparison = compare(made_up(n_sessions=1), [Nearest, SVC, "lda"])
    assert "Nearest: votes without scores, so top-3, top-5 and ECE mean little" in comparison.notes
    by_head = {row["head"]: row for row in comparison.rows}
    assert by_head["Nearest"]["test_accuracy"] == by_head["Nearest"]["test_top5"] > 0.5


def test_options_go_to_the_heads_that_have_them(made_up: MadeUp) -> None:
    features = made_up(n_sessions=1)
    given = compare_heads(features, [SVC, "logistic"], options={"C": 0.01, "kernel": "linear"})
    instance = compare_heads(features, [SVC(C=0.01, kernel="linear")])
    assert given.rows[0]["test_log_loss"] == instance.rows[0]["test_log_loss"]
    with pytest.raises(HeadError, match="no head option 'kernal'; perhaps you meant 'kernel'"):
        compare_heads(features, [SVC], options={"kernal": "linear"})
    with pytest.raises(HeadError, match="no head option 'kernel'"):
        compare_heads(features, ["lda"], options={"kernel": "linear"})


def test_own_head_of_a_file_is_tuned_by_worker_processes(
    made_up: MadeUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("evaluation.fitting._n_cores", lambda: 2)
    (tmp_path / "wide_parts.py").write_text("WIDTHS = [8, 16]\n")
    (tmp_path / "wide_head.py").write_text(
        """
import os
from sklearn.svm import SVC
from torch import nn
from heads import MinibatchHead
from wide_parts import WIDTHS

class WideHead(MinibatchHead):
    search_space = {"width": WIDTHS}

    def __init__(self, width: int = 4, **settings):
        super().__init__(**settings)
        self.width = width

    def build(self, shape, n_classes):
        self.process_ = os.getpid()
        return nn.Sequential(nn.Linear(shape[-1], self.width), nn.ReLU(), nn.Linear(self.width, n_classes))

class MySVC(SVC):
    pass
"""
    )
    heads = [f"{tmp_path}/wide_head.py:{name}" for name in ("WideHead", "MySVC")]
    options = {"epochs": 20, "lr": 0.01, "device": "cpu"}
    comparison = compare_heads(made_up(n_sessions=1), heads, options=options, tune=3, refit=False)
    assert comparison.rows[0]["settings"].startswith("width=")
    assert comparison.rows[1]["test_accuracy"] > 0.5
    head: Any = comparison.classifier.members[0].head
    assert head.process_ != os.getpid()
    assert type(head) is sys.modules[type(head).__module__].WideHead
