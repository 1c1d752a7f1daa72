"""Names of the splits that a corpus gives, in folders and in tables."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import get_args

from corpora.corpus import CorpusError, Split

SPLITS: tuple[Split, ...] = get_args(Split)

WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
}
# Names of folders that hold the folders of speakers, and of parts of splits (train-clean-100, wav48_silence_trimmed).
WRAPPER = re.compile(
    r"(?:wav|wave|flac|mp3|ogg|opus|aac|m4a|sph)s?\d*k?|audios?|clips|recordings?|data|dataset|corpus|speech|sounds?"
    r"|samples|speakers|voices",
)
PART = re.compile(r"clean|other|100|360|500|silence|trimmed|padded")


@lru_cache(maxsize=1024)  # a corpus has many files, but few folders
def split_of(name: str) -> Split | None:
    """Return the split that the name of a folder, or a cell of a table, gives; None if it is not that of one split.

    Examples
    --------
    >>> split_of("Training"), split_of("dev-clean"), split_of("wav_test"), split_of("anna")
    ('train', 'validation', 'test', None)
    >>> split_of("train_test"), split_of("test1"), split_of("ann-test")
    (None, None, None)
    """
    found = {WORDS[word] for word in _words(name) if word in WORDS}
    return found.pop() if len(found) == 1 and is_no_speaker(name) else None


def split_above(folders: Iterable[str]) -> Split | None:
    """Return the split that the innermost folder with the name of one gives.

    Examples
    --------
    >>> split_above(["speech_test", "train", "wav"]), split_above(["wav"])
    ('train', None)
    """
    return next((split for name in reversed(list(folders)) if (split := split_of(name))), None)


def is_no_speaker(name: str) -> bool:
    """Return whether the name of a folder is that of a split, or of a kind of files, such as ``wav``.

    Examples
    --------
    >>> [is_no_speaker(name) for name in ("TRAIN", "wav48", "train-clean-100", "anna", "test1")]
    [True, True, True, False, False]
    """
    words = _words(name)
    is_named = [word in WORDS or WRAPPER.fullmatch(word) is not None for word in words]
    return any(is_named) and all(known or PART.fullmatch(word) for word, known in zip(words, is_named, strict=True))


def read_split(text: str | None) -> Split | None:
    """Return the split that a cell of a table gives; None if it is empty.

    Raises
    ------
    CorpusError
        The text is not the name of a split.

    Examples
    --------
    >>> read_split("dev"), read_split("TRAIN"), read_split(" ")
    ('validation', 'train', None)
    """
    name = (text or "").strip()
    if not name:
        return None
    found = WORDS.get(name.casefold())
    if found is None:
        raise CorpusError(f"The split is {name!r}; expected train, validation (or dev) or test, or nothing.")
    return found


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[-_. ]+", name.casefold()) if word]
