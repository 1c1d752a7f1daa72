"""The device and the threads that an encoder computes with."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from encoders.base import EncoderError
from files import count_of


def resolve_device(device: str) -> torch.device:
    """Return the device named ``auto`` (CUDA if available, else the CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises
    ------
    EncoderError
        The name is not valid, or this machine has no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise EncoderError(f"There is no device {device!r}. Choose one of: auto, cpu, cuda, cuda:N, mps.") from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    count = counts.get(resolved.type, 0)
    if (resolved.index or 0) >= count:
        raise EncoderError(
            f"There is no device {device!r}; this machine has {count_of(count, f'{resolved.type} device')}. "
            "Choose auto or cpu."
        )
    return resolved


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
