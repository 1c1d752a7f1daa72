"""Split rows into training, validation and test, and find what the test set shares with the training set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from corpora import Corpus, Indices, Split, SplitBy, describe_left_out, divide, session_folds
from features import FeatureSet
from files import count_of
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


def find_leaks(features: FeatureSet, splits: Sequence[SplitRows], split_by: SplitBy) -> list[str]:
    """Describe the sessions and the audio that the test set shares with the training set, in sentences.

    Validation rows count as training rows, since they select the head.

    Parameters
    ----------
    features : FeatureSet
        Set with provenance of its audio; without it, copies of recordings cannot be found.
    splits : sequence of SplitRows
        One split for each seed.
    split_by : {"utterance", "session", "given"}
    """
    sessions = features.sessions.numpy()
    tested = [rows for rows in splits if len(rows.test)]
    leaks: list[str] = []
    if not has_sessions(features):
        leaks.append(
            "no speaker has a second session: part of the accuracy may be due to the recording, not the voice; if the "
            "names of files have sessions, extract with --pattern, such as '{speaker}_{session}_*'"
        )
        if split_by == "session":
            leaks.append("no speaker can be tested in a new session; split by utterance instead")
    if split_by == "given":
        leaks += describe_left_out(features.labels.numpy(), features.given_splits, names=features.speakers)
    shared = [np.isin(sessions[rows.test], sessions[_seen(rows)]).mean() for rows in tested]
    n_single, n_speakers = max(single_session_speakers(features, rows) for rows in splits), len(features.speakers)
    if n_single == n_speakers and split_by == "session" and has_sessions(features):
        leaks.append("split by session: no speaker has two sessions to train on, so known sessions select the head")
    elif n_single and has_sessions(features):
        leaks.append(
            f"split by session: {n_single} of {count_of(n_speakers, 'speaker')} have too few sessions to train on and "
            "could not take part in the selection of the head"
        )
    if has_sessions(features) and any(shared):
        speakers = " of other speakers" if split_by == "session" else ""
        leaks.append(
            f"split by {split_by}: {100 * np.mean(shared):.0f} % of test utterances are from sessions with training "
            f"utterances{speakers}"
        )
    if features.audio is None:
        return leaks
    of_test = sorted({row for rows in tested for row in _overlapping(features, rows.test, _seen(rows))})
    of_validation = sorted(
        {row for rows in splits for fold in rows.folds for row in _overlapping(features, fold.validation, fold.fit)}
    )
    for part, overlapping in (("test", of_test), ("validation", of_validation)):
        if overlapping:
            leaks.append(
                f"split by {split_by}: the audio of {count_of(len(overlapping), f'{part} utterance')} is in training "
                f"too, so the {part} figures are optimistic: {_first_ids(features, overlapping)}"
            )
    return leaks


def find_duplicates(features: FeatureSet) -> list[str]:
    """Describe recordings that are listed under several speakers, in a sentence."""
    if features.audio is None:
        return []
    spans = np.stack([features.audio.start.numpy(), np.nan_to_num(features.audio.duration.numpy(), nan=-1.0)], axis=1)
    contents = np.concatenate([features.audio.digest.numpy(), spans.view(np.uint8)], axis=1)
    numbers = np.unique(contents, axis=0, return_inverse=True)[1].reshape(-1).tolist()
    speaker_of: dict[int, int] = {}
    rows = []
    for row, (number, speaker) in enumerate(zip(numbers, features.labels.tolist(), strict=True)):
        if speaker_of.setdefault(number, speaker) != speaker:
            rows.append(row)
    if not rows:
        return []
    listing = _first_ids(features, rows)
    return [f"{count_of(len(rows), 'recording')} listed under a second speaker, so labels are wrong: {listing}"]


def _first_ids(features: FeatureSet, rows: Sequence[int]) -> str:
    """Name the first three of some rows."""
    return ", ".join(features.ids[row] for row in rows[:3]) + (", ..." if len(rows) > 3 else "")


def _seen(rows: SplitRows) -> Indices:
    """Return the rows of training and of validation."""
    return np.union1d(rows.train, rows.validation)


def _overlapping(features: FeatureSet, rows: Indices, others: Indices) -> list[int]:
    """Return the rows that share a part of their audio with the other rows."""
    audio = features.audio
    assert audio is not None
    digests = np.unique(audio.digest.numpy(), axis=0, return_inverse=True)[1].reshape(-1)
    rows = rows[np.isin(digests[rows], digests[others])]
    if not len(rows):
        return []
    starts, lengths = audio.start.numpy(), np.nan_to_num(audio.duration.numpy(), nan=np.inf)
    ends = starts + (lengths if audio.crop is None else np.minimum(lengths, audio.crop))
    others_of_file: dict[int, list[int]] = {}
    for row in others[np.isin(digests[others], digests[rows])].tolist():
        others_of_file.setdefault(int(digests[row]), []).append(row)
    overlapping = []
    for row in rows.tolist():
        same_file = np.array(others_of_file[int(digests[row])])
        if ((starts[same_file] < ends[row]) & (starts[row] < ends[same_file])).any():
            overlapping.append(row)
    return overlapping
