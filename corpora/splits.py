"""Split utterances into train, validation and test."""

import logging
from collections.abc import Sequence
from typing import Any, Literal

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
        Session of each utterance, a name within its speaker's. Needed to split by session.
    fractions : three floats
        Shares of train, validation and test; they sum to one.
    split_by : {"utterance", "session"}
        By utterance, scikit-learn's stratified `train_test_split` takes the test rows off, then the validation rows;
        where a fraction is too small for it to give each speaker one, each speaker with utterances to spare gives one.
        By session, all utterances of a session stay together: a speaker with three sessions or more is in all parts,
        with two in train and test, with one in train only.
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
    known, numbers = np.unique(np.asarray(speakers), return_inverse=True)
    who: Indices = numbers.reshape(-1).astype(np.int64)
    train_share, validation_share, test_share = _check_fractions(fractions)
    if split_by == "session":
        if sessions is None:
            raise CorpusError("A split by session needs the sessions of the utterances; split by utterance instead.")
        parts = _by_session(who, np.asarray(sessions), validation_share, test_share, seed)
    elif split_by == "utterance":
        rest, test = _take(np.arange(len(who)), who, test_share, seed)
        train, validation = _take(rest, who, validation_share / (train_share + validation_share), seed)
        parts = train, validation, test
    else:
        raise CorpusError(f"split_by is {split_by!r}; choose utterance or session.")
    if test_share:
        untested = [
            speaker if names is None else names[speaker] for speaker in np.delete(known, who[parts[2]]).tolist()
        ]
        if untested:
            logger.warning(
                "%d of %d speakers are not tested, for want of a second %s: %s",
                len(untested), len(known), split_by, ", ".join(map(str, untested)),
            )  # fmt: skip
    return parts


def _check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    shares = tuple(float(share) for share in fractions)
    if len(shares) != 3 or min(shares) < 0 or shares[0] == 0 or abs(sum(shares) - 1) > 1e-6:
        text = " ".join(f"{share:g}" for share in shares)
        raise CorpusError(f"The fractions are {text}; give three for train, validation and test that sum to 1.")
    return shares[0], shares[1], shares[2]


def _take(rows: Indices, who: Indices, share: float, seed: int) -> tuple[Indices, Indices]:
    """Take a share of the rows off; no speaker loses the last one."""
    nothing = np.empty(0, np.int64)
    if share == 0:
        return rows, nothing
    counts = np.bincount(who[rows], minlength=who.max() + 1)
    single = counts[who[rows]] == 1
    kept, shared = rows[single], rows[~single]
    if not len(shared):
        return rows, nothing
    n_speakers, n_taken = len(np.unique(who[shared])), int(np.ceil(share * len(shared)))
    if n_taken >= n_speakers and len(shared) - n_taken >= n_speakers:
        rest, taken = train_test_split(shared, test_size=share, stratify=who[shared], random_state=seed)
        if np.isin(who[taken], who[rest]).all():
            return np.concatenate([rest, kept]), taken
    return _take_at_least_one(rows, who, share, seed)


def _take_at_least_one(rows: Indices, who: Indices, share: float, seed: int) -> tuple[Indices, Indices]:
    """Take from each speaker a share of the rows, at least one and never all."""
    random = np.random.default_rng(seed)
    taken = np.zeros(len(rows), dtype=bool)
    for speaker in np.unique(who[rows]):
        own = random.permutation(np.flatnonzero(who[rows] == speaker))
        taken[own[: min(max(1, round(share * len(own))), len(own) - 1)]] = True
    return rows[~taken], rows[taken]


def _by_session(
    who: Indices, sessions: NDArray[Any], validation_share: float, test_share: float, seed: int
) -> tuple[Indices, Indices, Indices]:
    random = np.random.default_rng(seed)
    part = np.zeros(len(who), dtype=np.int64)  # 0 train, 1 validation, 2 test
    for speaker in range(who.max() + 1 if len(who) else 0):
        own = np.flatnonzero(who == speaker)
        order = random.permutation(np.unique(sessions[own]))
        n_test = min(max(1, round(test_share * len(order))), len(order) - 1) if test_share else 0
        spare = len(order) - n_test - 1  # train keeps one
        n_validation = min(max(1, round(validation_share * len(order))), spare) if validation_share else 0
        part[own[np.isin(sessions[own], order[:n_test])]] = 2
        part[own[np.isin(sessions[own], order[n_test : n_test + n_validation])]] = 1
    return np.flatnonzero(part == 0), np.flatnonzero(part == 1), np.flatnonzero(part == 2)
