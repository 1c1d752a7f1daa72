"""The processes of a training run: one, or all that torchrun started."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from encoders import resolve_device
from training.settings import PRECISIONS, TrainingError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

# Maximum number of processes that read crops by default.
MAX_WORKERS = 8


def create_fabric(device: str, precision: str) -> "Fabric":
    """Return a launched Fabric: one process, or all that torchrun started.

    Raises
    ------
    TrainingError
        The processes cannot be connected.
    """
    from lightning.fabric import Fabric

    for name in ("lightning.fabric", "lightning.pytorch"):  # otherwise they log that the processes are connected
        logging.getLogger(name).setLevel(logging.WARNING)
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    place = resolve_device(device)
    if n_processes > 1:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", n_processes))
        fabric = Fabric(
            accelerator=place.type,
            devices=local,
            num_nodes=n_processes // local,
            strategy="ddp",
            precision=PRECISIONS[precision],
        )
    else:
        devices: Any = 1 if place.index is None else [place.index]
        fabric = Fabric(accelerator=place.type, devices=devices, precision=PRECISIONS[precision])
    with end_together(n_processes):
        fabric.launch()
    return fabric


@contextmanager
def end_together(n_processes: int) -> Iterator[None]:
    """Raise one sentence if another process of the run has ended, which closes the connections to it.

    Raises
    ------
    TrainingError
        Another process has ended.
    """
    try:
        yield
    except RuntimeError as error:  # gloo has no class of its own
        is_connection = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
        if n_processes == 1 or not is_connection:
            raise
        raise TrainingError(
            "Another process of this training run has ended or cannot be reached. The same command continues the run."
        ) from error


def exchange(fabric: "Fabric", *values: float) -> torch.Tensor:
    """Return values of all processes (n_processes, n_values), float64."""
    own = torch.zeros(fabric.world_size, len(values), dtype=torch.float64)
    own[fabric.global_rank] = torch.tensor(values, dtype=torch.float64)
    if fabric.world_size > 1:
        own = own.to(fabric.device)  # the collectives of GPUs take no tensor of the CPU
        torch.distributed.all_reduce(own)
    return own.cpu()


def exchange_faults(fabric: "Fabric", faults: dict[str, str]) -> None:
    """Add the utterances that the other processes could not read."""
    if fabric.world_size > 1:
        found: list[dict[str, str]] = [{}] * fabric.world_size
        torch.distributed.all_gather_object(found, faults)
        for each in found:
            faults.update(each)


@contextmanager
def threads(n_threads: int | None) -> Iterator[None]:
    """Compute with at most this number of threads on the CPU; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(n_threads or before, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def default_workers() -> int:
    """Return the number of processes that read crops by default: one less than the cores of a process, at most 8."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(n_cores // n_processes - 1, 1), MAX_WORKERS)
