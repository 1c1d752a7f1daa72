"""The device and the threads that an encoder computes with."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from encoders.base import EncoderError
from files import count_of
from networks import single_thread

# Only one call at a time may change the number of threads of the process.
_POOL = threading.Lock()


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


def map_in_threads(function: Callable[[Any], Any], items: Sequence[Any], n_threads: int) -> list[Any]:
    """Apply a function to items, several at the same time, each with one CPU thread and without gradients.

    The results do not depend on the number of threads, because each item is computed with one.

    Raises
    ------
    Exception
        The first error of the function.
    """
    # New threads take over the number of threads, but not the mode: with gradients, an LSTM takes 1.4 times as long.
    with _POOL, single_thread(), ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(torch.no_grad()(function), items))


def exact_cudnn(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which GPUs compute deterministically in fp32; threads must not enter it."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
