"""Closed-set identification: which of the known speakers is it?"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax
from sklearn.metrics import f1_score


def ranks(labels: ArrayLike, scores: ArrayLike, classes: ArrayLike | None = None) -> NDArray[np.int64]:
    """How many other classes were scored at least as high as each utterance's true one.

    Parameters
    ----------
    labels : array-like (n,)
        True classes; one that no column stands for has all columns ahead of it.
    scores : array-like (n, n_classes)
        Higher is likelier; NaN counts as lowest. Another class with the same score counts as ahead of the true one, so
        that a constant score is worth nothing.
    classes : array-like (n_classes,), optional
        Class of each column; by default 0, 1, ...

    Returns
    -------
    ndarray (n,)
        int64, 0 where the true class is scored highest.

    Raises
    ------
    ValueError
        The shapes contradict each other.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    columns = np.arange(scores.shape[-1]) if classes is None else np.asarray(classes)
    if scores.shape != (len(labels), len(columns)):
        raise ValueError(f"expected (n,) labels and (n, n_classes) scores; got {labels.shape}, {scores.shape}")
    scores = np.where(np.isnan(scores), -np.inf, scores)  # a score that is no number is worth nothing
    own = labels[:, None] == columns
    target = np.where(own, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    ahead: NDArray[np.int64] = (~own & (scores >= target)).sum(axis=1)
    return ahead


def detection_identification_rate(
    scores: ArrayLike, right: ArrayLike, strangers: ArrayLike, false_accept: float = 0.01
) -> float:
    """Share of known speakers' utterances that get a name, and the right one, where few strangers' get any.

    The watch-list figure "DIR at FAR" of open-set identification (Phillips, Grother and Micheals, 2011).

    Parameters
    ----------
    scores : array-like (n,)
        Of known speakers' utterances, those of the best names; higher is surer.
    right : array-like (n,)
        Whether these names are right.
    strangers : array-like (m,)
        Scores of the best names of strangers' utterances.
    false_accept : float
        Largest share of strangers that may get a name: the threshold is the lowest one that keeps to it.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        There are no known speakers' utterances or no strangers', or the shapes differ.
    """
    values, correct = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=bool)
    others = np.sort(np.asarray(strangers, dtype=np.float64))[::-1]
    if values.shape != correct.shape or values.ndim != 1 or not len(values) or not len(others):
        raise ValueError(f"expected (n,) scores and answers and (m,) strangers; got {values.shape}, {others.shape}")
    threshold = others[min(int(false_accept * len(others) + 1e-9), len(others) - 1)]  # and no more than it
    return float((correct & (values > threshold)).mean())


def top_k_accuracy(labels: ArrayLike, scores: ArrayLike, k: int = 1, classes: ArrayLike | None = None) -> float:
    """Share of the utterances whose speaker is among the k best scored.

    Parameters
    ----------
    labels, scores, classes
        As `ranks` takes them; a class that no column stands for counts as missed.
    k : int
        With k of at least n_classes, every utterance of a known class counts.

    Returns
    -------
    float
        From 0 to 1; NaN without utterances.

    Raises
    ------
    ValueError
        The shapes contradict each other, or k is not positive.
    """
    if k < 1:
        raise ValueError(f"expected k >= 1; got {k=}")
    labels = np.asarray(labels)
    if not len(labels):
        return float("nan")
    columns = np.arange(np.shape(scores)[-1]) if classes is None else np.asarray(classes)
    return float(np.mean((ranks(labels, scores, columns) < k) & np.isin(labels, columns)))


def macro_f1(labels: ArrayLike, predictions: ArrayLike, classes: ArrayLike | None = None) -> float:
    """Mean over speakers of the F1 score, each speaker counting the same.

    Parameters
    ----------
    labels, predictions : array-like (n,)
        True and predicted classes.
    classes : array-like, optional
        Those to average over; by default all that occur in either. A class that is predicted and never true scores 0.

    Returns
    -------
    float
        From 0 to 1; NaN without utterances.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if not len(labels):
        return float("nan")
    return float(f1_score(labels, predictions, labels=classes, average="macro", zero_division=0))


def log_loss(labels: ArrayLike, logits: ArrayLike, classes: ArrayLike | None = None) -> float:
    """Mean negative log-probability of the true speakers, the probabilities being the softmax of the logits.

    Parameters
    ----------
    labels : array-like (n,)
        True classes, each of which a column stands for.
    logits : array-like (n, n_classes)
        Higher is likelier.
    classes : array-like (n_classes,), optional
        Class of each column, sorted; by default 0, 1, ...

    Returns
    -------
    float
        In nats, 0 at best; NaN without utterances.

    Raises
    ------
    ValueError
        No column stands for a label.
    """
    labels, logits = np.asarray(labels), np.asarray(logits, dtype=np.float64)
    columns = np.arange(logits.shape[-1]) if classes is None else np.asarray(classes)
    if logits.shape != (len(labels), len(columns)):
        raise ValueError(f"expected (n,) labels and (n, n_classes) logits; got {labels.shape}, {logits.shape}")
    if not np.isin(labels, columns).all():
        raise ValueError(f"no column stands for the classes {np.setdiff1d(labels, columns)}")
    if not len(labels):
        return float("nan")
    own = np.searchsorted(columns, labels)
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), own].mean())


def expected_calibration_error(correct: ArrayLike, confidences: ArrayLike, n_bins: int = 15) -> float:
    """How far the probabilities of the named speakers are from how often they are right (Guo et al., 2017).

    Parameters
    ----------
    correct : array-like (n,)
        Whether the likeliest class was the true one.
    confidences : array-like (n,)
        Its probability.
    n_bins : int
        Equal parts of the range from 0 to 1; a probability on a border belongs to the part below it.

    Returns
    -------
    float
        Mean over the utterances of the distance between accuracy and mean probability of their part, from 0 (best) to
        1; NaN without utterances.

    Raises
    ------
    ValueError
        The shapes differ, or there are no parts.
    """
    right, shares = np.asarray(correct, dtype=np.float64), np.asarray(confidences, dtype=np.float64)
    if right.ndim != 1 or right.shape != shares.shape or n_bins < 1:
        raise ValueError(
            f"expected (n,) correct, (n,) confidences and n_bins >= 1; got {right.shape}, {shares.shape}, {n_bins=}"
        )
    if not len(right):
        return float("nan")
    bins = np.clip(np.ceil(shares * n_bins) - 1, 0, n_bins - 1).astype(np.int64)
    gaps = np.bincount(bins, right - shares, n_bins)
    return float(np.abs(gaps).sum() / len(right))
