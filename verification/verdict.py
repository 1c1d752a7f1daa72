"""`Verdict`: the decision whether two recordings are of the same speaker."""

from dataclasses import dataclass

from scipy.special import expit, logit


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Decision about two recordings.

    Attributes
    ----------
    score : float
        Score of the backend.
    llr : float
        Natural log-likelihood ratio of the same speaker against different speakers.
    probability : float
        Probability that the speaker is the same, given the prior probability.
    same : bool
        Whether the probability is at least one half.
    """

    score: float
    llr: float
    probability: float
    same: bool


def verdict(score: float, llr: float, p_target: float) -> Verdict:
    """Return the decision for a score and its log-likelihood ratio."""
    probability = float(expit(llr + logit(p_target)))
    return Verdict(score=score, llr=llr, probability=probability, same=probability >= 0.5)
