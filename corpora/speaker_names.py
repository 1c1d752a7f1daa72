"""Check the names of the speakers of a corpus: reserved names, and names that look the same."""

import logging
from collections.abc import Sequence
from pathlib import Path

from corpora.corpus import CorpusError, Utterance
from files import describe_similar, is_reserved, reserved_problem

logger = logging.getLogger(__name__)


def check_speaker_names(root: Path, utterances: Sequence[Utterance], *, allow_unknown: bool = False) -> None:
    """Refuse a reserved name of a speaker, and warn of names that are equal except for case and spaces.

    Raises
    ------
    CorpusError
        A speaker is called ``unknown``, in upper or lower case, and `allow_unknown` is False.
    """
    names = {utterance.speaker for utterance in utterances}
    reserved = {name for name in names if is_reserved(name)}
    if reserved and not allow_unknown:
        places = [utterance.id for utterance in utterances if utterance.speaker in reserved]
        raise CorpusError(f"{root}: {reserved_problem(min(reserved), places)}")
    warn_of_similar_names(root, names)


def warn_of_similar_names(root: Path, names: set[str]) -> None:
    """Warn of names of different speakers that are equal except for case and spaces."""
    similar = describe_similar(names)
    if similar:
        logger.warning(
            "%s: some names of different speakers are equal except for case and spaces: %s. If they are one person, "
            "give them the same name.", root, similar,
        )  # fmt: skip
