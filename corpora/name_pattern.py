"""Patterns of file names: which part of a path is the speaker, and which is the session."""

import re
from pathlib import PurePosixPath

from corpora.corpus import CorpusError, Split
from corpora.scan import SUFFIXES
from corpora.split_names import split_above
from files import normal_form, unknown_choice

PLACEHOLDERS = ("speaker", "session")
TOKEN = re.compile(r"\{[^{}]*\}|\*\*/|\*\*|\*|\?|[^{*?]+|\{")
EXAMPLE = "{speaker}_{session}_*"


class NamePattern:
    """A pattern such as ``{speaker}/{session}_*``, which is matched against paths without their suffix.

    ``{speaker}`` and ``{session}`` stand for at least one character, as few as possible, ``*`` for any characters, all
    without ``/``; ``?`` stands for one character, ``**/`` for any number of folders. A placeholder that occurs again
    stands for the same text.

    Parameters
    ----------
    pattern : str
        It has ``{speaker}``, and may have ``{session}``. The suffix of an audio file at its end is ignored.

    Raises
    ------
    CorpusError
        ``{speaker}`` is missing, another placeholder is there, or nothing separates a placeholder from the next one.

    Examples
    --------
    >>> NamePattern("{speaker}_{session}_*").read("anna_monday_01.wav")
    ('anna', 'monday')
    >>> NamePattern("**/{speaker}-*").read("calls/may/ben-1.wav")
    ('ben', None)
    """

    def __init__(self, pattern: str) -> None:
        self.text = pattern
        stripped = _without_suffix(normal_form(pattern))
        parts = []
        before = ""  # the token before, if it stands for any number of characters
        seen = set()
        for token in TOKEN.findall(stripped):
            name = token[1:-1] if token.startswith("{") else ""
            if token.startswith("{") and name not in PLACEHOLDERS:
                problem = unknown_choice("placeholder", token, [f"{{{each}}}" for each in PLACEHOLDERS])
                raise CorpusError(f"The pattern is {pattern!r}. {problem}")
            is_open = bool(name) or token in ("*", "**")
            if is_open and before and (name or before.startswith("{")):
                raise CorpusError(
                    f"The pattern is {pattern!r}; nothing separates {before} from {token}, so where one ends is not "
                    f"defined. Put a character between them, as in {EXAMPLE!r}."
                )
            # One character between two tokens does not separate them, because it can be any.
            before = token if is_open else (before if token == "?" else "")
            parts.append(f"(?P={name})" if name in seen else _expression(token, name))
            seen |= {name} - {""}
        if "speaker" not in seen:
            raise CorpusError(f"The pattern is {pattern!r}; expected {{speaker}} in it, as in {EXAMPLE!r}.")
        self._expression = re.compile("".join(parts), re.DOTALL)

    def read(self, file: str) -> tuple[str, str | None] | None:
        """Return the speaker and the session, if the pattern has one, of a POSIX path; None if it does not match."""
        match = self._match(file)
        if match is None:
            return None
        return match["speaker"], match.groupdict().get("session")

    def given_split(self, file: str) -> Split | None:
        """Return the split that the folders above the speaker give; None if they give none, or nothing matches.

        Examples
        --------
        >>> NamePattern("*/{speaker}_*").given_split("train/anna_1.wav")
        'train'
        """
        match = self._match(file)
        return None if match is None else split_above(match.string[: match.start("speaker")].split("/")[:-1])

    def _match(self, file: str) -> re.Match[str] | None:
        return self._expression.fullmatch(_without_suffix(normal_form(file)))


def _expression(token: str, name: str) -> str:
    """Return the regular expression of a part of a pattern."""
    if name:
        return f"(?P<{name}>[^/]+?)"
    return {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token) or re.escape(token)


def _without_suffix(path: str) -> str:
    """Remove the suffix of an audio file; other text after a dot belongs to the name."""
    suffix = PurePosixPath(path).suffix
    return path.removesuffix(suffix) if suffix.lower() in SUFFIXES else path
