"""`window_starts` and `span_seconds`."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio import AudioError, read_audio, span_seconds, window_starts


@given(length=st.integers(0, 500), size=st.integers(1, 100), hop=st.integers(1, 100))
def test_windows_begin_at_the_beginning_and_end_at_the_end(length: int, size: int, hop: int) -> None:
    starts = window_starts(length, size, hop)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    if length <= size:
        assert starts == [0]
    else:
        assert starts[-1] + size == length
        steps = [after - before for before, after in pairwise(starts)]
        assert set(steps[:-1]) <= {hop}
        assert steps[-1] <= hop


def test_by_hand() -> None:
    assert window_starts(27, 10, 5) == [0, 5, 10, 15, 17]
    assert window_starts(30, 10, 10) == [0, 10, 20]


def test_the_seconds_of_a_span_are_those_that_are_read(write_audio: Callable[..., Path], tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=2.5, rate=8000)
    for start, duration in ((0.0, None), (1.0, None), (0.5, 1.25)):
        assert span_seconds(path, start, duration) == len(read_audio(path, None, start, duration)) / 8000


@pytest.mark.parametrize(
    ("name", "fault"), [("absent.wav", "missing"), ("text.wav", "not_audio"), ("empty.wav", "empty")]
)
def test_a_file_without_seconds_is_answered_as_reading_it_is(name: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("text, " * 100)
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(AudioError) as caught:
        span_seconds(tmp_path / name)
    assert caught.value.fault == fault


def test_a_span_beyond_the_end_is_answered(write_audio: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(AudioError) as caught:
        span_seconds(write_audio(tmp_path / "a.wav"), start=2.0)
    assert caught.value.fault == "out_of_range"
