"""Which device to compute on."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from encoders.base import EncoderError


def resolve_device(device: str) -> torch.device:
    """Turn ``auto`` (CUDA where there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` into a device.

    Raises
    ------
    EncoderError
        The name is none of these, or this machine has no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise EncoderError(f"There is no device {device!r}; give auto, cpu, cuda, cuda:N or mps.") from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    count = counts.get(resolved.type, 0)
    if (resolved.index or 0) >= count:
        raise EncoderError(f"This machine has {count} {resolved.type} devices, so not {device!r}; give auto or cpu.")
    return resolved


@contextmanager
def single_thread() -> Iterator[None]:
    """Compute on one CPU core within the block.

    Operations of some 10 microseconds gain nothing from a second thread, and while another process keeps a core busy
    their threads wait for each other: measured 50 times slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
