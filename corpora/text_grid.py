"""Read who speaks when in a recording from a TextGrid file of Praat."""

import codecs
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from corpora.corpus import CorpusError
from corpora.rttm import RttmSegment, recording_name
from files import count_of, listing, normal_form, other_kind, read_text

logger = logging.getLogger(__name__)

FILE_KIND = "a TextGrid file of Praat, saved as text"
# Praat reads texts between quotation marks, numbers and flags that stand alone, and passes over all other characters.
# Its long and its short format have the same of these in the same order. An exclamation mark begins a comment.
TOKEN = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"|(?<!\S)(?:(?P<number>[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)|(?P<flag><\w+>))(?!\S)|(?<!\S)!.*'
)
HEADER = ["ooTextFile", "TextGrid"]
# Names of tiers that are not those of speakers, as forced aligners write them, without upper case and a final s.
OTHER_TIERS = ("word", "phone", "phoneme", "syllable", "utterance", "sentence", "segment", "text", "transcript")


class _Token(NamedTuple):
    """A text, a number, or a flag such as ``<exists>``, and the index of its line."""

    value: str | float
    line: int


def read_text_grid(path: Path) -> list[RttmSegment]:
    """Read the intervals with a text in a TextGrid file; each tier of intervals is named after a speaker.

    The long and the short text format are read, in UTF-8 or UTF-16. Intervals with impossible times are skipped, and
    logged.

    Returns
    -------
    list of RttmSegment
        In the order of the tiers; the recording is the name of the file without the suffix. `line` is that of the text.

    Raises
    ------
    CorpusError
        The file cannot be read, or is not a TextGrid file as text.
    """
    tokens = _tokens(_read(path))
    segments: list[RttmSegment] = []
    skipped: list[RttmSegment] = []
    try:
        if [next(tokens).value for _ in HEADER] != HEADER:
            raise ValueError("its first texts are not the type and the class of a TextGrid")
        _numbers(tokens, 2)  # the times of the whole file
        if next(tokens).value != "<exists>":
            return []
        for _ in range(_count(tokens)):
            tier = _tier(path, tokens)
            if tier and tier[0].speaker.lower().removesuffix("s") in OTHER_TIERS:
                logger.warning("%s: the tier %r is not used, because it is not named after a speaker",
                               path, tier[0].speaker)  # fmt: skip
                continue
            for segment in tier:
                is_valid = 0 <= segment.start < math.inf and 0 < segment.duration < math.inf
                (segments if is_valid else skipped).append(segment)
    except (StopIteration, ValueError, OverflowError) as error:
        reason = str(error) or "it ends too early"
        raise CorpusError(
            other_kind(path, FILE_KIND) or f"{path}: this cannot be read ({reason}); expected {FILE_KIND}."
        ) from error
    if skipped:
        where = [f"line {segment.line + 1} ({segment.start:g} s to {segment.end:g} s)" for segment in skipped]
        logger.warning("%s: skipped %s with impossible times: %s", path, count_of(len(skipped), "interval"),
                       listing(where))  # fmt: skip
    return segments


def _read(path: Path) -> str:
    """Return the text of a file; Praat writes UTF-16 with a byte-order mark if a text has letters beyond ASCII."""
    try:
        content = path.read_bytes()
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return content.decode("utf-16")
    except OSError as error:
        raise CorpusError(f"{path}: this file cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: this is not valid UTF-16 ({error.reason}); expected {FILE_KIND}.") from error
    return read_text(path, FILE_KIND, CorpusError)


def _tokens(text: str) -> Iterator[_Token]:
    line = position = 0
    for match in TOKEN.finditer(text):
        line, position = line + text.count("\n", position, match.start()), match.start()
        if match["text"] is not None:
            yield _Token(match["text"].replace('""', '"'), line)
        elif match["number"] is not None:
            yield _Token(float(match["number"]), line)
        elif match["flag"] is not None:
            yield _Token(match["flag"], line)


def _tier(path: Path, tokens: Iterator[_Token]) -> list[RttmSegment]:
    """Return the intervals of a tier that have a text; tiers of points have none."""
    kind, name = _text(tokens), _text(tokens)
    if kind not in ("IntervalTier", "TextTier"):
        raise ValueError(f"it has a tier of the class {kind!r}")
    _numbers(tokens, 2)  # the times of the tier
    speaker, recording, segments = normal_form(name.strip()), recording_name(path), list[RttmSegment]()
    for _ in range(_count(tokens)):
        if kind == "TextTier":
            _numbers(tokens, 1)
            _text(tokens)
            continue
        start, end = _numbers(tokens, 2)
        mark = next(tokens)
        if not isinstance(mark.value, str):
            raise ValueError(f"line {mark.line + 1} has the number {mark.value:g} instead of a text")
        if mark.value.strip():
            duration = round(end - start, 6)
            segments.append(RttmSegment(recording, speaker, start, duration=duration, line=mark.line))
    return segments


def _numbers(tokens: Iterator[_Token], count: int) -> list[float]:
    """Return the next tokens, which have to be numbers."""
    found = [next(tokens) for _ in range(count)]
    numbers = [token.value for token in found if isinstance(token.value, float)]
    if len(numbers) < count:
        wrong = next(token for token in found if not isinstance(token.value, float))
        raise ValueError(f"line {wrong.line + 1} has {str(wrong.value)[:60]!r} instead of a number")
    return numbers


def _count(tokens: Iterator[_Token]) -> int:
    return int(_numbers(tokens, 1)[0])


def _text(tokens: Iterator[_Token]) -> str:
    token = next(tokens)
    if not isinstance(token.value, str):
        raise ValueError(f"line {token.line + 1} has the number {token.value:g} instead of a text")
    return token.value
