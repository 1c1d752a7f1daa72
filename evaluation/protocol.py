"""Which utterances train, choose and test, and what a test could know of the training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from corpora.splits import divide
from features import FeatureSet
from heads import HeadError

Rows = NDArray[np.int64]
SplitBy = Literal["utterance", "session"]

# The share of train that chooses where the split has no validation part.
SELECTION_SHARE = 1 / 8


@dataclass(frozen=True, eq=False)
class Parts:
    """Rows of a set of features by what they are for.

    Attributes
    ----------
    fit, validation : ndarray of int64
        Those that heads are fitted on, and those that choose among heads and settings.
    train : ndarray of int64
        Those that the tested heads are fitted on: `fit`, or `fit` and `validation` where the split has no validation.
    test : ndarray of int64
    """

    fit: Rows
    validation: Rows
    train: Rows
    test: Rows

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of rows: ``train``, ``validation``, how many of these are in train (``shared``), and ``test``."""
        shared = len(self.train) - len(self.fit)
        return {"train": len(self.train), "validation": len(self.validation), "shared": shared, "test": len(self.test)}


def has_sessions(features: FeatureSet) -> bool:
    """Tell whether any speaker has a second session."""
    pairs = np.unique(np.stack([features.labels.numpy(), features.sessions.numpy()]), axis=1)
    return bool(np.bincount(pairs[0]).max() > 1)


def protocols(features: FeatureSet, split_by: SplitBy) -> tuple[SplitBy, ...]:
    """Return the splits to compare by: the one asked for and, where a speaker has several sessions, the other one."""
    if not has_sessions(features):
        return (split_by,)
    return (split_by, "session" if split_by == "utterance" else "utterance")


def make_parts(features: FeatureSet, split_by: SplitBy, fractions: Sequence[float], seed: int) -> Parts:
    """Split the rows of a set.

    Raises
    ------
    HeadError
        There are fewer than two speakers, or nothing is left to choose a head by.
    CorpusError
        The fractions make no sense.
    """
    labels, sessions = features.labels.numpy(), features.sessions.numpy()
    if len(np.unique(labels)) < 2:
        raise HeadError(
            f"All {len(features)} utterances are of one speaker ({features.speakers[labels[0]]}); two are the least to "
            "tell apart. Add another speaker's recordings."
        )
    train, validation, test = divide(labels, sessions, fractions, split_by, seed)
    if len(validation):
        return Parts(train, validation, train, test)
    shares = (1 - SELECTION_SHARE, SELECTION_SHARE, 0)
    inner, held_out, _ = divide(labels[train], sessions[train], shares, split_by, seed)
    if not len(held_out) and split_by == "session":
        inner, held_out, _ = divide(labels[train], None, shares, "utterance", seed)
    if not len(held_out):
        raise HeadError(
            "No speaker has an utterance to spare for choosing a head: each is left with one to train on. Add "
            "recordings, three of some speakers at least."
        )
    return Parts(train[inner], train[held_out], train, test)


def untested_speakers(features: FeatureSet, parts: Parts) -> tuple[str, ...]:
    """Name the speakers without a row in test."""
    labels = features.labels.numpy()
    missing = np.setdiff1d(labels, labels[parts.test])
    return tuple(features.speakers[label] for label in missing)


def leaks(features: FeatureSet, splits: Sequence[Parts], split_by: SplitBy) -> list[str]:
    """Say in a sentence each what a test could know of the training besides the voices.

    Sessions that stand on both sides of a split, and recordings whose audio does. Validation counts as training, since
    it chose the head.

    Parameters
    ----------
    features : FeatureSet
        One with provenance of its audio, or copies cannot be seen.
    splits : sequence of Parts
        One for each seed.
    split_by : {"utterance", "session"}
        What they were split by.
    """
    sessions = features.sessions.numpy()
    tested = [parts for parts in splits if len(parts.test)]
    found: list[str] = []
    if not has_sessions(features):
        found.append(
            "no speaker has a second session: what of the accuracy is the recording, not the voice, is not known"
        )
        if split_by == "session":
            found.append("by session nobody can be tested; split by utterance instead")
    shared = [np.isin(sessions[parts.test], sessions[_seen(parts)]).mean() for parts in tested]
    if has_sessions(features) and any(shared):
        whose = "that were trained on" if split_by == "utterance" else "that other speakers were trained on"
        found.append(f"by {split_by}, {100 * np.mean(shared):.0f} % of the test utterances are of sessions {whose}")
    if split_by == "session" and any(np.isin(sessions[part.validation], sessions[part.fit]).any() for part in splits):
        found.append("by session, known sessions choose the head: too few to hold some back for validation")
    if features.audio is None:
        return found
    copies = sorted({row for parts in tested for row in _overlapping(features, parts.test, _seen(parts))})
    chosen_by = sorted({row for parts in splits for row in _overlapping(features, parts.validation, parts.fit)})
    for rows, part, harm in ((copies, "test", "the figures"), (chosen_by, "validation", "the choice")):
        if rows:
            found.append(
                f"by {split_by}, {len(rows)} {part} utterances are in training too, which flatters {harm}: "
                f"{_first_ids(features, rows)}"
            )
    return found


def under_two_names(features: FeatureSet) -> list[str]:
    """Say which recordings are there as those of several speakers."""
    if features.audio is None:
        return []
    spans = np.stack([features.audio.start.numpy(), np.nan_to_num(features.audio.duration.numpy(), nan=-1.0)], axis=1)
    contents = np.concatenate([features.audio.digest.numpy(), spans.view(np.uint8)], axis=1)
    numbers = np.unique(contents, axis=0, return_inverse=True)[1].reshape(-1).tolist()
    first: dict[int, int] = {}
    speakers = features.labels.tolist()
    rows = [row for row, number in enumerate(numbers) if first.setdefault(number, speakers[row]) != speakers[row]]
    if not rows:
        return []
    return [f"{len(rows)} recordings stand under a second speaker, one of whom is wrong: {_first_ids(features, rows)}"]


def _first_ids(features: FeatureSet, rows: Sequence[int]) -> str:
    return ", ".join(features.ids[row] for row in rows[:3]) + (", ..." if len(rows) > 3 else "")


def _seen(parts: Parts) -> Rows:
    return np.union1d(parts.train, parts.validation)


def _overlapping(features: FeatureSet, rows: Rows, others: Rows) -> list[int]:
    """Return those of some rows whose span of a file is, in part at least, in others too."""
    audio = features.audio
    assert audio is not None
    digests = np.unique(audio.digest.numpy(), axis=0, return_inverse=True)[1].reshape(-1)
    rows = rows[np.isin(digests[rows], digests[others])]
    if not len(rows):
        return []
    starts, lengths = audio.start.numpy(), np.nan_to_num(audio.duration.numpy(), nan=np.inf)
    ends = starts + (lengths if audio.crop is None else np.minimum(lengths, audio.crop))
    of_file: dict[int, list[int]] = {}
    for row in others[np.isin(digests[others], digests[rows])].tolist():
        of_file.setdefault(int(digests[row]), []).append(row)
    found = []
    for row in rows.tolist():
        same = np.array(of_file[int(digests[row])])
        if ((starts[same] < ends[row]) & (starts[row] < ends[same])).any():
            found.append(row)
    return found
