"""Closed-set identification: which of the known speakers is it?"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax
from sklearn.metrics import f1_score


def top_k_accuracy(labels: ArrayLike, scores: ArrayLike, k: int = 1, classes: ArrayLike | None = None) -> float:
    """Share of the utterances whose speaker is among the k best scored.

    Parameters
    ----------
    labels : array-like (n,)
        True classes; one that no column stands for counts as missed.
    scores : array-like (n, n_classes)
        Higher is likelier. Another class with the same score counts as ahead of the true one, so that a constant score
        is worth nothing.
    k : int
        With k of at least n_classes, every utterance of a known class counts.
    classes : array-like (n_classes,), optional
        Class of each column; by default 0, 1, ...

    Returns
    -------
    float
        From 0 to 1; NaN without utterances.

    Raises
    ------
    ValueError
        The shapes contradict each other, or k is not positive.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    columns = np.arange(scores.shape[-1]) if classes is None else np.asarray(classes)
    if scores.shape != (len(labels), len(columns)) or k < 1:
        raise ValueError(
            f"expected (n,) labels, (n, n_classes) scores and k >= 1; got {labels.shape}, {scores.shape}, {k=}"
        )
    if not len(labels):
        return float("nan")
    scores = np.where(np.isnan(scores), -np.inf, scores)  # a score that is no number is worth nothing
    own = labels[:, None] == columns
    target = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
    ahead = (~own & (scores >= target)).sum(axis=1)
    return float(np.mean(own.any(axis=1) & (ahead < k)))


def macro_f1(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Mean over speakers of the F1 score, each speaker counting the same.

    Parameters
    ----------
    labels, predictions : array-like (n,)
        True and predicted classes.

    Returns
    -------
    float
        From 0 to 1, over the classes that occur in either; NaN without utterances.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if not len(labels):
        return float("nan")
    return float(f1_score(labels, predictions, average="macro", zero_division=0))


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
