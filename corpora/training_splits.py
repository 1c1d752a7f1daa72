"""Splits for training a network: by speaker, and mixed from the parts that a corpus has."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from corpora.corpus import Corpus, CorpusError
from corpora.given_splits import Indices
from corpora.split_names import split_of
from files import count_of, unknown_choice


def split_by_speaker(
    speakers: ArrayLike, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0
) -> tuple[Indices, Indices, Indices]:
    """Split utterances so that no speaker is in two sets.

    Parameters
    ----------
    speakers : array-like (n,)
        Speaker of each utterance.
    fractions : three floats
        Shares of the speakers in the training, validation and test sets. Each set with a share above 0 has at least two
        speakers, as verification needs.
    seed : int

    Returns
    -------
    train, validation, test : ndarray
        int64, rows of the sets, sorted.

    Raises
    ------
    CorpusError
        There are too few speakers.
    """
    names, labels = np.unique(np.asarray(speakers), return_inverse=True)
    sizes = [max(2, round(share * len(names))) if share else 0 for share in fractions[1:]]
    if len(names) - sum(sizes) < 2:
        raise CorpusError(
            f"Found {count_of(len(names), 'speaker')}; a split by speaker needs two in each set. Add recordings of "
            "other speakers, or give --split_by utterance."
        )
    order = np.random.default_rng(seed).permutation(len(names))
    part = np.zeros(len(names), np.int64)
    part[order[: sizes[1]]] = 2
    part[order[sizes[1] : sum(sizes)]] = 1
    of_row = part[labels.reshape(-1)]
    return np.flatnonzero(of_row == 0), np.flatnonzero(of_row == 1), np.flatnonzero(of_row == 2)


def split_mixed(speakers: ArrayLike, parts: Sequence[str], seed: int = 0) -> tuple[Indices, Indices, Indices]:
    """Mix the utterances of all parts and draw parts of the same sizes, each speaker of which is in the training part.

    One utterance of each speaker is assigned to the training part first; the others are drawn at random.

    Parameters
    ----------
    speakers : array-like (n,)
        Speaker of each utterance.
    parts : sequence of str
        ``train``, ``validation`` or ``test`` for each utterance: the parts that the corpus has.
    seed : int

    Returns
    -------
    train, validation, test : ndarray
        int64, rows of the parts, sorted.

    Raises
    ------
    CorpusError
        The training part is smaller than the number of speakers.
    """
    names, given = np.asarray(speakers), np.asarray(parts)
    order = np.random.default_rng(seed).permutation(len(names))
    first = order[np.unique(names[order], return_index=True)[1]]
    n_train = int((given == "train").sum())
    if n_train < len(first):
        raise CorpusError(
            f"The training part has {count_of(n_train, 'utterance')}, fewer than the {len(first)} speakers of all "
            "parts; each speaker needs one there. Add training subsets, or give --split_by utterance."
        )
    rest = order[~np.isin(order, first)]
    n_validation = int((given == "validation").sum())
    n_test = int((given == "test").sum())
    validation, test = rest[:n_validation], rest[n_validation : n_validation + n_test]
    train = np.concatenate([first, rest[n_validation + n_test :]])
    return np.sort(train), np.sort(validation), np.sort(test)


def take_subsets(corpus: Corpus, names: Sequence[str]) -> Corpus:
    """Return the utterances of some folders of a corpus, such as ``train-clean-100``; all of them without names.

    Raises
    ------
    CorpusError
        A folder has no utterance; the message lists those that have.
    """
    folders = sorted({utterance_id.partition("/")[0] for utterance_id in corpus.ids})
    for name in names:
        if name not in folders:
            raise CorpusError(f"{corpus.root}: {unknown_choice('folder', name, folders, owner='The corpus')}")
    if not names:
        return corpus
    kept = [each for each in corpus if each.id.partition("/")[0] in names]
    return Corpus(tuple(kept), corpus.root, corpus.name)


def parts_of_folders(corpus: Corpus) -> list[str]:
    """Return the part of each utterance by the first folder of its path, such as ``train-clean-100``.

    Raises
    ------
    CorpusError
        A folder has another name.
    """
    folders = [utterance_id.partition("/")[0] for utterance_id in corpus.ids]
    # The first word of the name decides.
    parts = {folder: split_of(folder.replace("_", "-").partition("-")[0]) for folder in dict.fromkeys(folders)}
    for folder, part in parts.items():
        if part is None:
            raise CorpusError(
                f"{corpus.root}: the folder {folder!r} is not the name of a part; a mixed split needs folders whose "
                "names begin with train, dev or test, such as train-clean-100. For other corpora, give --split_by "
                "utterance."
            )
    return [str(parts[folder]) for folder in folders]
