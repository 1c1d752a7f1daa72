"""The error rates of a verifier on pairs of recordings: measured when it is trained, and described in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from files import count_of, format_percent
from metrics import equal_error_rate

# Names of the rates in `pair_errors`.
RATES = ("false_accept", "miss", "eer")


def pair_errors(corpus: str, labels: ArrayLike, *, scores: ArrayLike, llrs: ArrayLike) -> dict[str, Any]:
    """Measure the error rates on trials of a corpus.

    Parameters
    ----------
    corpus : str
        Name of the corpus.
    labels : array-like (n,)
        1 for targets, 0 for nontargets.
    scores, llrs : array-like (n,)
        Scores, and natural log-likelihood ratios.

    Returns
    -------
    dict
        ``corpus``; ``false_accept``, the share of the nontargets with a ratio of at least 0, which is a probability of
        50 % at a prior of 50 %; ``miss``, the share of the targets with a lower ratio; ``eer``.
    """
    is_target, is_accepted = np.asarray(labels, dtype=bool), np.asarray(llrs) >= 0
    return {
        "corpus": corpus,
        "false_accept": float(is_accepted[~is_target].mean()),
        "miss": float((~is_accepted[is_target]).mean()),
        "eer": equal_error_rate(labels, scores),
    }


def describe_errors(training: dict[str, Any]) -> str | None:
    """Describe the error rates of a verifier in a sentence; None if its file has none.

    Parameters
    ----------
    training : dict
        `SpeakerVerifier.training`. Verifiers of earlier versions have the EER alone.
    """
    try:
        calibrated_on = training["calibrated_on"]
        where = f"the {count_of(len(calibrated_on), 'speaker')} that calibrated it" if calibrated_on else (
            "corpora that it was not calibrated on"
        )  # fmt: skip
        rates = {name: [float(each[name]) for each in training.get("errors", ())] for name in RATES}
        eers = rates["eer"] or [float(training["eer"])]
    except (KeyError, TypeError, ValueError):
        return None
    opening, eer = f"Errors of this verifier, measured on {where}:", f"equal error rate {_range(eers)} %"
    if not rates["miss"]:
        return f"{opening} {eer}."
    return (
        f"{opening} {_range(rates['false_accept'])} % of the pairs of two speakers were accepted as one speaker, and "
        f"{_range(rates['miss'])} % of the pairs of one speaker were rejected (at a probability of 50 %; {eer})."
    )


def _range(rates: Sequence[float]) -> str:
    """Return one rate, or the lowest and the highest, in percent."""
    lowest, highest = (format_percent(rate) for rate in (min(rates), max(rates)))
    return lowest if lowest == highest else f"{lowest} to {highest}"
