"""`single_thread`: one thread inside its blocks, and the number from before after them, in several threads at once."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from networks import single_thread


@pytest.fixture
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def number_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


@pytest.mark.usefixtures("_three_threads")
def test_blocks_within_each_other_and_errors() -> None:
    with single_thread():
        with pytest.raises(ZeroDivisionError), single_thread():
            assert torch.get_num_threads() / 0
        assert (torch.get_num_threads(), number_of_a_new_thread()) == (1, 1)
    assert (torch.get_num_threads(), number_of_a_new_thread()) == (3, 3)


@pytest.mark.usefixtures("_three_threads")
@pytest.mark.parametrize("is_first_out", [False, True])
def test_thread_that_starts_within_a_block_of_another(is_first_out: bool) -> None:
    is_inside, may_leave = threading.Event(), threading.Event()

    def compute() -> None:
        with single_thread():
            is_inside.set()
            may_leave.wait(10)
            assert torch.get_num_threads() == 1

    with ThreadPoolExecutor(1) as pool:
        with single_thread():
            other = pool.submit(compute)
            assert is_inside.wait(10)
            if is_first_out:
                may_leave.set()
                other.result()
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
        may_leave.set()
        other.result()
    assert (torch.get_num_threads(), number_of_a_new_thread()) == (3, 3)
