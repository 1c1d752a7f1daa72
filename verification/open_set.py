"""How sure one can be of an enrolled speaker, and of having met a stranger: calibration by held-out speakers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from features import FeatureSet
from verification.backends import Backend
from verification.calibration import Calibration, CalibrationError

Rows = NDArray[np.int64]

# Recordings of which speakers are enrolled, most speakers, and how often speakers are drawn (many less often).
ENROLMENTS = (1, 2, 4, 8)
MOST_SPEAKERS = 512
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
    n_held_out = len(np.unique(features.labels.numpy()))
    calibration = Calibration.fit(labels, scores, counts, len(features) * n_held_out)
    best = [calibration.llrs(draw.scores.max(axis=1), draw.n_recordings) for draw in draws]
    known = [draw.is_target.any(axis=1) for draw in draws]
    n_speakers = np.concatenate([np.full(len(draw.scores), draw.scores.shape[1]) for draw in draws])
    return calibration, Calibration.fit(np.concatenate(known), np.concatenate(best), n_speakers, len(features))


def most_speakers(n_held_out: int) -> int:
    """Return the largest number of enrolled speakers that so many held-out ones calibrate for."""
    return max(1, min(n_held_out // 2, MOST_SPEAKERS))


def _draw(backend: Backend, features: FeatureSet, seed: int) -> Iterator[Draw]:
    """Enrol random speakers of a set by random recordings, and score others.

    A speaker with several sessions is enrolled by one of them, and heard in the others.
    """
    random = np.random.default_rng(seed)
    mapped, labels = backend.embed(features.features.float()), features.labels.numpy()
    rows_of = [_by_session(features, speaker) for speaker in np.unique(labels)]
    for n_recordings in ENROLMENTS if len(rows_of) > 1 else ():
        able = [number for number, sessions in enumerate(rows_of) if _choices(sessions, n_recordings)]
        most = min(most_speakers(len(rows_of)), len(able))
        for count in sorted({2**power for power in range(most.bit_length())} | {most} if most else set()):
            for _ in range(max(1, min(DRAWS, 8 * DRAWS // count))):
                known = [rows_of[number] for number in random.permutation(able)[:count].tolist()]
                enrolled, heard = zip(*(_enrol(sessions, n_recordings, random) for sessions in known), strict=True)
                probes = random.permutation(np.setdiff1d(np.arange(len(labels)), np.concatenate(heard)))[:PROBES]
                models = torch.stack([backend.combine(mapped[rows]) for rows in enrolled])
                scores = backend.score_speakers(mapped[probes], models, torch.full((count,), n_recordings))
                names = np.array([labels[rows[0]] for rows in enrolled])
                yield Draw(scores.numpy(), labels[probes][:, None] == names, n_recordings)


def _by_session(features: FeatureSet, speaker: int) -> list[Rows]:
    """Return the rows of each session of a speaker."""
    rows = np.flatnonzero(features.labels.numpy() == speaker)
    sessions = features.sessions.numpy()[rows]
    return [rows[sessions == session] for session in np.unique(sessions)]


def _choices(sessions: list[Rows], count: int) -> list[Rows]:
    """Return the sessions by which a speaker can be enrolled, so that recordings are left to be heard."""
    return [rows for rows in sessions if len(rows) >= count + (len(sessions) == 1)]


def _enrol(sessions: list[Rows], count: int, random: np.random.Generator) -> tuple[Rows, Rows]:
    """Return random rows by which a speaker is enrolled, and those that are therefore not heard."""
    choices = _choices(sessions, count)
    session = choices[int(random.integers(len(choices)))]
    enrolled = random.permutation(session)[:count]
    return enrolled, enrolled if len(sessions) == 1 else session
