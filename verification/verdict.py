"""`Verdict`: the decision whether two recordings are of the same speaker."""

from dataclasses import dataclass
from typing import Literal

from scipy.special import expit, logit

from files import format_percent

# Between these probabilities, the decision is "unsure".
UNSURE = (0.2, 0.8)


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
    same_audio : bool
        Whether the recordings contain the same audio. The probability is then no evidence about the speaker.
    """

    score: float
    llr: float
    probability: float
    same: bool
    same_audio: bool = False

    @property
    def decision(self) -> Literal["same", "different", "unsure"]:
        """The more probable answer, or ``unsure`` if the probability is between the two numbers of `UNSURE`."""
        lowest, highest = UNSURE
        if lowest < self.probability < highest:
            return "unsure"
        return "same" if self.same else "different"

    def describe(self, p_target: float, name: str | None = None) -> str:
        """Describe the decision in a sentence.

        Parameters
        ----------
        p_target : float
            Prior probability that the decision was made with.
        name : str, optional
            Name of the enrolled speaker that a recording was compared with, instead of another recording.
        """
        same, different = ("the same speaker", "two speakers") if name is None else (name, f"not {name}")
        share, prior = format_percent(self.probability), f"prior {100 * p_target:g} %"
        if self.same_audio:
            both = "both files contain" if name is None else f"{name} is enrolled with"
            return (
                f"the same audio: {both} this recording, so the result (probability of {same} {share} %, {prior}) is "
                "no evidence about the speaker"
            )
        probability = f"probability of {same} {share} % ({prior})"
        if self.decision == "unsure":
            lowest, highest = (format_percent(share, 0) for share in UNSURE)
            return f"unsure: {probability}; between {lowest} and {highest} %, the recordings do not show who speaks"
        return f"{same if self.same else different}: {probability}"


def verdict(score: float, llr: float, p_target: float, *, same_audio: bool = False) -> Verdict:
    """Return the decision for a score and its log-likelihood ratio."""
    probability = float(expit(llr + logit(p_target)))
    return Verdict(score=score, llr=llr, probability=probability, same=probability >= 0.5, same_audio=same_audio)
