"""How sure one can be of an enrolled speaker, and of having met a stranger: calibration by held-out speakers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from features import FeatureSet
from verification.backends import Backend
from verification.calibration import Calibration, CalibrationError

# Recordings of which speakers are enrolled, numbers of speakers, and how often each is drawn.
ENROLMENTS = (1, 2, 4, 8)
MOST_SPEAKERS = 64
DRAWS = 10
# Recordings that are scored in one draw.
PROBES = 500


@dataclass(frozen=True, eq=False)
class Draw:
    """Some speakers are enrolled, and recordings of these and of others are scored.

    Attributes
    ----------
    scores : ndarray (n_probes, n_speakers)
    is_target : ndarray (n_probes, n_speakers)
        bool; a row without any is a stranger's.
    n_recordings : int
        Of which each speaker was enrolled.
    """

    scores: NDArray[np.float32]
    is_target: NDArray[np.bool_]
    n_recordings: int


def calibrate(backend: Backend, features: FeatureSet, seed: int = 0) -> tuple[Calibration, Calibration]:
    """Learn what scores of enrolled speakers mean, and what the best score of many says of a stranger.

    Half of the speakers or fewer are enrolled at random, the others being strangers, again and again: so often for each
    number of recordings and of speakers.

    Parameters
    ----------
    backend : Backend
        Trained on other speakers.
    features : FeatureSet
        (N, D).
    seed : int
        Of the draws.

    Returns
    -------
    (Calibration, Calibration)
        The first maps the score of one speaker, enrolled by so many recordings; the second the highest of these ratios
        over so many speakers, the targets being recordings of those who are enrolled.

    Raises
    ------
    CalibrationError
        There are too few speakers, or none with two recordings.
    """
    draws = list(_draw(backend, features, seed))
    if not draws:
        raise CalibrationError(
            "Calibration takes two speakers at least, one of them with two recordings, whom the backend was not "
            "trained on. Add speakers or recordings."
        )
    labels, scores = (
        np.concatenate([getattr(draw, name).reshape(-1) for draw in draws]) for name in ("is_target", "scores")
    )
    counts = np.concatenate([np.full(draw.scores.size, draw.n_recordings) for draw in draws])
    calibration = Calibration.fit(labels, scores, counts)
    best = [calibration.llrs(draw.scores.max(axis=1), draw.n_recordings) for draw in draws]
    known = [draw.is_target.any(axis=1) for draw in draws]
    n_speakers = np.concatenate([np.full(len(draw.scores), draw.scores.shape[1]) for draw in draws])
    return calibration, Calibration.fit(np.concatenate(known), np.concatenate(best), n_speakers)


def _draw(backend: Backend, features: FeatureSet, seed: int) -> Iterator[Draw]:
    """Enrol random speakers of a set by random recordings, and score others."""
    random = np.random.default_rng(seed)
    mapped, labels = backend.embed(features.features.float()), features.labels.numpy()
    speakers, sizes = np.unique(labels, return_counts=True)
    n_known = [count for count in 2 ** np.arange(20) if count <= min(len(speakers) // 2, MOST_SPEAKERS)]
    for n_recordings in ENROLMENTS:
        able = speakers[sizes > n_recordings]
        for count in (count for count in n_known if count <= len(able)):
            for _ in range(DRAWS):
                known = random.permutation(able)[:count]
                enrolled = [random.permutation(np.flatnonzero(labels == speaker))[:n_recordings] for speaker in known]
                probes = np.setdiff1d(np.arange(len(labels)), np.concatenate(enrolled))
                probes = random.permutation(probes)[:PROBES]
                models = torch.stack([backend.combine(mapped[rows]) for rows in enrolled])
                scores = backend.score_speakers(mapped[probes], models, torch.full((count,), n_recordings))
                yield Draw(scores.numpy(), labels[probes][:, None] == known, n_recordings)
