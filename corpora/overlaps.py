"""Measure how much of each segment overlaps segments of other speakers, and find where one speaker speaks alone."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

Span = tuple[float, float]


class Overlaps:
    """The speech of a meeting, by speaker.

    Parameters
    ----------
    spans : iterable of (str, (float, float))
        Speaker, start and end (seconds) of all segments of the meeting.
    """

    def __init__(self, spans: Iterable[tuple[str, Span]]) -> None:
        by_speaker: defaultdict[str, list[Span]] = defaultdict(list)
        for speaker, span in spans:
            by_speaker[speaker].append(span)
        self._others: Mapping[str, Sequence[Span]] = {
            speaker: union_of(span for other, own in by_speaker.items() if other != speaker for span in own)
            for speaker in by_speaker
        }

    def share(self, speaker: str, start: float, end: float) -> float:
        """Return the share of a segment of a speaker in which at least one other speaker speaks, from 0 to 1.

        Examples
        --------
        >>> meeting = Overlaps([("ann", (0, 10)), ("ben", (8, 12)), ("eva", (9, 10))])
        >>> meeting.share("ann", 0, 10), meeting.share("eva", 9, 10)
        (0.2, 1.0)
        """
        spans, overlapped = self._others[speaker], 0.0
        first = max(bisect_right(spans, (start, float("inf"))) - 1, 0)
        for begin, stop in spans[first:]:
            if begin >= end:
                break
            overlapped += max(min(stop, end) - max(begin, start), 0.0)
        return round(overlapped / (end - start), 6)  # differences of decimal numbers are inexact


def spans_alone(spans: Iterable[tuple[str, Span]]) -> dict[str, list[Span]]:
    """Return the times, as sorted spans, at which each speaker speaks and no other does.

    Parameters
    ----------
    spans : iterable of (str, (float, float))
        Speaker, start and end (seconds) of all segments of a recording.

    Examples
    --------
    >>> spans_alone([("ann", (0, 4)), ("ben", (1, 2)), ("ben", (3, 5))])
    {'ann': [(0, 1), (2, 3)], 'ben': [(4, 5)]}
    """
    by_speaker: defaultdict[str, list[Span]] = defaultdict(list)
    for speaker, span in spans:
        by_speaker[speaker].append(span)
    speech = {speaker: union_of(own) for speaker, own in by_speaker.items()}
    return {
        speaker: _without(own, union_of(span for other in speech if other != speaker for span in speech[other]))
        for speaker, own in speech.items()
    }


def _without(spans: Sequence[Span], holes: Sequence[Span]) -> list[Span]:
    """Return the parts of spans that are outside all holes; both are sorted and disjoint."""
    parts, first = [], 0
    for start, end in spans:
        while first < len(holes) and holes[first][1] <= start:
            first += 1
        for begin, stop in holes[first:]:
            if begin >= end:
                break
            if begin > start:
                parts.append((start, begin))
            start = stop
        if start < end:
            parts.append((start, end))
    return parts


def union_of(spans: Iterable[Span]) -> list[Span]:
    """Return disjoint spans that cover the same times, sorted."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined
