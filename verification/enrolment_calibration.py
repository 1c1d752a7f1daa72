"""Calibrate, on held-out speakers, scores against enrolled speakers and the detection of unknown speakers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from corpora import Indices
from features import FeatureSet
from files import count_of
from verification.backends import Backend
from verification.calibration import Calibration, CalibrationError, Conditions
from verification.unknown_scores import UnknownScores

# Numbers of recordings to enrol each speaker with, and maximum number of enrolled speakers in a draw.
ENROLMENTS = (1, 2, 4, 8)
MAX_SPEAKERS = 512
# Number of draws for each pair of a number of recordings and a number of speakers; fewer if the speakers are many.
DRAWS = 10
# Maximum number of recordings that are scored in a draw.
PROBES = 500


@dataclass(frozen=True, eq=False)
class _Draw:
    """Scores of recordings against randomly chosen enrolled speakers.

    The recordings (probes) are of these speakers and of unknown speakers.

    Attributes
    ----------
    scores : ndarray (n_probes, n_speakers)
    is_target : ndarray (n_probes, n_speakers)
        bool; a row without a target is a recording of an unknown speaker.
    n_recordings : int
        Number of recordings that each speaker is enrolled with.
    """

    scores: NDArray[np.float32]
    is_target: NDArray[np.bool_]
    n_recordings: int


def calibrate(backend: Backend, features: FeatureSet, seed: int = 0) -> tuple[Calibration, Calibration, UnknownScores]:
    """Calibrate scores against enrolled speakers, and the highest score of a recording to detect unknown speakers.

    In each draw, random speakers (at most half) are enrolled, and the others are unknown speakers. Draws are made for
    several numbers of recordings per speaker, and for several numbers of enrolled speakers.

    Parameters
    ----------
    backend : Backend
        Backend that was trained on other speakers.
    features : FeatureSet
        Features (N, D) of the held-out speakers.
    seed : int
        Random seed of the draws.

    Returns
    -------
    (Calibration, Calibration, UnknownScores)
        The first maps the score against one speaker; its count is the number of recordings that the speaker is enrolled
        with. The second maps the highest log-likelihood ratio that the first gives to a recording; its count is the
        number of enrolled speakers, and its targets are the recordings of enrolled speakers. The third is the
        distribution of what the second gives to recordings of unknown speakers.

    Raises
    ------
    CalibrationError
        There are too few speakers, or none has two recordings.
    """
    check_speakers(features)
    draws = list(_draw(backend, features, seed))
    labels = np.concatenate([draw.is_target.reshape(-1) for draw in draws])
    scores = np.concatenate([draw.scores.reshape(-1) for draw in draws])
    counts = np.concatenate([np.full(draw.scores.size, draw.n_recordings) for draw in draws])
    n_held_out = len(np.unique(features.labels.numpy()))
    calibration = Calibration.fit(labels, scores, Conditions(counts), n_distinct=len(features) * n_held_out)
    is_known = np.concatenate([draw.is_target.any(axis=1) for draw in draws])
    best = np.concatenate([calibration.llrs(draw.scores.max(axis=1), Conditions(draw.n_recordings)) for draw in draws])
    n_speakers = np.concatenate([np.full(len(draw.scores), draw.scores.shape[1]) for draw in draws])
    open_set = Calibration.fit(is_known, best, Conditions(n_speakers), n_distinct=len(features))
    of_unknown = open_set.llrs(best, Conditions(n_speakers))[~is_known]
    return calibration, open_set, UnknownScores.measure(of_unknown, n_speakers[~is_known], len(features))


def check_speakers(features: FeatureSet) -> None:
    """Raise an error if a backend cannot be calibrated on these speakers, before it is trained.

    Raises
    ------
    CalibrationError
        There are too few speakers, or none has two recordings.
    """
    counts = np.unique(features.labels.numpy(), return_counts=True)[1]
    if len(counts) < 2 or counts.max() < 2:
        raise CalibrationError(
            "Calibration needs at least 2 speakers, one of them with 2 recordings, that the backend was not trained "
            f"on; found {count_of(len(counts), 'speaker')} with at most {count_of(int(counts.max()), 'recording')}. "
            "Add speakers or recordings."
        )


def max_speakers(n_held_out: int) -> int:
    """Return the maximum number of enrolled speakers for which a calibration on `n_held_out` speakers is valid."""
    return max(1, min(n_held_out // 2, MAX_SPEAKERS))


def _draw(backend: Backend, features: FeatureSet, seed: int) -> Iterator[_Draw]:
    """Enrol random speakers with random recordings, and score other recordings against them.

    A speaker with several sessions is enrolled from one session and tested on the others.
    """
    random = np.random.default_rng(seed)
    mapped, labels = backend.embed(features.features.float()), features.labels.numpy()
    speakers = [_rows_by_session(features, speaker) for speaker in np.unique(labels)]
    for n_recordings in ENROLMENTS:
        eligible = [number for number, sessions in enumerate(speakers) if _enrolment_sessions(sessions, n_recordings)]
        for count in _speaker_counts(min(max_speakers(len(speakers)), len(eligible))):
            for _ in range(max(1, min(DRAWS, 8 * DRAWS // count))):
                known = [speakers[number] for number in random.permutation(eligible)[:count].tolist()]
                enrolled, excluded = zip(*(_enrol(sessions, n_recordings, random) for sessions in known), strict=True)
                probes = random.permutation(np.setdiff1d(np.arange(len(labels)), np.concatenate(excluded)))[:PROBES]
                models = torch.stack([backend.combine(mapped[rows]) for rows in enrolled])
                scores = backend.score_speakers(mapped[probes], models, torch.full((count,), n_recordings))
                enrolled_labels = np.array([labels[rows[0]] for rows in enrolled])
                yield _Draw(scores.numpy(), labels[probes][:, None] == enrolled_labels, n_recordings)


def _speaker_counts(maximum: int) -> list[int]:
    """Return the powers of two up to a maximum, and the maximum itself; return an empty list if the maximum is 0."""
    if not maximum:
        return []
    return sorted({2**power for power in range(maximum.bit_length())} | {maximum})


def _rows_by_session(features: FeatureSet, speaker: int) -> list[Indices]:
    """Return the rows of each session of a speaker."""
    rows = np.flatnonzero(features.labels.numpy() == speaker)
    sessions = features.sessions.numpy()[rows]
    return [rows[sessions == session] for session in np.unique(sessions)]


def _enrolment_sessions(sessions: list[Indices], count: int) -> list[Indices]:
    """Return the sessions that have enough rows to enrol a speaker.

    If the speaker has only one session, it must have one more row, which is left for the test.
    """
    n_needed = count + 1 if len(sessions) == 1 else count
    return [rows for rows in sessions if len(rows) >= n_needed]


def _enrol(sessions: list[Indices], count: int, random: np.random.Generator) -> tuple[Indices, Indices]:
    """Return random rows to enrol a speaker with, and the rows to exclude from the test.

    The excluded rows are all rows of the session or, if it is the only one, the enrolled rows.
    """
    choices = _enrolment_sessions(sessions, count)
    session = choices[int(random.integers(len(choices)))]
    enrolled = random.permutation(session)[:count]
    return enrolled, enrolled if len(sessions) == 1 else session
