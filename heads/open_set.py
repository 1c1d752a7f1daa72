"""Open-set identification: the score that is compared with a threshold, and a description of the error rates."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from files import Record, format_percent

# Name of the score that rejects unknown speakers if there is no detector: the log-odds of the probability.
PROBABILITY = "probability"


def log_odds(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the log-odds (n,) of the most probable class against all others, from logits (n, n_classes).

    It is a monotonic function of the probability of that class, but does not saturate near 1.
    """
    sorted_logits = np.sort(logits.astype(np.float64), axis=1)
    odds: NDArray[np.float64] = sorted_logits[:, -1] - logsumexp(sorted_logits[:, :-1], axis=1)
    return odds


def describe_open_set(figures: Record | None) -> list[str]:
    """Describe in sentences how often unknown speakers are accepted and known ones rejected.

    Parameters
    ----------
    figures : dict, optional
        ``metrics["open_set"]`` of a classifier (`evaluation.rejection.Rejection.figures`); no sentence without it.
    """
    if not figures:
        return []
    scores = "probabilities" if figures["by"] == PROBABILITY else f"{figures['by']} scores"
    accepted, rejected = (format_percent(figures[name]) for name in ("miss", "false_alarm"))
    intervals = [
        f"95 % CI {format_percent(figures[f'{name}_low'])} to {format_percent(figures[f'{name}_high'])}"
        for name in ("miss", "false_alarm")
    ]
    return [
        f"unknown speakers ({figures['n_unknown']} held out in turn, {scores}): {accepted} % falsely accepted "
        f"({intervals[0]})",
        f"known speakers: {rejected} % falsely rejected at that threshold ({intervals[1]})",
        f"known speakers identified if 1 % of unknown ones are accepted (DIR at FAR 1 %): "
        f"{format_percent(figures['dir_at_far_0.01'])} %",
    ]


def check_open_set(figures: Record) -> None:
    """Refuse figures that `describe_open_set` cannot describe.

    Raises
    ------
    ValueError
        A figure is missing, or has another type.
    """
    if not figures:
        return
    shares = [f"{name}{end}" for name in ("miss", "false_alarm") for end in ("", "_low", "_high")]
    if not all(isinstance(figures.get(name), float) for name in (*shares, "dir_at_far_0.01")):
        raise ValueError("its open-set figures are not numbers")
    if not all(isinstance(figures.get(name), str | int) for name in ("by", "n_unknown", "split_by", "seed")):
        raise ValueError("its open-set figures lack the score, the number of speakers, the split or the seed")
