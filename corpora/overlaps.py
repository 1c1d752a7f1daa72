"""Measure how much of each segment overlaps segments of other speakers."""

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
            speaker: _union(span for other, own in by_speaker.items() if other != speaker for span in own)
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


def _union(spans: Iterable[Span]) -> list[Span]:
    """Return disjoint spans that cover the same times, sorted."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined
