"""Segments of speech from probabilities: the threshold, the shortest speech and pause, and the padding."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio import SpeechSettings
from audio.speech_segments import find_segments

STEP = 0.032
# Without limits: each chunk of speech is a segment.
BARE = SpeechSettings(threshold=0.5, min_speech=0.0, min_silence=0.0, padding=0.0)


def segments(levels: Sequence[float], settings: SpeechSettings = BARE) -> list[tuple[float, float]]:
    return find_segments(levels, settings, STEP, seconds=len(levels) * STEP)


def chunks(*segments: tuple[int, int]) -> list[Any]:
    return [(pytest.approx(first * STEP), pytest.approx(last * STEP)) for first, last in segments]


def test_speech_begins_at_the_threshold_and_ends_well_below_it() -> None:
    assert segments([0.4, 0.5, 0.4, 0.35, 0.34, 0.4, 0.6]) == chunks((1, 4), (6, 7))
    assert segments([0.1, 0.2, 0.1, 0.04], SpeechSettings(threshold=0.1, min_speech=0, min_silence=0, padding=0)) == (
        chunks((0, 4))  # the lower threshold is not below 0.01
    )


def test_no_speech_gives_no_segment() -> None:
    assert segments([]) == segments([0.0, 0.49, 0.2]) == []


def test_short_pauses_do_not_end_speech() -> None:
    settings = SpeechSettings(min_speech=0.0, min_silence=0.1, padding=0.0)
    assert segments([1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1], settings) == chunks((0, 5), (10, 11))


def test_short_speech_is_left_out() -> None:
    settings = SpeechSettings(min_speech=0.25, min_silence=0.0, padding=0.0)
    assert segments([1] * 7 + [0] + [1] * 8, settings) == chunks((8, 16))


def test_segments_are_padded_within_the_recording_and_joined() -> None:
    settings = SpeechSettings(min_speech=0.0, min_silence=0.0, padding=2 * STEP)
    assert segments([0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1], settings) == chunks((0, 8), (10, 13))


def test_last_segment_ends_with_the_recording() -> None:
    assert find_segments([0.0, 1.0], BARE, STEP, seconds=0.04) == [(STEP, 0.04)]


@given(st.lists(st.floats(0, 1), max_size=60), st.floats(0.01, 0.99), st.floats(0, 0.3), st.floats(0, 0.3))
def test_segments_are_in_order_and_within_the_recording(
    levels: list[float], threshold: float, shortest: float, padding: float
) -> None:
    settings = SpeechSettings(threshold=threshold, min_speech=shortest, min_silence=shortest, padding=padding)
    edges = [edge for segment in segments(levels, settings) for edge in segment]
    assert edges == sorted(edges)
    assert len(set(edges)) == len(edges)
    assert all(0 <= edge <= len(levels) * STEP for edge in edges)


@pytest.mark.parametrize(
    "wrong", [{"threshold": 0.0}, {"threshold": 1.0}, {"min_speech": -0.1}, {"padding": float("nan")}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="the threshold must be above 0 and below 1, and times 0 s or more"):
        SpeechSettings(**wrong)
