"""Segments of speech from the probabilities of speech of short chunks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

# The end of speech needs a probability this much below the threshold, at least `LOWEST`: a probability that wavers
# around the threshold does not cut the speech.
HYSTERESIS, LOWEST = 0.15, 0.01
# Times are rounded to microseconds.
N_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class SpeechSettings:
    """What counts as speech; the names in parentheses are those of silero-vad.

    The defaults are those of silero-vad, except the threshold, which is 0.5 there. It was chosen on quiet meetings and
    noisy recordings (``benchmarks/speech_detection.py``).

    Attributes
    ----------
    threshold : float
        Probability above which speech begins (``threshold``), above 0 and below 1. Speech ends where the probability
        is lower by 0.15.
    min_speech : float
        Shorter segments are not speech (``min_speech_duration_ms``; seconds).
    min_silence : float
        Shorter pauses do not end a segment (``min_silence_duration_ms``; seconds).
    padding : float
        Time before and after each segment that is kept (``speech_pad_ms``; seconds).

    Raises
    ------
    ValueError
        A setting is not in its range.
    """

    threshold: float = 0.2
    min_speech: float = 0.25
    min_silence: float = 0.1
    padding: float = 0.03

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "SpeechSettings":
        """Return the settings in the spec of a detector."""
        return cls(**{field.name: float(spec[field.name]) for field in fields(cls)})

    def __post_init__(self) -> None:
        times = (self.min_speech, self.min_silence, self.padding)
        if not 0 < self.threshold < 1 or not all(0 <= time < math.inf for time in times):
            raise ValueError(f"the threshold must be above 0 and below 1, and times 0 s or more; got {self}")


def find_segments(
    probabilities: Sequence[float], settings: SpeechSettings, step: float, *, seconds: float
) -> list[tuple[float, float]]:
    """Return the segments of speech, padded and in order; segments that touch are one.

    Parameters
    ----------
    probabilities : sequence of float
        Probability of speech of each chunk.
    settings : SpeechSettings
    step : float
        Length of a chunk (seconds).
    seconds : float
        Length of the recording, which ends in the last chunk (seconds).

    Returns
    -------
    list of (float, float)
        Start and end of each segment (seconds).
    """
    segments: list[tuple[float, float]] = []
    for first, last in _runs(probabilities, settings, step):
        begin, end = first * step, min(last * step, seconds)
        if end - begin <= settings.min_speech:
            continue
        begin, end = max(begin - settings.padding, 0.0), min(end + settings.padding, seconds)
        if segments and begin <= segments[-1][1]:
            begin = segments.pop()[0]
        segments.append((round(begin, N_DIGITS), round(end, N_DIGITS)))
    return segments


def _runs(probabilities: Sequence[float], settings: SpeechSettings, step: float) -> Iterator[tuple[int, int]]:
    """Yield the first chunk of each run of speech, and the chunk after its last."""
    lower = max(settings.threshold - HYSTERESIS, LOWEST)
    first: int | None = None  # where speech begins, while it lasts
    pause: int | None = None  # where a pause in it begins
    for number, probability in enumerate(probabilities):
        if probability >= settings.threshold:
            first, pause = number if first is None else first, None
        elif first is not None and probability < lower:
            pause = number if pause is None else pause
            if (number - pause) * step >= settings.min_silence:
                yield first, pause
                first = pause = None
    if first is not None:
        yield first, len(probabilities)
