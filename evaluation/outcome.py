"""What a fitted head says of the test rows, and the figures that follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from evaluation.records import Record
from metrics import expected_calibration_error, log_loss, macro_f1, ranks

Numbers = NDArray[np.int64]
Counts = tuple[NDArray[np.float64], NDArray[np.float64]]  # right answers and utterances of each speaker


@dataclass(frozen=True, eq=False)
class Outcome:
    """One head's answers to the test rows of one split.

    Attributes
    ----------
    rows : ndarray (n,)
        int64, into the features.
    labels, predictions : ndarray (n,)
        int64, true and likeliest speakers.
    ranks : ndarray (n,)
        int64, how many other speakers were scored as high as the true one; 0 is right.
    confidences : ndarray (n,)
        float32, probability of the likeliest.
    log_loss : float
        Mean negative log-probability of the true ones (nats).
    """

    rows: Numbers
    labels: Numbers
    predictions: Numbers
    ranks: Numbers
    confidences: NDArray[np.float32]
    log_loss: float

    @classmethod
    def of(cls, rows: Numbers, labels: Numbers, logits: NDArray[np.float32], classes: Numbers) -> "Outcome":
        """Judge logits (n, n_classes) of rows (n,) whose true speakers are `labels` (n,)."""
        columns = logits.argmax(axis=1) if len(rows) else np.zeros(0, np.int64)
        confidences = softmax(logits, axis=1).max(axis=1) if len(rows) else np.zeros(0, np.float32)
        return cls(
            rows,
            labels,
            classes[columns],
            ranks(labels, logits, classes),
            confidences,
            log_loss(labels, logits, classes),
        )

    def figures(self) -> dict[str, float]:
        """Return the measures of a row of the comparison."""
        tops = {k: float(np.mean(self.ranks < k)) if len(self.ranks) else float("nan") for k in (1, 3, 5)}
        return {
            "test_accuracy": tops[1],
            # Over the speakers that are tested: the others cannot be right.
            "test_macro_f1": macro_f1(self.labels, self.predictions, np.unique(self.labels)),
            "test_top3": tops[3],
            "test_top5": tops[5],
            "test_log_loss": self.log_loss,
            "test_ece": expected_calibration_error(self.ranks == 0, self.confidences),
        }


def by_speaker(outcomes: Sequence[Outcome], n_speakers: int) -> Counts:
    """Count the right answers and the test utterances of each speaker (n_speakers,), over all seeds."""
    labels = np.concatenate([outcome.labels for outcome in outcomes])
    right = np.concatenate([outcome.ranks == 0 for outcome in outcomes])
    hits, counts = (np.bincount(labels, weights, n_speakers) for weights in (right, np.ones(len(labels))))
    return hits.astype(np.float64), counts.astype(np.float64)


def per_speaker(outcomes: Sequence[Outcome], speakers: Sequence[str]) -> list[Record]:
    """List the tested speakers, the worst first: utterances, accuracy, and for whom each was taken most often."""
    hits, counts = by_speaker(outcomes, len(speakers))
    mistakes: dict[int, tuple[int, int]] = {}
    for record in _pairs(outcomes):
        true, predicted, n = record
        if true != predicted and n > mistakes.get(true, (0, 0))[0]:
            mistakes[true] = n, predicted
    records = [
        {
            "speaker": speakers[label],
            "n_test": int(counts[label]),
            "accuracy": hits[label] / counts[label],
            "taken_for": speakers[mistakes[label][1]] if label in mistakes else "",
        }
        for label in np.flatnonzero(counts)
    ]
    return sorted(records, key=lambda record: (record["accuracy"], record["speaker"]))


def confusion(outcomes: Sequence[Outcome], speakers: Sequence[str]) -> list[Record]:
    """List the cells of the confusion matrix that are not zero: true speaker, predicted speaker, count."""
    return [
        {"speaker": speakers[true], "predicted": speakers[predicted], "count": n}
        for true, predicted, n in _pairs(outcomes)
    ]


def _pairs(outcomes: Sequence[Outcome]) -> list[tuple[int, int, int]]:
    pairs = np.concatenate([np.stack([outcome.labels, outcome.predictions]) for outcome in outcomes], axis=1)
    cells, counts = np.unique(pairs, axis=1, return_counts=True)
    return [(int(true), int(predicted), int(n)) for (true, predicted), n in zip(cells.T, counts, strict=True)]
