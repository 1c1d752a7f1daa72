"""Assign the utterances of a corpus to the training, validation and test parts."""

from collections.abc import Sequence

import numpy as np

from corpora import (
    SPLITS,
    Corpus,
    Indices,
    divide,
    parts_of_folders,
    split_by_speaker,
    split_mixed,
    warn_of_shared_sessions,
)
from files import unknown_choice
from training.settings import TrainingError, UnusableCorpusError

KINDS = ("utterance", "session", "speaker", "mixed", "given")


def split_parts(
    corpus: Corpus, split_by: str, fractions: Sequence[float], *, seed: int
) -> tuple[Indices, Indices, Indices]:
    """Return the rows of the training, validation and test parts.

    Parameters
    ----------
    corpus : Corpus
    split_by : str
        ``utterance`` or ``session`` as in `corpora.split`; ``speaker`` keeps the speakers of the parts apart; ``mixed``
        draws parts of the sizes that the corpus's folders have; ``given`` takes the splits of the corpus as they are.
    fractions : three floats
        Shares of the parts, which ``mixed`` and ``given`` do not use.
    seed : int

    Raises
    ------
    TrainingError, CorpusError
        There is no such split, or the corpus has too few speakers, or no folders or splits for it.
    """
    speakers = [utterance.speaker for utterance in corpus]
    if split_by == "speaker":
        return split_by_speaker(speakers, fractions, seed)
    if split_by == "mixed":
        return split_mixed(speakers, parts_of_folders(corpus), seed)
    if split_by == "given":
        return _given_parts(corpus)
    if split_by not in KINDS:
        raise TrainingError(unknown_choice("split", split_by, KINDS))
    sessions = [utterance.session for utterance in corpus]
    parts = divide(speakers, sessions, fractions, split_by=split_by, seed=seed)  # type: ignore[arg-type]
    if split_by == "session":
        warn_of_shared_sessions(sessions, parts)
    return parts


def _given_parts(corpus: Corpus) -> tuple[Indices, Indices, Indices]:
    """Return the rows of each given split; unlike for heads, their speakers may differ."""
    given = np.array([utterance.split or "" for utterance in corpus])
    train, validation, test = (np.flatnonzero(given == split) for split in SPLITS)
    if not len(train):
        raise UnusableCorpusError(
            f"{corpus.root}: the corpus gives no train split; name folders train, validation and test, add the column "
            "split to the manifest, or use another --split_by."
        )
    return train, validation, test
