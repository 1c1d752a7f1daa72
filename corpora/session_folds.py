"""Assign utterances to the folds of a cross-validation over sessions."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corpora.given_splits import Indices


def session_folds(
    speakers: ArrayLike, sessions: ArrayLike, n_folds: int, *, seed: int
) -> tuple[Indices, NDArray[np.bool_]]:
    """Assign utterances to folds, which are held out in turn.

    A session is held out as a whole, and each speaker always has utterances in the other folds. The sessions of a
    speaker are spread over the folds, as far as sessions that speakers share allow it. A speaker with one session
    cannot be held out by session; its utterances are spread over the folds of the others instead.

    Parameters
    ----------
    speakers : array-like (n,)
        Speaker of each utterance.
    sessions : array-like (n,)
        Session of each utterance; speakers may share sessions.
    n_folds : int
        Maximum number of folds, at least 2.
    seed : int
        Random seed.

    Returns
    -------
    folds : ndarray (n,)
        int64, fold of each utterance; -1 for the only utterance of a speaker, which is never held out.
    by_session : ndarray (n,)
        bool, whether the utterance is held out with all of its speaker's utterances in its session.

    Examples
    --------
    >>> folds, by_session = session_folds(["ann", "ann", "bob", "bob"], [0, 1, 2, 2], 2, seed=0)
    >>> by_session.tolist()
    [True, True, False, False]
    >>> bool(folds[0] != folds[1] and folds[2] != folds[3])
    True
    """
    labels, numbers = (
        np.unique(np.asarray(names), return_inverse=True)[1].reshape(-1).astype(np.int64)
        for names in (speakers, sessions)
    )
    random = np.random.default_rng(seed)
    folds = np.full(len(labels), -1, np.int64)
    by_session = np.zeros(len(labels), bool)
    if not len(labels):
        return folds, by_session
    pairs = np.unique(np.stack([labels, numbers]), axis=1)
    has_several = np.bincount(pairs[0]) > 1
    rows_of_session = np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
    n_held = np.zeros((labels.max() + 1, n_folds), np.int64)  # sessions of each speaker in each fold
    n_rows = np.zeros(n_folds, np.int64)
    for session in random.permutation(len(rows_of_session)):
        rows = rows_of_session[session][has_several[labels[rows_of_session[session]]]]
        if not len(rows):
            continue
        own = np.unique(labels[rows])
        fold = np.lexsort((n_rows, n_held[own].sum(axis=0)))[0]
        folds[rows], by_session[rows] = fold, True
        n_held[own, fold] += 1
        n_rows[fold] += len(rows)
    # Speakers who share sessions with others may have all of theirs in one fold.
    is_alone = (n_held > 0).sum(axis=1) < 2
    by_session &= ~is_alone[labels]
    used = np.unique(folds[by_session]) if by_session.any() else np.arange(n_folds)
    for speaker in np.flatnonzero(is_alone):
        rows = random.permutation(np.flatnonzero(labels == speaker))
        first = random.integers(len(used))
        folds[rows] = used[(first + np.arange(len(rows))) % len(used)] if len(rows) > 1 else -1
    return folds, by_session
