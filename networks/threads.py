"""The number of threads that a network computes with."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_thread() -> Iterator[None]:
    """Compute with one CPU thread inside the block.

    Operations of about 10 microseconds gain nothing from a second thread. If another process keeps a core busy, their
    threads wait for each other, which was measured to be 50 times slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
