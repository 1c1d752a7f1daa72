"""`window_starts`."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from audio import window_starts


@given(length=st.integers(0, 500), size=st.integers(1, 100), hop=st.integers(1, 100))
def test_windows_cover_the_recording(length: int, size: int, hop: int) -> None:
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


def test_known_starts() -> None:
    assert window_starts(27, 10, 5) == [0, 5, 10, 15, 17]
    assert window_starts(30, 10, 10) == [0, 10, 20]
