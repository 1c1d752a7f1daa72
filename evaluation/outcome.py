"""Predictions of a fitted head for the test rows, and the figures computed from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from corpora import Indices
from files import Record, fields_repr
from metrics import expected_calibration_error, log_loss, macro_f1, ranks

# Number of correct predictions and of utterances, for each speaker.
Counts = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Predictions of one head for the test rows of one split.

    Attributes
    ----------
    rows : ndarray (n,)
        int64, indices into the features.
    labels, predictions : ndarray (n,)
        int64, true and most probable speakers.
    ranks : ndarray (n,)
        int64, number of other speakers whose score is at least that of the true one; 0 is correct.
    confidences : ndarray (n,)
        float32, probability of the most probable speaker.
    log_loss : float
        Mean negative log-probability of the true speakers (nats).
    """

    rows: Indices
    labels: Indices
    predictions: Indices
    ranks: Indices
    confidences: NDArray[np.float32]
    log_loss: float

    __repr__ = fields_repr

    @classmethod
    def of(cls, rows: Indices, labels: Indices, logits: NDArray[np.float32], *, classes: Indices) -> "Outcome":
        """Make an outcome from logits (n, n_classes) of rows (n,) with the true speakers `labels` (n,)."""
        columns = logits.argmax(axis=1) if len(rows) else np.zeros(0, np.int64)
        confidences = softmax(logits, axis=1).max(axis=1) if len(rows) else np.zeros(0, np.float32)
        return cls(
            rows=rows,
            labels=labels,
            predictions=classes[columns],
            ranks=ranks(labels, logits, classes),
            confidences=confidences,
            log_loss=log_loss(labels, logits, classes),
        )

    def figures(self) -> dict[str, float]:
        """Return the figures of a row of the comparison, those of `HEAD_COLUMNS` that begin with ``test_``."""
        tops = {k: float(np.mean(self.ranks < k)) if len(self.ranks) else float("nan") for k in (1, 3, 5)}
        return {
            "test_accuracy": tops[1],
            # The mean over the tested speakers: others have no recording to classify correctly.
            "test_macro_f1": macro_f1(self.labels, self.predictions, np.unique(self.labels)),
            "test_top3": tops[3],
            "test_top5": tops[5],
            "test_log_loss": self.log_loss,
            "test_ece": expected_calibration_error(self.ranks == 0, self.confidences),
        }


def by_speaker(outcomes: Sequence[Outcome], n_speakers: int) -> Counts:
    """Count the correct predictions and the test utterances of each speaker (n_speakers,), over all seeds."""
    labels = np.concatenate([outcome.labels for outcome in outcomes])
    right = np.concatenate([outcome.ranks == 0 for outcome in outcomes])
    hits, counts = (np.bincount(labels, weights, n_speakers) for weights in (right, np.ones(len(labels))))
    return hits.astype(np.float64), counts.astype(np.float64)


def per_speaker(outcomes: Sequence[Outcome], speakers: Sequence[str]) -> list[Record]:
    """List the tested speakers, the least accurate first.

    Each has the number of its test utterances, its accuracy, and the speaker that is most often predicted instead.
    """
    hits, counts = by_speaker(outcomes, len(speakers))
    errors: dict[int, tuple[int, int]] = {}
    for true, predicted, n in _pairs(outcomes):
        if true != predicted and n > errors.get(true, (0, 0))[0]:
            errors[true] = n, predicted
    records = [
        {
            "speaker": speakers[label],
            "n_test": int(counts[label]),
            "accuracy": hits[label] / counts[label],
            "taken_for": speakers[errors[label][1]] if label in errors else "",
        }
        for label in np.flatnonzero(counts).tolist()
    ]
    return sorted(records, key=lambda record: (record["accuracy"], record["speaker"]))


def confusion(outcomes: Sequence[Outcome], speakers: Sequence[str]) -> list[Record]:
    """List the cells of the confusion matrix that are not zero: true speaker, predicted speaker, count."""
    return [
        {"speaker": speakers[true], "predicted": speakers[predicted], "count": n}
        for true, predicted, n in _pairs(outcomes)
    ]


def _pairs(outcomes: Sequence[Outcome]) -> list[tuple[int, int, int]]:
    """Count the pairs of true and predicted speakers."""
    pairs = np.concatenate([np.stack([outcome.labels, outcome.predictions]) for outcome in outcomes], axis=1)
    cells, counts = np.unique(pairs, axis=1, return_counts=True)
    return [(int(true), int(predicted), int(n)) for (true, predicted), n in zip(cells.T, counts, strict=True)]
