"""Figures of identification: which of the known speakers is it?"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax


def ranks(labels: ArrayLike, scores: ArrayLike, classes: ArrayLike | None = None) -> NDArray[np.int64]:
    """Count, for each utterance, the other classes whose score is at least that of the true class.

    Parameters
    ----------
    labels : array-like (n,)
        True classes. For a class without a column, all columns are counted.
    scores : array-like (n, n_classes)
        Scores, higher for more probable classes; NaN is the lowest score. Ties count against the true class, so that
        constant scores are never correct.
    classes : array-like (n_classes,), optional
        Class of each column; by default 0, 1, ...

    Returns
    -------
    ndarray (n,)
        int64, 0 where the true class has the highest score.

    Raises
    ------
    ValueError
        The shapes do not match.

    Examples
    --------
    >>> ranks([0, 2], [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]]).tolist()
    [0, 2]
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    columns = np.arange(scores.shape[-1]) if classes is None else np.asarray(classes)
    if scores.shape != (len(labels), len(columns)):
        raise ValueError(f"expected (n,) labels and (n, n_classes) scores; got {labels.shape}, {scores.shape}")
    scores = np.where(np.isnan(scores), -np.inf, scores)
    own = labels[:, None] == columns
    target = np.where(own, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    ahead: NDArray[np.int64] = (~own & (scores >= target)).sum(axis=1)
    return ahead


def detection_identification_rate(
    scores: ArrayLike, right: ArrayLike, unknown: ArrayLike, *, false_accept: float = 0.01
) -> float:
    """Compute the share of known speakers' utterances that are both accepted and identified correctly.

    The threshold is the lowest one at which at most a share `false_accept` of the unknown speakers' utterances are
    accepted. This is the watch-list figure "DIR at FAR" (Phillips, Grother and Micheals, 2011).

    Parameters
    ----------
    scores : array-like (n,)
        Score of the most probable speaker, for utterances of known speakers; utterances above the threshold are
        accepted.
    right : array-like (n,)
        bool, whether that speaker is the true one.
    unknown : array-like (m,)
        Score of the most probable speaker, for utterances of unknown speakers.
    false_accept : float
        Maximum share of the unknown speakers' utterances that are accepted.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        There are no utterances of known or of unknown speakers, or the shapes differ.

    Examples
    --------
    >>> detection_identification_rate([0.9, 0.8, 0.3, 0.7], [True, False, True, True], [0.5, 0.2])
    0.5
    """
    values, correct = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=bool)
    others = np.sort(np.asarray(unknown, dtype=np.float64))[::-1]
    if values.shape != correct.shape or values.ndim != 1 or not len(values) or not len(others):
        raise ValueError(
            f"expected (n,) scores, (n,) right and (m,) unknown, none of them empty; got {values.shape}, "
            f"{correct.shape}, {others.shape}"
        )
    n_accepted = int(false_accept * len(others) + 1e-9)  # in floating point, 0.29 * 100 is just below 29
    threshold = others[min(n_accepted, len(others) - 1)]
    return float((correct & (values > threshold)).mean())


def top_k_accuracy(labels: ArrayLike, scores: ArrayLike, k: int = 1, *, classes: ArrayLike | None = None) -> float:
    """Compute the share of the utterances whose true class has one of the k highest scores.

    Parameters
    ----------
    labels, scores, classes
        As for `ranks`; an utterance whose class has no column counts as an error.
    k : int
        Number of highest scores; if it is n_classes or more, all utterances whose class has a column count as correct.

    Returns
    -------
    float
        From 0 to 1; NaN without utterances.

    Raises
    ------
    ValueError
        The shapes do not match, or k is not positive.

    Examples
    --------
    >>> scores = [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]]
    >>> top_k_accuracy([0, 1], scores), top_k_accuracy([0, 1], scores, k=2)
    (0.5, 1.0)
    """
    if k < 1:
        raise ValueError(f"expected k >= 1; got {k=}")
    labels = np.asarray(labels)
    if not len(labels):
        return float("nan")
    columns = np.arange(np.shape(scores)[-1]) if classes is None else np.asarray(classes)
    return float(np.mean((ranks(labels, scores, columns) < k) & np.isin(labels, columns)))


def macro_f1(labels: ArrayLike, predictions: ArrayLike, classes: ArrayLike | None = None) -> float:
    """Compute the mean of the classes' F1 scores, in which each class has the same weight.

    Parameters
    ----------
    labels, predictions : array-like (n,)
        True and predicted classes.
    classes : array-like, optional
        Classes to average over; by default all true and predicted ones. The F1 score of a class that is predicted but
        never true is 0.

    Returns
    -------
    float
        From 0 to 1; NaN without utterances.

    Raises
    ------
    ValueError
        The shapes differ.

    Examples
    --------
    >>> macro_f1(["ann", "ann", "bob"], ["ann", "ann", "ann"])
    0.4
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if not len(labels):
        return float("nan")
    from sklearn.metrics import f1_score  # here, because it takes a second to import

    return float(f1_score(labels, predictions, labels=classes, average="macro", zero_division=0))


def log_loss(labels: ArrayLike, logits: ArrayLike, classes: ArrayLike | None = None) -> float:
    """Compute the mean negative log-probability of the true classes.

    Parameters
    ----------
    labels : array-like (n,)
        True classes; each has a column.
    logits : array-like (n, n_classes)
        Logits, whose softmax gives the probabilities.
    classes : array-like (n_classes,), optional
        Class of each column, sorted; by default 0, 1, ...

    Returns
    -------
    float
        In nats, 0 at best; NaN without utterances.

    Raises
    ------
    ValueError
        A label has no column, or the shapes do not match.

    Examples
    --------
    >>> round(log_loss([0, 1], [[2.0, 0.0], [0.0, 1.0]]), 3)
    0.22
    """
    labels, logits = np.asarray(labels), np.asarray(logits, dtype=np.float64)
    columns = np.arange(logits.shape[-1]) if classes is None else np.asarray(classes)
    if logits.shape != (len(labels), len(columns)):
        raise ValueError(f"expected (n,) labels and (n, n_classes) logits; got {labels.shape}, {logits.shape}")
    if not np.isin(labels, columns).all():
        raise ValueError(f"expected a column for each class; the classes {np.setdiff1d(labels, columns)} have none")
    if not len(labels):
        return float("nan")
    own = np.searchsorted(columns, labels)
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), own].mean())


def expected_calibration_error(correct: ArrayLike, confidences: ArrayLike, n_bins: int = 15) -> float:
    """Compute how far the predicted probabilities are from the accuracy (Guo et al., 2017).

    Parameters
    ----------
    correct : array-like (n,)
        bool, whether the most probable class is the true one.
    confidences : array-like (n,)
        Probability of the most probable class.
    n_bins : int
        Number of bins of equal width, from 0 to 1; a probability on an edge belongs to the bin below it.

    Returns
    -------
    float
        Mean over the utterances of the absolute difference between the accuracy and the mean probability of their bin,
        from 0 (best) to 1; NaN without utterances.

    Raises
    ------
    ValueError
        The shapes differ, or `n_bins` is not positive.

    Examples
    --------
    >>> round(expected_calibration_error([1, 0, 1, 1], [0.9, 0.9, 0.6, 0.6]), 3)
    0.4
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
