"""Open-set identification: the score that is compared with a threshold, and a description of the error rates."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from files import Record, format_percent

# Name of the score that rejects unknown speakers if there is no detector: the log-odds of the probability.
PROBABILITY = "probability"
# Names of figures in classifiers of earlier versions.
OLD_NAMES = {"n_strangers": "n_unknown"} | {
    f"{old}{end}": f"{new}{end}"
    for old, new in (("miss", "unknown_accepted"), ("false_alarm", "known_rejected"))
    for end in ("", "_low", "_high")
}
# Minimum number of speakers for a threshold, and that of heads whose scores depend on the covariance between speakers.
MIN_SPEAKERS = 4
MIN_SPEAKERS_OF = {"lda": 8, "plda": 8}


def min_speakers(heads: Sequence[str]) -> int:
    """Return the minimum number of speakers with which a threshold for unknown speakers can be calibrated.

    The threshold is learned on heads that are trained without some of the speakers. If few are left, the scores of
    these heads have another scale than those of the head of all speakers, and so has the threshold. Measured on
    LibriSpeech dev-clean with the encoder spectral: with 3 speakers, linear rejects 65 % of the recordings of known
    speakers (estimate: 31 %) and mlp 83 % (31 %); with 4 speakers, linear rejects 24 % (18 %), but lda accepts all
    recordings of unknown speakers (41 %); with 8 speakers, lda accepts 16 % (13 %).

    Parameters
    ----------
    heads : sequence of str
        Names of the heads whose scores are used.
    """
    return max([MIN_SPEAKERS, *(MIN_SPEAKERS_OF[name] for name in heads if name in MIN_SPEAKERS_OF)])


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
        ``split_by`` is ``session`` if the figures hold for sessions that are not in the training, and ``given`` if they
        are those of the test split that the corpus gives.
    """
    if not figures:
        return []
    scores = "probabilities" if figures["by"] == PROBABILITY else f"{figures['by']} scores"
    accepted, rejected = (format_percent(figures[name]) for name in ("unknown_accepted", "known_rejected"))
    intervals = [
        f"95 % CI {format_percent(figures[f'{name}_low'])} to {format_percent(figures[f'{name}_high'])}"
        for name in ("unknown_accepted", "known_rejected")
    ]
    known = f"{rejected} % falsely rejected"
    if figures["split_by"] == "session":
        known = f"known speakers in new sessions: {known} at that threshold ({intervals[1]})"
    elif figures["split_by"] == "given":
        known = f"known speakers in the given test split: {known} at that threshold ({intervals[1]})"
    else:
        known = f"known speakers: {known} ({intervals[1]}), which holds for the same session only"
    return [
        f"unknown speakers ({figures['n_unknown']} held out in turn, {scores}): {accepted} % falsely accepted "
        f"({intervals[0]})",
        known,
        f"known speakers identified if 1 % of unknown ones are accepted (DIR at FAR 1 %): "
        f"{format_percent(figures['dir_at_far_0.01'])} %",
    ]


def rename_old_figures(figures: Record) -> Record:
    """Return the figures of a classifier of an earlier version under their names of today."""
    return {OLD_NAMES.get(name, name): value for name, value in figures.items()}


def check_open_set(figures: Record) -> None:
    """Refuse figures that `describe_open_set` cannot describe.

    Raises
    ------
    ValueError
        A figure is missing, or has another type.
    """
    if not figures:
        return
    shares = [f"{name}{end}" for name in ("unknown_accepted", "known_rejected") for end in ("", "_low", "_high")]
    if not all(isinstance(figures.get(name), float) for name in (*shares, "dir_at_far_0.01")):
        raise ValueError("its open-set figures are not numbers")
    if not all(isinstance(figures.get(name), str | int) for name in ("by", "n_unknown", "split_by", "seed")):
        raise ValueError("its open-set figures lack the score, the number of speakers, the split or the seed")
