"""Classifiers of scikit-learn as heads: their logits, options and seeds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from heads import HeadError, ScikitLearnHead, create_head, head_options, register_head

Blobs = Callable[..., tuple[torch.Tensor, NDArray[np.int64]]]


class Votes(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Nearest mean, with `predict` alone."""

    def fit(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> "Votes":
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == label].mean(0) for label in self.classes_])
        return self

    def predict(self, X: NDArray[np.float32]) -> Any:
        return self.classes_[((X[:, None] - self.means_) ** 2).sum(2).argmin(1)]


CLASSIFIERS = [
    SVC(),
    SVC(decision_function_shape="ovo"),
    RidgeClassifier(),
    LogisticRegression(),
    GaussianNB(),
    KNeighborsClassifier(3),
    RandomForestClassifier(10),
    NearestCentroid(),
    Votes(),
    make_pipeline(StandardScaler(), SVC()),
    make_pipeline(StandardScaler(), SVC(decision_function_shape="ovo")),
]


@pytest.fixture(autouse=True)
def _own_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heads.registry.OWN_HEADS", {})


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda each: type(each).__name__)
def test_predictions_are_those_of_the_classifier(classifier: Any, n_classes: int, blobs: Blobs) -> None:
    X, y = blobs(n_classes, spread=1.5)
    names = np.array(["ann", "bob", "cat", "dan", "eve"])[y]
    head = create_head(register_head(classifier), seed=3).fit(X, names)
    logits = head.decision_function(X)
    assert logits.shape == (len(X), n_classes)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert isinstance(head, ScikitLearnHead)
    assert (head.predict(X) == head.classes_[head.classifier_.predict(X.numpy())]).mean() >= 0.98  # ties of SVC
    assert not hasattr(classifier, "classes_")  # a copy was fitted


def test_logits_are_the_decision_function_or_log_probabilities(blobs: Blobs) -> None:
    X, y = blobs(3)
    cases: list[tuple[Any, Callable[[Any], Any]]] = [
        (LogisticRegression(), lambda fitted: fitted.decision_function(X.numpy())),
        (GaussianNB(), lambda fitted: np.log(fitted.predict_proba(X.numpy()).clip(1e-7))),
        (Votes(), lambda fitted: np.log(np.eye(3)[fitted.predict(X.numpy())].clip(1e-7))),
    ]
    for classifier, expected in cases:
        head = ScikitLearnHead(classifier).fit(X, y)
        np.testing.assert_allclose(head.decision_function(X), expected(head.classifier_), rtol=1e-5, atol=1e-5)
        assert head.has_scores_ == (not isinstance(classifier, Votes))


def test_probabilities_of_two_classes_are_those_of_the_classifier(blobs: Blobs) -> None:
    X, y = blobs(2, spread=0.5)
    head = ScikitLearnHead(LogisticRegression()).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), head.classifier_.predict_proba(X.numpy()), atol=1e-5)


def test_options_are_the_parameters_of_the_classifier(blobs: Blobs) -> None:
    X, y = blobs(3)
    register_head(SVC(C=4, gamma=0.5))
    head = create_head("SVC", kernel="linear", gamma="auto").fit(X, y)
    assert isinstance(head, ScikitLearnHead)
    fitted = head.classifier_
    assert (fitted.C, fitted.kernel, fitted.gamma) == (4, "linear", "auto")
    with pytest.raises(HeadError, match="'SVC' has no option 'kernal'; perhaps you meant 'kernel'"):
        create_head("SVC", kernal="linear")
    with pytest.raises(ValueError, match="'C' parameter of SVC must be a float"):
        create_head("SVC", C=-1).fit(X, y)
    register_head(make_pipeline(StandardScaler(), SVC()))
    assert "svc__C" in head_options("Pipeline")


def test_options_of_training_by_minibatches_have_no_effect() -> None:
    register_head(MLPClassifier(batch_size=7))
    assert {"batch_size", "device", "epochs"} & set(head_options("MLPClassifier")) == set()
    register_head(SVC)
    assert "class_weight" in head_options("SVC")


@pytest.mark.parametrize("classifier", [SVC(), make_pipeline(StandardScaler(), SVC())])
def test_scores_of_pairs_of_classes_are_not_taken_for_those_of_three_classes(classifier: Any, blobs: Blobs) -> None:
    X, y = blobs(3)
    name = register_head(classifier)
    [option] = [each for each in head_options(name) if each.endswith("decision_function_shape")]
    by_class, by_pair = (create_head(name, **{option: shape}).fit(X, y) for shape in ("ovr", "ovo"))
    np.testing.assert_array_equal(by_pair.decision_function(X), by_class.decision_function(X))
    assert (by_pair.predict(X) == y).mean() > 0.9


def test_seed_is_every_random_state_that_is_not_given(blobs: Blobs) -> None:
    X, y = blobs(4, spread=0.5)
    forest = RandomForestClassifier(5)
    scores = [ScikitLearnHead(forest, seed=seed).fit(X, y).decision_function(X) for seed in (1, 1, 2)]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
    given = ScikitLearnHead(forest, seed=1, random_state=8).fit(X, y)
    assert given.classifier_.random_state == 8
    nested = ScikitLearnHead(make_pipeline(StandardScaler(), SVC()), seed=5).fit(X, y)
    assert nested.classifier_.get_params()["svc__random_state"] == 5


def test_state_is_refused(blobs: Blobs) -> None:
    X, y = blobs(2)
    head = ScikitLearnHead(SVC()).fit(X, y)
    with pytest.raises(HeadError, match="SVC is compared only"):
        head.state_dict()
    with pytest.raises(HeadError, match="SVC is compared only"):
        head.load_state_dict({}, [0, 1])
