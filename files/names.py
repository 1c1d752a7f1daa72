"""Names of speakers: one spelling for each name, names that are missing or reserved, and names that look the same."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

# The name that predictions give to a speaker who is not among the known ones; no known speaker can have it.
UNKNOWN = "unknown"
# The texts that `pandas.read_csv` reads as missing values by default, and the empty text. They are what programs write
# for a missing name; other spellings, such as Nan, can be names.
MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"}
    | {"NULL", "NaN", "None", "n/a", "nan", "null"}
)
# Number of rows, and of groups of similar names, that a message shows.
SHOWN = 3


def normal_form(text: str) -> str:
    """Return a text in Unicode's normal form NFC.

    A letter with an accent can be one character (NFC, most systems) or two (NFD, names of files on macOS); both look
    the same. This project stores and compares names and ids in the form NFC.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def is_missing(name: Any) -> bool:
    """Return whether a name is NaN, None or another missing value, or a text that stands for one.

    Examples
    --------
    >>> is_missing(None), is_missing(float("nan")), is_missing("nan"), is_missing("Nan")
    (True, True, True, False)
    """
    return str(name) in MISSING


def is_reserved(name: str) -> bool:
    """Return whether a name is `UNKNOWN`, in upper or lower case."""
    return name.strip().casefold() == UNKNOWN


def reserved_problem(name: str, places: Sequence[object]) -> str:
    """Return why the recordings at some places cannot have a reserved name, with what to do."""
    return (
        f"{name!r} cannot be a speaker's name, because it stands for a speaker who is not known; it is the speaker of "
        f"{listing(places)}. Rename the speaker, or leave these recordings out."
    )


def without_case_and_spaces(name: str) -> str:
    """Return a name without what people write differently by accident."""
    return "".join(normal_form(name).casefold().split())


def describe_similar(names: Iterable[str]) -> str | None:
    """Return the names that are equal except for case and spaces, in words; None if there are none.

    Examples
    --------
    >>> describe_similar(["anna", "ben", "Anna "])
    "'Anna ' and 'anna'"
    """
    groups = defaultdict(set)
    for name in names:
        groups[without_case_and_spaces(name)].add(name)
    similar = [" and ".join(map(repr, sorted(group))) for _, group in sorted(groups.items()) if len(group) > 1]
    return listing(similar) if similar else None


def listing(things: Sequence[object]) -> str:
    """Return the first things, and the number of the others.

    Examples
    --------
    >>> listing([2, 3]), listing(range(9))
    ('2, 3', '0, 1, 2, and 6 more')
    """
    shown = ", ".join(map(str, things[:SHOWN]))
    return shown if len(things) <= SHOWN else f"{shown}, and {len(things) - SHOWN} more"
