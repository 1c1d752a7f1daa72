"""Where a span is in a file."""

from pathlib import Path
from typing import NamedTuple

from audio.audio_error import AudioError
from audio.conversion import conversion_advice

# A span may end this long after the end of the file (seconds): annotations are rounded, and lossy formats drop a frame.
# A file may also be this much shorter than its header declares.
SPAN_TOLERANCE = 0.1
# A file may lack at most this share of its length.
MAX_MISSING_SHARE = 0.1
# A file without samples is larger than this (bytes) if its header does not declare its samples.
MAX_HEADER = 4_096


class Span(NamedTuple):
    """First frame and number of frames of a span in a file.

    It has a maximum duration as its end (`is_crop`), or ends where the file ends (`is_last`), or neither.
    """

    first: int
    n_frames: int
    is_crop: bool
    is_last: bool


def find_span(
    path: Path, rate: int, end: int, *, start: float, duration: float | None, max_duration: float | None
) -> Span:
    """Return where a span is in a file with `end` frames; refuse a span that is outside the file."""
    if end <= 0:
        raise AudioError(path, "empty", _describe_empty(path))
    first = round(start * rate)
    if first >= end:
        raise AudioError(path, "out_of_range", f"the span starts at {start:g} s, but the file ends at {end / rate:g} s")
    count = end - first
    if duration is not None:
        if start + duration > end / rate + SPAN_TOLERANCE:
            message = f"the span ends at {start + duration:g} s, but the file ends at {end / rate:g} s"
            raise AudioError(path, "out_of_range", message)
        count = min(count, max(1, round(duration * rate)))
    is_crop = max_duration is not None and max(1, round(max_duration * rate)) < count
    if max_duration is not None and is_crop:
        count = max(1, round(max_duration * rate))
    return Span(first, count, is_crop=is_crop, is_last=first + count >= end)


def _describe_empty(path: Path) -> str:
    size = path.stat().st_size
    if size <= MAX_HEADER:
        return "the file has a header but no samples"
    return (
        f"the header declares no samples, but the file has {size:,} bytes; perhaps the recorder was switched off "
        f"before it wrote the length; {conversion_advice(path)}"
    )
