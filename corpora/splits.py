"""Split utterances into training, validation and test sets."""

import logging
from collections.abc import Sequence
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from corpora.corpus import CorpusError
from corpora.given_splits import Indices, describe_left_out, divide_as_given
from files import count_of

logger = logging.getLogger(__name__)

SplitBy = Literal["utterance", "session", "given"]


def split(
    speakers: ArrayLike,
    sessions: ArrayLike | None = None,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    *,
    split_by: SplitBy = "utterance",
    seed: int = 0,
    given: Sequence[str | None] | None = None,
    names: Sequence[str] | None = None,
) -> tuple[Indices, Indices, Indices]:
    """Split utterances into training, validation and test sets, stratified by speaker, or as the corpus gives them.

    Every speaker in the validation or test set is also in the training set. A warning lists the speakers that are not
    in the test set.

    Parameters
    ----------
    speakers : array-like (n,)
        Speaker of each utterance.
    sessions : array-like (n,), optional
        Session of each utterance. Required for a split by session.
    fractions : three floats
        Shares of the training, validation and test sets; they sum to 1.
    split_by : {"utterance", "session", "given"}
        What is assigned to the sets, or that `given` assigns them.

        By utterance, scikit-learn's stratified `train_test_split` draws the test set, then the validation set. If a
        share is too small to draw one utterance of each speaker, a share of each speaker's utterances is drawn, at
        least one and never all.

        By session, all utterances of a speaker in a session are in the same set. A speaker with at least three
        sessions is in all sets, with two in the training and test sets, with one in the training set only. A session
        that several speakers share is kept in one set if possible; a warning counts the exceptions.

        As given, the fractions are not used. Utterances that have no split, or whose speaker is not in the training
        set, are in no set; a warning counts and names them.
    seed : int
        Random seed. The same seed gives the same split.
    given : sequence of str or None, optional
        The split of each utterance (n,): ``train``, ``validation`` or ``test``, or names that `read_split` reads; None
        or empty for an utterance in none. Required for the given split.
    names : sequence of str, optional
        Names of the speakers for the warning, if `speakers` are indices into them.

    Returns
    -------
    train, validation, test : int64 arrays
        Indices of the utterances in each set. Each utterance is in exactly one set, or in at most one of the given
        ones.

    Raises
    ------
    CorpusError
        The fractions are not valid, `split_by` is not known, the sessions or the given splits are missing, or no
        speaker of the given test split is in the given training split.

    Examples
    --------
    >>> speakers = ["ann"] * 4 + ["bob"] * 4
    >>> train, validation, test = split(speakers, fractions=(0.5, 0.25, 0.25))
    >>> sorted(speakers[row] for row in test)
    ['ann', 'bob']
    >>> len(train), len(validation), len(test)
    (4, 2, 2)
    """
    parts = divide(speakers, sessions, fractions, split_by=split_by, seed=seed, given=given)
    if split_by == "given" and given is not None:
        for sentence in describe_left_out(speakers, given, names=names):
            logger.warning("%s", sentence)
    elif fractions[2]:
        _warn_of_untested(speakers, parts[2], split_by=split_by, names=names)
    if split_by == "session" and sessions is not None:
        warn_of_shared_sessions(sessions, parts)
    return parts


def divide(
    speakers: ArrayLike,
    sessions: ArrayLike | None,
    fractions: Sequence[float],
    *,
    split_by: SplitBy,
    seed: int,
    given: Sequence[str | None] | None = None,
) -> tuple[Indices, Indices, Indices]:
    """Return what `split` returns, without warnings."""
    if not len(np.asarray(speakers)):
        empty = np.empty(0, np.int64)
        return empty, empty, empty
    if split_by == "given":
        return divide_as_given(speakers, given)
    labels: Indices = np.unique(np.asarray(speakers), return_inverse=True)[1].reshape(-1).astype(np.int64)
    train_share, validation_share, test_share = _check_fractions(fractions)
    if split_by == "session":
        if sessions is None or len(np.asarray(sessions)) != len(labels):
            raise CorpusError(
                "A split by session needs the session of each utterance; give them, or split by utterance."
            )
        session_numbers = np.unique(np.asarray(sessions), return_inverse=True)[1].reshape(-1).astype(np.int64)
        parts = _by_session(labels, session_numbers, validation_share, test_share=test_share, seed=seed)
    elif split_by == "utterance":
        rest, test = _draw(np.arange(len(labels)), labels, test_share, seed=seed)
        # A number, not a share: 0.1 / (0.8 + 0.1) of 63 is a little more than 7, which would be rounded up to 8.
        n_validation = ceil(validation_share / (train_share + validation_share) * len(rest) - 1e-6)
        train, validation = _draw(rest, labels, n_validation, seed=seed)
        parts = train, validation, test
    else:
        raise CorpusError(
            f"split_by is {split_by!r}; choose utterance or session, or given for the splits of the corpus."
        )
    return parts


def _warn_of_untested(speakers: ArrayLike, test: Indices, *, split_by: SplitBy, names: Sequence[str] | None) -> None:
    """List the speakers that are not in the test set."""
    known, labels = np.unique(np.asarray(speakers), return_inverse=True)
    untested = np.delete(known, labels.reshape(-1)[test]).tolist()
    if untested:
        logger.warning(
            "%d of %d speakers are not in the test set (too few %ss for these fractions): %s",
            len(untested), len(known), split_by,
            ", ".join(str(speaker) if names is None else names[speaker] for speaker in untested),
        )  # fmt: skip


def warn_of_shared_sessions(sessions: ArrayLike, parts: tuple[Indices, Indices, Indices]) -> None:
    """Log the number of sessions that are in more than one set."""
    train, validation, test = (set(np.asarray(sessions)[rows].tolist()) for rows in parts)
    n_shared = len((train & validation) | (train & test) | (validation & test))
    if n_shared:
        logger.warning(
            "Speakers share %s that could not be kept in one set, because these speakers do not all have the same "
            "sessions.",
            count_of(n_shared, "session"),
        )


def _check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    shares = tuple(float(share) for share in fractions)
    if len(shares) != 3 or not (shares[0] > 0 and min(shares) >= 0 and abs(sum(shares) - 1) <= 1e-6):
        text = " ".join(f"{share:g}" for share in shares)
        raise CorpusError(
            f"The fractions are {text}; give three for the training, validation and test sets that sum to 1."
        )
    return shares[0], shares[1], shares[2]


def _draw(rows: Indices, labels: Indices, size: float, *, seed: int) -> tuple[Indices, Indices]:
    """Draw a share (a float) or a number (an int) of the rows; return the rest and the drawn rows.

    The rest has at least one row of each speaker.
    """
    counts = np.bincount(labels[rows], minlength=labels.max() + 1)
    single = counts[labels[rows]] == 1
    kept, shared = rows[single], rows[~single]
    if size == 0 or not len(shared):
        return rows, np.empty(0, np.int64)
    n_speakers = len(np.unique(labels[shared]))
    n_drawn = ceil(size * len(shared)) if isinstance(size, float) else size
    if n_drawn >= n_speakers and len(shared) - n_drawn >= n_speakers:
        from sklearn.model_selection import train_test_split  # here, because it takes a second to import

        rest, drawn = train_test_split(shared, test_size=size, stratify=labels[shared], random_state=seed)
        if np.isin(labels[drawn], labels[rest]).all():
            return np.concatenate([rest, kept]), drawn
    return _draw_from_each(rows, labels, n_drawn / len(shared), seed=seed)


def _draw_from_each(rows: Indices, labels: Indices, share: float, *, seed: int) -> tuple[Indices, Indices]:
    """Draw a share of the rows of each speaker, at least one and never all; return the rest and the drawn rows."""
    random = np.random.default_rng(seed)
    drawn = np.zeros(len(rows), dtype=bool)
    for own in _groups(labels[rows]):
        shuffled = random.permutation(own)
        drawn[shuffled[: min(max(1, round(share * len(own))), len(own) - 1)]] = True
    return rows[~drawn], rows[drawn]


def _by_session(
    labels: Indices, sessions: Indices, validation_share: float, *, test_share: float, seed: int
) -> tuple[Indices, Indices, Indices]:
    """Assign whole sessions to the sets, in one random order for all speakers.

    Because of the common order, the speakers of a day or a meeting usually have it in the same set.
    """
    rank = np.random.default_rng(seed).permutation(sessions.max() + 1)[sessions]
    part = np.zeros(len(labels), dtype=np.int64)  # 0 training, 1 validation, 2 test
    for own in _groups(labels):
        order = np.unique(rank[own])
        kept = 2 if validation_share and len(order) > 2 else 1  # for the training and validation sets
        n_test = min(max(1, round(test_share * len(order))), len(order) - kept) if test_share else 0
        spare = len(order) - n_test - 1
        n_validation = min(max(1, round(validation_share * len(order))), spare) if validation_share else 0
        part[own[np.isin(rank[own], order[:n_test])]] = 2
        part[own[np.isin(rank[own], order[n_test : n_test + n_validation])]] = 1
    return np.flatnonzero(part == 0), np.flatnonzero(part == 1), np.flatnonzero(part == 2)


def _groups(labels: Indices) -> list[Indices]:
    """Return the positions of the utterances of each speaker."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
