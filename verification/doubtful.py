"""Find recordings that do not match the other recordings of their speaker, and may be of another person."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from files import count_of
from verification.backends import Backend
from verification.calibration import Calibration, Conditions
from verification.enrolment import Recording

# Log-likelihood ratio below which a recording does not match: it is then of another person with at least even odds if
# 1 in 20 recordings is. docs/enrolment.md has the shares of wrong and of missing warnings.
THRESHOLD = -3.0
# Maximum number of recordings in the model that a recording is compared with, and of mismatches of a speaker.
MAX_OTHERS, MAX_MISMATCHES = 100, 10


@dataclass(frozen=True)
class Mismatch:
    """A recording that does not match other recordings.

    Attributes
    ----------
    path : str
    score : float
        Natural log-likelihood ratio of the same speaker against different speakers.
    others : tuple of str
        Paths of the recordings that it was compared with.
    """

    path: str
    score: float
    others: tuple[str, ...]


def find_mismatches(
    recordings: Sequence[Recording], earlier: Sequence[Recording], *, backend: Backend, calibration: Calibration
) -> list[Mismatch]:
    """Return the recordings of a speaker that do not match the earlier ones or, if there are none, each other.

    Without earlier ones, each recording is compared with all others. The worst is left out, and the rest is compared
    again, so that one recording of another person does not make the others suspicious. If more than half of the
    recordings are of another person, those of the speaker are returned.
    """
    if not calibration.slope:  # the scores show nothing
        return []
    every = [*earlier, *recordings]
    vectors = backend.embed(torch.stack([each.vector.float() for each in every]))
    seconds = torch.tensor([each.seconds for each in every])

    def compare(row: int, others: list[int]) -> Mismatch:
        others = others[:: -(-len(others) // MAX_OTHERS)]
        score = _score(backend, calibration, vectors[[*others, row]], seconds=seconds[[*others, row]])
        return Mismatch(every[row].path, score, tuple(every[other].path for other in others))

    rows = list(range(len(earlier), len(every)))
    if earlier:
        compared = [compare(row, list(range(len(earlier)))) for row in rows]
        return sorted((each for each in compared if each.score < THRESHOLD), key=lambda each: each.score)
    found: list[Mismatch] = []
    while len(rows) > 1 and len(found) < MAX_MISMATCHES:
        compared = [compare(row, [other for other in rows if other != row]) for row in rows]
        worst = int(np.argmin([each.score for each in compared]))
        if compared[worst].score >= THRESHOLD:
            break
        found.append(compared[worst])
        del rows[worst]
    return found


def describe_mismatches(speaker: str, found: Sequence[Mismatch], *, is_added: bool) -> str:
    """Describe the mismatches of a speaker, the worst first, in a sentence.

    `is_added` means that the recordings were added to earlier ones.
    """
    first, n_others = found[0], len(found[0].others)
    score = f"(score {first.score:.2f}, threshold {THRESHOLD:.2f})"
    if n_others == 1 and not is_added:
        return (
            f"{speaker}: {first.path} and {first.others[0]} do not match {score}, so they may be of two people; to "
            f"correct it, enrol {speaker} again with --existing replace"
        )
    more = f"; {count_of(len(found) - 1, 'more recording')} may be too" if len(found) > 1 else ""
    others = count_of(n_others, f"{'earlier' if is_added else 'other'} recording")
    return (
        f"{speaker}: {first.path} does not match the {others} {score} and may be of another person{more}; to leave it "
        f"out, enrol {speaker} again with --existing replace"
    )


def _score(backend: Backend, calibration: Calibration, vectors: Tensor, *, seconds: Tensor) -> float:
    """Return the log-likelihood ratio of the last mapped recording (K,) against the model of those before (n, K)."""
    n_others = len(vectors) - 1
    model = backend.combine(vectors[:-1])[None]
    score = float(backend.score_speakers(vectors[-1:], model, torch.tensor([n_others])))
    conditions = Conditions(n_others, float(seconds[:-1].mean()), float(seconds[-1]))
    return float(calibration.llrs(score, conditions))
