"""Which utterances train, choose and test, and what a test could know of the training."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from corpora.splits import divide
from features import FeatureSet
from features.provenance import content_keys
from heads import HeadError

logger = logging.getLogger(__name__)

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
        """Numbers of rows: ``train``, ``validation`` (0 where a part of train chooses) and ``test``."""
        n_validation = 0 if len(self.train) > len(self.fit) else len(self.validation)
        return {"train": len(self.train), "validation": n_validation, "test": len(self.test)}


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
    logger.debug("One eighth of train chooses, then each head is fitted on all of train.")
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


def leaks(features: FeatureSet, parts: Parts, split_by: SplitBy) -> list[str]:
    """Say in a sentence each what a test could know of the training besides the voices.

    Sessions that stand on both sides of the split, and recordings whose content does. Where a head is fitted for the
    test, it is fitted on train alone; validation counts with it since it chose the head.
    """
    seen = np.union1d(parts.train, parts.validation)
    found: list[str] = []
    if not len(parts.test):
        return found
    sessions = features.sessions.numpy()
    shared = np.isin(sessions[parts.test], sessions[seen]).mean()
    if not has_sessions(features):
        found.append(
            "no speaker has a second session: what of the accuracy is the recording, not the voice, is not known"
        )
    elif split_by == "utterance" and shared:
        found.append(f"by utterance, {100 * shared:.0f} % of the test utterances are of sessions that were trained on")
    elif shared:
        found.append(
            f"by session, {100 * shared:.0f} % of the test utterances are of a session that other speakers were "
            "trained on: speakers share sessions, and not all can spare one"
        )
    if split_by == "session" and np.isin(sessions[parts.validation], sessions[parts.fit]).any():
        found.append("by session, known sessions choose the head: there are too few to hold some back for validation")
    if features.audio is not None:
        keys = content_keys(features)
        known = {keys[row] for row in seen}
        copies = [features.ids[row] for row in parts.test if keys[row] in known]
        if copies:
            found.append(
                f"by {split_by}, {len(copies)} test utterances are copies of training recordings, which flatters the "
                f"figures: {', '.join(copies[:3])}{', ...' if len(copies) > 3 else ''}"
            )
    return found
