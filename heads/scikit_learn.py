"""`ScikitLearnHead`: a classifier of scikit-learn as a head."""

from collections.abc import Mapping
from inspect import signature
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from heads.base import Head, HeadError, Validation, as_rows
from heads.minibatch import MinibatchHead

# Lowest probability, before the logarithm.
MIN_PROBABILITY = 1e-7
# Options of training by minibatches that mean something else in scikit-learn; an instance has its own values.
MINIBATCH_ONLY = set(signature(MinibatchHead).parameters) - {"class_weight"}


class ScikitLearnHead(Head):
    """A classifier of scikit-learn, to compare it with other heads. It cannot be saved without running its code.

    The logits are its decision function or, if it has none, the logarithms of its probabilities. A classifier that has
    neither gives all of its vote to the class that it predicts. ``decision_function_shape`` is always "ovr", because
    scores of pairs of classes are no logits.

    Parameters
    ----------
    classifier : ClassifierMixin
        Unfitted classifier, which is copied.
    seed : int
        Random seed, for each ``random_state`` that is None.
    **parameters
        Parameters of the classifier.

    Attributes
    ----------
    classifier_ : ClassifierMixin
        The fitted classifier.
    has_scores_ : bool
        Whether the logits are scores of the classifier, not votes.
    """

    def __init__(self, classifier: Any, seed: int = 0, **parameters: Any) -> None:
        self.classifier = classifier
        self.seed = seed
        self.parameters = parameters

    def learn(self, rows: Tensor, targets: Tensor, validation: Validation | None) -> None:
        from sklearn.base import clone  # here, because it takes a second to import

        classifier = clone(self.classifier).set_params(**self.parameters)
        given = classifier.get_params()
        seeds = [name for name, value in given.items() if _last_part(name) == "random_state" and value is None]
        # Three classes have three pairs ("ovo"), whose scores would be taken for logits. Predictions are the same.
        shapes = [name for name in given if _last_part(name) == "decision_function_shape"]
        fixed = dict.fromkeys(seeds, self.seed) | dict.fromkeys(shapes, "ovr")
        self.classifier_ = classifier.set_params(**fixed)
        self.classifier_.fit(rows.numpy(), targets.numpy())
        n_scores = self._scores(rows[:1].numpy()).shape[1]
        self.has_scores_ = n_scores == len(self.classes_)

    def decision_function(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        rows = as_rows(X).cpu().numpy()
        if self.has_scores_:
            return self._scores(rows).astype(np.float32)
        votes = np.eye(len(self.classes_))[self.classifier_.predict(rows)]
        return _log(votes)

    def _scores(self, rows: NDArray[np.float32]) -> NDArray[Any]:
        """Return the classifier's own scores (n, n_classes), or (n, 0) if it has none."""
        if hasattr(self.classifier_, "decision_function"):
            scores = np.asarray(self.classifier_.decision_function(rows))
            if scores.ndim == 1:  # the log-odds of the second of two classes
                return np.stack([-scores / 2, scores / 2], axis=1)
            if scores.shape[1] == len(self.classes_):  # not those of pairs of classes
                return scores
        if hasattr(self.classifier_, "predict_proba"):
            return _log(np.asarray(self.classifier_.predict_proba(rows)))
        return np.zeros((len(rows), 0))

    def state_dict(self) -> dict[str, Tensor]:
        raise self._not_saved()

    def load_state_dict(self, state: Mapping[str, Tensor], classes: ArrayLike) -> Self:
        raise self._not_saved()

    def _not_saved(self) -> HeadError:
        return HeadError(
            f"{type(self.classifier).__name__} is compared only: a classifier of scikit-learn is not saved."
        )


def is_scikit_learn(classifier: Any) -> bool:
    """Return whether an object is an unfitted or fitted classifier with the interface of scikit-learn."""
    from sklearn.base import is_classifier  # here, because it takes a second to import

    methods = ("fit", "predict", "get_params", "set_params")
    try:
        return all(hasattr(classifier, name) for name in methods) and bool(is_classifier(classifier))
    except (AttributeError, TypeError):  # a class, or an object without tags
        return False


def parameters_of(classifier: Any) -> list[str]:
    """Return the names of the options of a `ScikitLearnHead`."""
    return ["seed", *(name for name in classifier.get_params() if name not in MINIBATCH_ONLY)]


def _last_part(name: str) -> str:
    """Return the name of a parameter without those of the estimators that contain it."""
    return name.rpartition("__")[2]


def _log(probabilities: NDArray[Any]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = np.log(probabilities.clip(MIN_PROBABILITY)).astype(np.float32)
    return logits
