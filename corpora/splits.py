"""Split utterances into train, validation and test."""

import logging
from collections.abc import Sequence
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import train_test_split

from corpora.corpus import CorpusError

logger = logging.getLogger(__name__)

Indices = NDArray[np.int64]


def split(
    speakers: ArrayLike,
    sessions: ArrayLike | None = None,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    split_by: Literal["utterance", "session"] = "utterance",
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> tuple[Indices, Indices, Indices]:
    """Split utterances into train, validation and test, stratified by speaker.

    Every speaker in validation and in test is in train. Whoever cannot be tested is named in a warning.

    Parameters
    ----------
    speakers : array-like (n,)
        Speaker of each utterance.
    sessions : array-like (n,), optional
        Session of each utterance. Needed to split by session.
    fractions : three floats
        Shares of train, validation and test; they sum to one.
    split_by : {"utterance", "session"}
        By utterance, scikit-learn's stratified `train_test_split` takes the test rows off, then the validation rows;
        where a fraction is too small for it to give each speaker one, each speaker with utterances to spare gives one.
        By session, all that a speaker says in a session stays together: a speaker with three sessions or more is in all
        parts, with two in train and test, with one in train only. A session that speakers share goes to one part as
        far as they can spare it; a warning counts those that do not.
    seed : int
        The same seed gives the same split.
    names : sequence of str, optional
        Names of the speakers where `speakers` are numbers into it; for the warning alone.

    Returns
    -------
    tuple of three int64 arrays
        Indices of the train, validation and test utterances; together each index once.

    Raises
    ------
    CorpusError
        The fractions do not make sense, or the sessions are missing.
    """
    parts = divide(speakers, sessions, fractions, split_by, seed)
    known, who = np.unique(np.asarray(speakers), return_inverse=True)
    if fractions[2] and len(known):
        untested = [
            speaker if names is None else names[speaker]
            for speaker in np.delete(known, who.reshape(-1)[parts[2]]).tolist()
        ]
        if untested:
            logger.warning(
                "%d of %d speakers are not tested, having too few %ss for these fractions: %s",
                len(untested), len(known), split_by, ", ".join(map(str, untested)),
            )  # fmt: skip
    if split_by == "session" and sessions is not None:
        homes = [set(np.asarray(sessions)[rows].tolist()) for rows in parts]
        n_shared = len((homes[0] & homes[1]) | (homes[0] & homes[2]) | (homes[1] & homes[2]))
        if n_shared:
            logger.warning(
                "%d sessions that speakers share stand in several parts: not every speaker can spare what others can.",
                n_shared,
            )
    return parts


def divide(
    speakers: ArrayLike,
    sessions: ArrayLike | None,
    fractions: Sequence[float],
    split_by: Literal["utterance", "session"],
    seed: int,
) -> tuple[Indices, Indices, Indices]:
    """Do what `split` does, without a word of those who are not tested."""
    if not len(np.asarray(speakers)):
        nothing = np.empty(0, np.int64)
        return nothing, nothing, nothing
    who: Indices = np.unique(np.asarray(speakers), return_inverse=True)[1].reshape(-1).astype(np.int64)
    train_share, validation_share, test_share = _check_fractions(fractions)
    if split_by == "session":
        if sessions is None or len(np.asarray(sessions)) != len(who):
            raise CorpusError("A split by session needs the sessions of all utterances; split by utterance instead.")
        session_numbers = np.unique(np.asarray(sessions), return_inverse=True)[1].reshape(-1).astype(np.int64)
        parts = _by_session(who, session_numbers, validation_share, test_share, seed)
    elif split_by == "utterance":
        rest, test = _take(np.arange(len(who)), who, test_share, seed)
        # A number, not a share of the rest: 0.1 / (0.8 + 0.1) of 63 is a little more than 7, and would be rounded up.
        n_validation = ceil(validation_share / (train_share + validation_share) * len(rest) - 1e-6)
        train, validation = _take(rest, who, n_validation, seed)
        parts = train, validation, test
    else:
        raise CorpusError(f"split_by is {split_by!r}; choose utterance or session.")
    return parts


def _check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    shares = tuple(float(share) for share in fractions)
    if len(shares) != 3 or not (shares[0] > 0 and min(shares) >= 0 and abs(sum(shares) - 1) <= 1e-6):
        text = " ".join(f"{share:g}" for share in shares)
        raise CorpusError(f"The fractions are {text}; give three for train, validation and test that sum to 1.")
    return shares[0], shares[1], shares[2]


def _take(rows: Indices, who: Indices, size: float, seed: int) -> tuple[Indices, Indices]:
    """Take a share (a float) or a number of the rows off; no speaker loses the last one."""
    counts = np.bincount(who[rows], minlength=who.max() + 1)
    single = counts[who[rows]] == 1
    kept, shared = rows[single], rows[~single]
    if size == 0 or not len(shared):
        return rows, np.empty(0, np.int64)
    n_speakers = len(np.unique(who[shared]))
    n_taken = ceil(size * len(shared)) if isinstance(size, float) else size
    if n_taken >= n_speakers and len(shared) - n_taken >= n_speakers:
        rest, taken = train_test_split(shared, test_size=size, stratify=who[shared], random_state=seed)
        if np.isin(who[taken], who[rest]).all():
            return np.concatenate([rest, kept]), taken
    return _take_at_least_one(rows, who, n_taken / len(shared), seed)


def _take_at_least_one(rows: Indices, who: Indices, share: float, seed: int) -> tuple[Indices, Indices]:
    """Take from each speaker a share of the rows, at least one and never all."""
    random = np.random.default_rng(seed)
    taken = np.zeros(len(rows), dtype=bool)
    for own in _groups(who[rows]):
        shuffled = random.permutation(own)
        taken[shuffled[: min(max(1, round(share * len(own))), len(own) - 1)]] = True
    return rows[~taken], rows[taken]


def _by_session(
    who: Indices, sessions: Indices, validation_share: float, test_share: float, seed: int
) -> tuple[Indices, Indices, Indices]:
    """Give whole sessions to the parts, in one random order for all speakers.

    Thus a day or a meeting that several speakers share goes to one part, where each of them can spare it.
    """
    rank = np.random.default_rng(seed).permutation(sessions.max() + 1)[sessions]
    part = np.zeros(len(who), dtype=np.int64)  # 0 train, 1 validation, 2 test
    for own in _groups(who):
        order = np.unique(rank[own])
        kept = 2 if validation_share and len(order) > 2 else 1  # for train, and for validation where there are three
        n_test = min(max(1, round(test_share * len(order))), len(order) - kept) if test_share else 0
        spare = len(order) - n_test - 1
        n_validation = min(max(1, round(validation_share * len(order))), spare) if validation_share else 0
        part[own[np.isin(rank[own], order[:n_test])]] = 2
        part[own[np.isin(rank[own], order[n_test : n_test + n_validation])]] = 1
    return np.flatnonzero(part == 0), np.flatnonzero(part == 1), np.flatnonzero(part == 2)


def _groups(who: Indices) -> list[Indices]:
    """Return the positions of each speaker's utterances."""
    order = np.argsort(who, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(who[order])) + 1)
