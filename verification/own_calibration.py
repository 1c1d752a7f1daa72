"""The calibration of the scores in a store, adapted to the scores between its own speakers."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from files import count_of
from verification.calibration import Calibration, Conditions
from verification.store_file import damaged
from verification.store_rows import BACKGROUND, StoreRows
from verification.verifier import SpeakerVerifier

# Maximum number of speakers whose scores adapt the calibration.
MAX_SPEAKERS = 256


@dataclass(frozen=True)
class OwnCalibration:
    """Calibration of the scores in a store.

    Attributes
    ----------
    calibration : Calibration
        Calibration of the verifier, shifted.
    shift : float
        Amount by which scores are lowered before the calibration of the verifier is applied.
    n_speakers, n_background : int
        Number of enrolled speakers and of background recordings that it was adapted to.
    n_left_out : int
        Number of background recordings that match an enrolled speaker and are therefore left out.
    """

    calibration: Calibration
    shift: float
    n_speakers: int
    n_background: int
    n_left_out: int = 0

    def describe(self) -> str:
        """Describe in words what the calibration was adapted to."""
        if not self.n_speakers + self.n_background + self.n_left_out:
            return "that of the verifier"
        background = f" and {count_of(self.n_background, 'background recording')}" if self.n_background else ""
        left_out = f"; {self.n_left_out} more match an enrolled speaker and are left out" if self.n_left_out else ""
        speakers = count_of(self.n_speakers, "enrolled speaker")
        shift = f"scores shifted by {-self.shift:+.3f}"
        return f"that of the verifier, adapted to {speakers}{background} ({shift}){left_out}"


def own_calibration(rows: StoreRows, verifier: SpeakerVerifier) -> OwnCalibration:
    """Adapt the calibration of a verifier to the speakers and the background recordings of a store.

    The caller must have opened a transaction.

    Raises
    ------
    StoreError
        A stored vector is damaged.
    """
    calibration, own = verifier.calibration, verifier.self_calibration
    block = next(rows.models(MAX_SPEAKERS, order="name"), None)  # not the order of enrolment
    if own is None or block is None:
        return OwnCalibration(calibration, 0.0, n_speakers=0, n_background=0)
    speakers, seconds, vectors = rows.sample(torch.cat([torch.tensor([BACKGROUND]), block.numbers]))
    backend = verifier.backend
    scores = backend.score_speakers(backend.embed(vectors), block.models, block.counts)
    enrolled = block.conditions()
    llrs = calibration.llrs(scores, replace(enrolled, seconds=seconds.numpy()[:, None]))
    # Background recordings may be of enrolled speakers, whose scores would raise the calibration.
    is_background = (speakers == BACKGROUND) & torch.from_numpy((llrs < 0).all(axis=1))
    is_other = (speakers[:, None] != block.numbers) & (is_background | (speakers != BACKGROUND))[:, None]
    recording, model = is_other.nonzero(as_tuple=True)
    conditions = Conditions(
        np.asarray(enrolled.counts)[model], np.asarray(enrolled.enrolled_seconds)[model], seconds.numpy()[recording]
    )
    n_background = int(is_background.sum())
    n_speakers = len(block.numbers) if len(block.numbers) > 1 else 0
    shift = own.shift(scores[is_other].double().numpy(), conditions, n_speakers=n_speakers + n_background)
    if not math.isfinite(shift):
        raise damaged(rows.path, "a vector holds NaN or infinity")
    return OwnCalibration(
        calibration.shifted(shift),
        shift,
        n_speakers=n_speakers,
        n_background=n_background,
        n_left_out=int((speakers == BACKGROUND).sum()) - n_background,
    )
