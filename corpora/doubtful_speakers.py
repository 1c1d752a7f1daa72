"""Recognise names of folders that are probably sessions, not speakers: dates, and numbers of takes."""

import re
from collections.abc import Collection

YEAR, MONTH, DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
TIME = r"(?:[T_. -]?[0-2]\d(?:[.:h_-]?[0-5]\d){1,2})?"
DATE = re.compile(
    rf"(?:{YEAR}([-_. ]?){MONTH}(?:\1{DAY})?|{DAY}([-_. ]){MONTH}\2(?:{YEAR}|\d\d)|{MONTH}([-_. ]){DAY}\3{YEAR}){TIME}"
    r"|(?:mon|tue(?:s)?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?",
    re.IGNORECASE,
)
TAKE = re.compile(
    r"(?:audio|clip|day|disc|part|rec|recording|scene|sess|session|take|tape|test|track|visit|week)[-_. ]*\d+",
    re.IGNORECASE,
)


def describe_doubtful(speakers: Collection[str]) -> str | None:
    """Return what the names of all speakers look like, ``dates`` or ``numbers of takes``; None if like speakers.

    Numbers look like takes only if they count up from 0 or 1, since numbers of other kinds often name speakers.

    Examples
    --------
    >>> describe_doubtful(["2024-01-31", "2024-02-01"]), describe_doubtful(["take1", "take2"])
    ('dates', 'numbers of takes')
    >>> describe_doubtful(["1272", "1462"]), describe_doubtful(["anna", "monday"])
    (None, None)
    """
    if len(speakers) < 2:
        return None
    if all(DATE.fullmatch(name) for name in speakers):
        return "dates"
    if all(TAKE.fullmatch(name) for name in speakers) or _counts_up(speakers):
        return "numbers of takes"
    return None


def is_session_name(name: str) -> bool:
    """Return whether a name is a date, or that of a take.

    Examples
    --------
    >>> is_session_name("2024-01-31"), is_session_name("take1"), is_session_name("anna")
    (True, True, False)
    """
    return DATE.fullmatch(name) is not None or TAKE.fullmatch(name) is not None


def _counts_up(names: Collection[str]) -> bool:
    """Return whether names are the numbers 0, 1, 2, ... or 1, 2, 3, ..., all of them."""
    if not all(re.fullmatch(r"[0-9]{1,6}", name) for name in names):
        return False
    numbers = sorted(map(int, names))
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
