"""The number of threads that a network computes with."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class _OpenBlocks:
    """The blocks of `single_thread` that are open in all threads, and the number of threads before the first of them.

    Each thread has a number of its own, but it starts with the one that any thread has set last. In a thread that
    starts within a block of another, this is 1, which it must not leave behind.
    """

    def __init__(self) -> None:
        self.n_open, self.n_threads = 0, 1
        self.make_lock()
        if hasattr(os, "register_at_fork"):  # in the child, no thread would release the lock
            os.register_at_fork(after_in_child=self.make_lock)

    def make_lock(self) -> None:
        self.lock = threading.Lock()


_blocks = _OpenBlocks()


@contextmanager
def single_thread() -> Iterator[None]:
    """Compute with one CPU thread inside the block; several threads can have such blocks at the same time.

    Operations of about 10 microseconds gain nothing from a second thread. If another process keeps a core busy, their
    threads wait for each other, which was measured to be 50 times slower.
    """
    with _blocks.lock:
        own = torch.get_num_threads()
        if not _blocks.n_open:
            _blocks.n_threads = own
        _blocks.n_open += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _blocks.lock:
            _blocks.n_open -= 1
            torch.set_num_threads(own if _blocks.n_open else _blocks.n_threads)
