"""Own heads: their registration, and the classifiers that hold them."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from evaluation import compare_heads
from features import FeatureSet
from heads import (
    ClassifierError,
    Head,
    HeadError,
    SpeakerClassifier,
    can_be_saved,
    create_head,
    head_options,
    register_head,
    register_heads,
    search_space,
)

Blobs = Callable[..., tuple[torch.Tensor, NDArray[np.int64]]]
IN_FILE = """
from torch import nn
from heads import MinibatchHead

class WideHead(MinibatchHead):
    def __init__(self, width: int = 16, **settings):
        super().__init__(**settings)
        self.width = width

    def build(self, shape, n_classes):
        return nn.Sequential(nn.Linear(shape[-1], self.width), nn.ReLU(), nn.Linear(self.width, n_classes))
"""


class NearestHead(Head):
    """Negative distances to the means of the classes."""

    search_space = {"power": [1.0, 2.0]}  # noqa: RUF012

    def __init__(self, power: float = 2.0) -> None:
        self.power = power

    def learn(self, rows: torch.Tensor, targets: torch.Tensor, validation: Any) -> None:
        self.means_ = torch.stack([rows[targets == number].mean(0) for number in range(len(self.classes_))])

    def decision_function(self, X: ArrayLike | torch.Tensor) -> NDArray[np.float32]:
        distances: NDArray[np.float32] = torch.cdist(torch.as_tensor(X).float(), self.means_, p=self.power).numpy()
        return -distances

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"means": self.means_}

    def load_state_dict(self, state: Mapping[str, torch.Tensor], classes: ArrayLike) -> Self:
        self.classes_, self.means_ = np.asarray(classes), state["means"]
        return self


@pytest.fixture(autouse=True)
def own_heads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that forgets the registered heads, as a new session does."""

    def forget() -> None:
        monkeypatch.setattr("heads.registry.OWN_HEADS", {})

    forget()
    return forget


@pytest.fixture
def wide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the file and the class of a head."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_head.py").write_text(IN_FILE)
    return f"{tmp_path}/my_head.py:WideHead"


def test_registered_heads_are_created_by_the_name_of_their_class(blobs: Blobs, wide: str) -> None:
    X, y = blobs(3)
    assert register_head(NearestHead) == "NearestHead"
    assert register_head(wide) == "WideHead"
    assert register_head("lda") == "lda"
    assert head_options("NearestHead") == ("power",)
    assert {"width", "epochs"} <= set(head_options("WideHead"))
    assert search_space("NearestHead") == {"power": [1.0, 2.0]}
    for name, options in (("NearestHead", {"power": 1.0}), ("WideHead", {"width": 32, "device": "cpu", "lr": 0.01})):
        assert (create_head(name, **options).fit(X, y).predict(X) == y).mean() > 0.9
    with pytest.raises(HeadError, match="'WideHead' has no option 'widht'; perhaps you meant 'width'"):
        create_head("WideHead", widht=3)


def test_instances_give_hyper_parameters_and_have_names_of_their_own() -> None:
    names = register_heads([NearestHead, NearestHead(power=1.0), NearestHead(power=1.0), "lda", NearestHead(3.0)])
    assert names == ["NearestHead", "NearestHead_2", "lda", "NearestHead_3"]
    powers = [create_head(name).hyper_parameters()["power"] for name in names if name != "lda"]
    assert powers == [2.0, 1.0, 3.0]
    assert create_head("NearestHead_2", power=5.0).hyper_parameters() == {"power": 5.0}


def test_instances_are_compared_by_value_not_by_their_shortened_text() -> None:
    priors = np.full(1_200, 1 / 1_200)
    other = priors.copy()
    other[[600, 601]] = [0, 2 / 1_200]
    given = [GaussianNB(priors=values) for values in (priors, other, priors.copy())]
    assert repr(given[0]) == repr(given[1])
    assert register_heads(given) == ["GaussianNB", "GaussianNB_2"]
    pipelines = [make_pipeline(StandardScaler(), GaussianNB(priors=values)) for values in (priors, other, priors)]
    assert register_heads(pipelines) == ["Pipeline", "Pipeline_2"]
    assert register_heads([SVC, SVC(), SVC(C=2.0), SVC(C=2.0)]) == ["SVC", "SVC_2"]


def test_classes_of_this_project_keep_their_names(features: FeatureSet, tmp_path: Path) -> None:
    kind = type(create_head("lda"))
    assert register_heads([kind, create_head("lda", shrinkage=0.5), "centroid"]) == ["lda", "LDAHead", "centroid"]
    assert [create_head(name).hyper_parameters()["shrinkage"] for name in ("lda", "LDAHead")] == [None, 0.5]
    path = compare_heads(features, [create_head("lda", shrinkage=0.5)]).classifier.save(tmp_path / "classifier.pt")
    [member] = SpeakerClassifier.load(path).members
    assert (member.name, member.head.hyper_parameters()["shrinkage"]) == ("lda", 0.5)


def test_class_that_is_registered_again_replaces_the_earlier_one() -> None:
    register_head(type("MyHead", (NearestHead,), {"search_space": {}}))
    register_head(type("MyHead", (NearestHead,), {}))
    assert search_space("MyHead") == {"power": [1.0, 2.0]}


def test_two_classes_of_one_name_are_refused_in_one_comparison() -> None:
    with pytest.raises(HeadError, match="Two heads are called MyHead; rename one of the classes"):
        register_heads([type("MyHead", (NearestHead,), {}), type("MyHead", (NearestHead,), {})])


def test_what_is_no_head_is_refused(wide: str) -> None:
    with pytest.raises(HeadError, match=r"Path is neither a subclass of Head .* nor a classifier of scikit-learn"):
        register_head("pathlib:Path")
    with pytest.raises(HeadError, match="LinearRegression is neither"):
        register_head("sklearn.linear_model:LinearRegression")
    with pytest.raises(HeadError, match="int is neither"):
        register_head(3)
    with pytest.raises(HeadError, match="There is no head 'ldaa'; perhaps you meant 'lda'"):
        register_head("ldaa")
    with pytest.raises(HeadError, match=r"my_head\.py has no class 'Wide'; perhaps you meant 'WideHead'"):
        register_head(wide.replace("WideHead", "Wide"))
    with pytest.raises(HeadError, match="Half does not define decision_function and load_state_dict and state_dict"):
        register_head(type("Half", (Head,), {"learn": NearestHead.learn}))
    with pytest.raises(HeadError, match="lda has the name of one of this project's heads"):
        register_head(type("lda", (NearestHead,), {}))
    with pytest.raises(HeadError, match="VotingClassifier cannot be created without estimators"):
        register_head("sklearn.ensemble:VotingClassifier")


def test_heads_that_a_file_could_not_hold_are_refused() -> None:
    class Noisy(NearestHead):
        def __init__(self, noise: Any = None) -> None:
            self.noise = noise

    class Counting(NearestHead):
        def __init__(self) -> None:
            self.count = 0

    register_heads([Noisy, Counting])
    assert create_head("Noisy", noise=[1, ("a", None)]) is not None
    with pytest.raises(HeadError, match=r"Noisy has noise=.*which a saved classifier cannot hold"):
        create_head("Noisy", noise=torch.zeros(1))
    with pytest.raises(HeadError, match="Counting has the attribute 'count', which is no argument of its constructor"):
        create_head("Counting")


@pytest.mark.parametrize("given", ["class", "instance", "file"])
def test_classifier_with_an_own_head_is_loaded_once_the_class_is_registered(
    given: str, features: FeatureSet, wide: str, own_heads: Callable[[], None], tmp_path: Path
) -> None:
    head: Any = {"class": NearestHead, "instance": NearestHead(power=1.0), "file": wide}[given]
    name = "WideHead" if given == "file" else "NearestHead"
    classifier = compare_heads(features, [head], options={"epochs": 5, "device": "cpu"}).classifier
    path = classifier.save(tmp_path / "classifier.pt")
    expected = classifier.predict_features(features)
    assert SpeakerClassifier.load(path).predict_features(features) == expected
    own_heads()
    with pytest.raises(ClassifierError, match=rf"classifier\.pt: its head '{name}' is not.*--heads FILE\.py:{name}"):
        SpeakerClassifier.load(path)
    register_head(wide if given == "file" else NearestHead)
    loaded = SpeakerClassifier.load(path)
    assert loaded.predict_features(features) == expected
    if given == "instance":
        assert loaded.members[0].head.hyper_parameters() == {"power": 1.0}


def test_reference_in_a_classifier_imports_nothing(features: FeatureSet, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    path = compare_heads(features, ["lda"]).classifier.save(tmp_path / "classifier.pt")
    content = torch.load(path, weights_only=True)
    for name in (f"{tmp_path}/evil.py:Evil", "os:system", "sklearn.svm:SVC"):
        torch.save({**content, "head": {**content["head"], "name": name}}, path)
        with pytest.raises(ClassifierError, match=r"is not one of this project's heads.*--heads FILE\.py:CLASS;"):
            SpeakerClassifier.load(path)


def test_scikit_learn_classifiers_are_not_saved() -> None:
    assert register_heads([SVC, SVC(C=3), "lda", NearestHead]) == ["SVC", "SVC_2", "lda", "NearestHead"]
    assert [can_be_saved(name) for name in ("SVC", "SVC_2", "lda", "NearestHead")] == [False, False, True, True]
