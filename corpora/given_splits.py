"""Assign utterances to the splits that a corpus gives."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corpora.corpus import CorpusError
from corpora.split_names import SPLITS, read_split
from files import count_of

Indices = NDArray[np.int64]


def divide_as_given(speakers: ArrayLike, given: Sequence[str | None] | None) -> tuple[Indices, Indices, Indices]:
    """Return the indices of the utterances in the given training, validation and test splits.

    Utterances of speakers who are not in the training split are left out (`describe_left_out` names them).

    Raises
    ------
    CorpusError
        There is no training or no test split, or they share no speaker.
    """
    owners, splits = np.asarray(speakers), _numbers(given)
    if len(splits) != len(owners):
        raise CorpusError(f"There are {len(owners)} speakers, but {len(splits)} given splits; give one for each.")
    missing = [name for name in ("train", "test") if not (splits == SPLITS.index(name)).any()]
    if missing:
        found = [name for number, name in enumerate(SPLITS) if (splits == number).any()]
        raise CorpusError(
            f"The corpus gives no {missing[0]} split (found: {' and '.join(found) or 'none'}), so a split as given is "
            "not possible. Use --split_by utterance or session."
        )
    in_train = np.isin(owners, owners[splits == 0])
    train, validation, test = (np.flatnonzero(in_train & (splits == number)) for number in range(len(SPLITS)))
    if not len(test):
        raise CorpusError(
            "No speaker of the given test split is in the given training split, so closed-set identification is not "
            "possible with these splits. Use speaker_verification.py, or --split_by utterance or session."
        )
    return train, validation, test


def describe_left_out(
    speakers: ArrayLike, given: Sequence[str | None], *, names: Sequence[str] | None = None
) -> list[str]:
    """Name the speakers that are not in the given training split, and count the utterances that no set has.

    Parameters
    ----------
    speakers : array-like (n,)
        Speaker of each utterance.
    given : sequence of str or None (n,)
        Split of each utterance.
    names : sequence of str, optional
        Names of the speakers, if `speakers` are indices into them.
    """
    owners, splits = np.asarray(speakers), _numbers(given)
    in_train = np.isin(owners, owners[splits == 0])
    sentences = []
    for number, name in list(enumerate(SPLITS))[1:]:
        rows = ~in_train & (splits == number)
        unknown: list[Any] = np.unique(owners[rows]).tolist()
        if unknown:
            listing = ", ".join(str(each) if names is None else names[each] for each in unknown[:5])
            sentences.append(
                f"split by given: left out of the {name} split: {count_of(int(rows.sum()), 'utterance')} of "
                f"{count_of(len(unknown), 'speaker')} without training utterances "
                f"({listing}{', ...' if len(unknown) > 5 else ''})"
            )
    if (splits < 0).any():
        sentences.append(f"split by given: {count_of(int((splits < 0).sum()), 'utterance')} in no split, left out")
    return sentences


def _numbers(given: Sequence[str | None] | None) -> Indices:
    """Return the number of the split of each utterance in `SPLITS`, -1 for none (n,)."""
    if given is None:
        raise CorpusError("A split as given needs the split of each utterance; give them, or split by utterance.")
    names = {name: read_split(name) for name in set(given)}
    numbers = {name: -1 if split is None else SPLITS.index(split) for name, split in names.items()}
    return np.array([numbers[name] for name in given], np.int64)
