"""DET curves, histograms and operating points of scored trials, as tables that the report draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from files import Record, fields_repr
from metrics import error_rates
from verification import Trials

# Number of bins of a histogram.
BINS = 80
# Share of the scores at either end that is counted in the outermost bins.
OUTLIERS = 0.002


@dataclass(frozen=True, eq=False)
class ScoredTrials:
    """Trials with the scores of a backend.

    Attributes
    ----------
    backend : str
    trials : Trials
    scores : ndarray (n_trials,)
        float32.
    """

    backend: str
    trials: Trials
    scores: NDArray[np.float32]

    __repr__ = fields_repr


def det_records(scored: Sequence[ScoredTrials]) -> list[Record]:
    """Return points of the DET curve of each backend, most of them at low error rates."""
    records = []
    for result in scored:
        rates = error_rates(result.trials.labels, result.scores).thinned()
        points = zip(rates.thresholds.tolist(), rates.false_accept.tolist(), rates.miss.tolist(), strict=True)
        records += [
            {"backend": result.backend, "threshold": threshold, "false_accept": false_accept, "miss": miss}
            for threshold, false_accept, miss in points
        ]
    return records


def histogram_records(scored: Sequence[ScoredTrials]) -> list[Record]:
    """Count the targets and nontargets of each backend in bins of the score; outliers are in the outermost bins."""
    records = []
    for result in scored:
        scores = result.scores.astype(np.float64)
        sides = [scores[result.trials.labels == label] for label in (True, False)]
        lowest = min(np.quantile(side, OUTLIERS) for side in sides)
        highest = max(np.quantile(side, 1 - OUTLIERS) for side in sides)
        scores = np.clip(scores, lowest, highest)
        edges = np.histogram_bin_edges(scores, bins=BINS)
        counts = [np.histogram(scores[result.trials.labels == label], edges)[0].tolist() for label in (True, False)]
        for low, high, targets, nontargets in zip(edges[:-1].tolist(), edges[1:].tolist(), *counts, strict=True):
            records.append(
                {"backend": result.backend, "low": low, "high": high, "targets": targets, "nontargets": nontargets}
            )
    return records


def operating_points(scored: Sequence[ScoredTrials]) -> list[Record]:
    """Return thresholds and error rates of each backend: at equal errors, and at minimum cost for two priors."""
    records = []
    for result in scored:
        rates = error_rates(result.trials.labels, result.scores)
        places = {"equal errors": int(np.argmax(rates.false_accept >= rates.miss))}
        for prior in (0.05, 0.01):
            cost = prior * rates.miss + (1 - prior) * rates.false_accept
            places[f"minimum cost, prior {prior:g}"] = int(cost.argmin())
        for where, place in places.items():
            threshold = float(rates.thresholds[place])
            records.append({
                "backend": result.backend, "where": where, "threshold": threshold if np.isfinite(threshold) else None,
                "false_accept": float(rates.false_accept[place]), "miss": float(rates.miss[place]),
            })  # fmt: skip
    return records


def lowest_eer(rows: Sequence[Record]) -> Record:
    """Return the row with the lowest equal error rate on all trials."""
    return min((row for row in rows if row["trials"] == "all"), key=lambda row: row["eer"])
