"""Split rows into training, validation and test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from corpora import Corpus, Indices, Split, SplitBy, divide, session_folds
from features import FeatureSet
from heads import HeadError

# Share of the training part that is used for validation if the split has no validation part.
SELECTION_SHARE = 1 / 8
# Number of folds of the cross-validation over sessions: each session is held out once, several at a time if a speaker
# has more sessions than folds.
SESSION_FOLDS = 4


class Fold(NamedTuple):
    """Rows that heads are fitted on, and rows that validate them (int64)."""

    fit: Indices
    validation: Indices


@dataclass(frozen=True, eq=False, kw_only=True)
class SplitRows:
    """Rows of a set of features for training, validation and test.

    Attributes
    ----------
    folds : sequence of Fold
        Parts of the training and validation rows: one fold, or several for a cross-validation over sessions.
    train : ndarray of int64
        Rows that the tested heads are fitted on.
    test : ndarray of int64
    groups : ndarray (n_validation,) or None
        With a cross-validation over sessions, the number of the speaker's session of each validation row; -1 for rows
        of speakers with one training session, which are validated by utterance.
    """

    folds: Sequence[Fold]
    train: Indices
    test: Indices
    groups: Indices | None = None

    @property
    def validation(self) -> Indices:
        """Rows that select the head and its settings, those of all folds (n_validation,)."""
        return np.concatenate([fold.validation for fold in self.folds])

    def held_out(self, number: int) -> Indices:
        """Return the validation rows of a fold, with a cross-validation over sessions those held out by session.

        If no row is held out by session, all validation rows of the fold are returned.
        """
        fold = self.folds[number].validation
        if self.groups is None or not (self.groups >= 0).any():
            return fold
        first = sum(len(each.validation) for each in self.folds[:number])
        return fold[self.groups[first : first + len(fold)] >= 0]

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of rows in ``train``, ``validation`` and ``test``, of validation rows in train, and of folds.

        With a cross-validation over sessions, also of the rows that are held out by session.
        """
        sizes = {
            "train": len(self.train),
            "validation": len(self.validation),
            "shared": len(np.intersect1d(self.train, self.validation)),
            "test": len(self.test),
            "folds": len(self.folds),
        }
        return sizes if self.groups is None else {**sizes, "by_session": int((self.groups >= 0).sum())}


def has_sessions(features: FeatureSet) -> bool:
    """Return whether a speaker has more than one session."""
    pairs = np.unique(np.stack([features.labels.numpy(), features.sessions.numpy()]), axis=1)
    return bool(np.bincount(pairs[0]).max() > 1)


def protocols(features: FeatureSet, split_by: SplitBy) -> tuple[SplitBy, ...]:
    """Return the kind of split and, if a speaker has several sessions, the other one of utterance and session."""
    if split_by == "given" or not has_sessions(features):
        return (split_by,)
    return (split_by, "session" if split_by == "utterance" else "utterance")


def split_rows(features: FeatureSet, split_by: SplitBy, fractions: Sequence[float], *, seed: int) -> SplitRows:
    """Split the rows of a set of features.

    As given, rows without a split, and those of speakers who are not in the training split, are in no part. By session,
    the rows that are not tested are all training rows, and a cross-validation over their sessions selects.

    Raises
    ------
    HeadError
        There are fewer than two speakers, or too few utterances for validation.
    CorpusError
        The fractions are not valid, or the given splits are missing or share no speaker.
    """
    labels, sessions = features.labels.numpy(), features.sessions.numpy()
    if len(np.unique(labels)) < 2:
        raise _one_speaker(len(labels), features.speakers[labels[0]])
    if split_by == "given" and features.splits is None:
        raise HeadError(
            "The features hold no splits that the corpus gives; those of earlier versions never do. Give the corpus "
            "too, to add its splits, or use --split_by utterance or session."
        )
    return _divide(labels, sessions, split_by, fractions=fractions, seed=seed, given=features.given_splits)


def check_split(corpus: Corpus, split_by: SplitBy, fractions: Sequence[float], *, seed: int) -> None:
    """Refuse a corpus that `split_rows` would refuse, before its embeddings are extracted.

    Raises
    ------
    HeadError, CorpusError
        As in `split_rows`.
    """
    if len(corpus.speakers) < 2:
        raise _one_speaker(len(corpus), corpus.speakers[0])
    numbers = {speaker: number for number, speaker in enumerate(corpus.speakers)}
    labels = np.array([numbers[utterance.speaker] for utterance in corpus])
    names = sorted({utterance.session for utterance in corpus})
    numbers = {session: number for number, session in enumerate(names)}
    sessions = np.array([numbers[utterance.session] for utterance in corpus])
    given = [utterance.split for utterance in corpus]
    _divide(labels, sessions, split_by, fractions=fractions, seed=seed, given=given)


def _one_speaker(n_utterances: int, speaker: str) -> HeadError:
    return HeadError(
        f"All {n_utterances} utterances are of one speaker ({speaker}); at least two are needed. Add recordings of "
        "another speaker."
    )


def _divide(
    labels: Indices,
    sessions: Indices,
    split_by: SplitBy,
    *,
    fractions: Sequence[float],
    seed: int,
    given: Sequence[Split | None],
) -> SplitRows:
    train, validation, test = divide(labels, sessions, fractions, split_by=split_by, seed=seed, given=given)
    if len(np.unique(labels[train])) < 2:
        raise HeadError("The given training split has one speaker; at least two are needed.")
    if split_by == "session":
        folds, groups = _session_folds(labels, sessions, np.union1d(train, validation), seed=seed)
        train = np.union1d(train, validation)
    elif len(validation):
        folds, groups = [Fold(train, validation)], None
    else:
        shares = (1 - SELECTION_SHARE, SELECTION_SHARE, 0)
        inner, held_out, _ = divide(labels[train], None, shares, split_by="utterance", seed=seed)
        folds, groups = [Fold(train[inner], train[held_out])] if len(held_out) else [], None
    if not folds:
        raise HeadError(
            "No speaker has an utterance to spare for validation: each has one left to train on. Add recordings, at "
            "least three of some speakers."
        )
    return SplitRows(folds=folds, train=train, test=test, groups=groups)


def _session_folds(labels: Indices, sessions: Indices, train: Indices, *, seed: int) -> tuple[list[Fold], Indices]:
    """Return the folds of a cross-validation over the sessions of rows, and the groups of the validation rows."""
    labels, sessions = labels[train], sessions[train]
    numbers, by_session = session_folds(labels, sessions, SESSION_FOLDS, seed=seed)
    groups = np.unique(np.stack([labels, sessions]), axis=1, return_inverse=True)[1].reshape(-1)
    groups = np.where(by_session, groups, -1)
    held_out = [np.flatnonzero(numbers == number) for number in range(SESSION_FOLDS)]
    held_out = [positions for positions in held_out if len(positions)]
    folds = [Fold(np.delete(train, positions), train[positions]) for positions in held_out]
    return folds, groups[np.concatenate(held_out)] if held_out else groups[:0]


def untested_speakers(features: FeatureSet, rows: SplitRows) -> tuple[str, ...]:
    """Return the names of the speakers without a test row."""
    labels = features.labels.numpy()
    missing = np.setdiff1d(labels, labels[rows.test])
    return tuple(features.speakers[label] for label in missing)


def single_session_speakers(features: FeatureSet, rows: SplitRows) -> int:
    """Count the speakers with one training session, who cannot take part in a cross-validation over sessions."""
    if rows.groups is None:
        return 0
    labels = features.labels.numpy()
    return len(np.setdiff1d(labels[rows.train], labels[rows.validation[rows.groups >= 0]]))
