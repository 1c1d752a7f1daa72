"""Read the crops of a step, in worker processes."""

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from audio import AudioError, read_audio
from embedding import remove_offset
from networks import FrontEnd
from training.processes import threads
from training.settings import TrainingError

# Batches that each process reads ahead.
PREFETCH = 4
# Niceness of the processes that read: the network goes first.
LOWEST_PRIORITY = 19


@dataclass(frozen=True)
class Crop:
    """A stretch of an utterance, of one channel or the mean of all: valid frames from the frame `first` on.

    The samples are those of the frames' centres with a margin on both sides; outside of the utterance they are zero.
    """

    path: str
    start: float
    n_samples: int
    first: int
    n_frames: int
    channel: int | None = None


@dataclass(frozen=True)
class CropRequest:
    """Crops to read: `what` comes back with them, such as their step."""

    crops: tuple[Crop, ...]
    what: Any = None


@dataclass
class CropBatch:
    """Crops that were read.

    Attributes
    ----------
    inputs : Tensor (n, time, n_features) or (n, samples)
        float32, zero-padded frames or, from a reader without a front end, waveforms; without the crops that could not
        be read.
    n_frames : Tensor (n,)
        int64, valid frames of each.
    kept : Tensor (n,)
        int64, places of these crops in the request.
    faults : list of (int, str)
        Places of the files that could not be read, with the reasons.
    what : object
        That of the request.
    share : float
        Share of this process in the step, times the number of processes.
    """

    inputs: Tensor
    n_frames: Tensor
    kept: Tensor
    faults: list[tuple[int, str]] = field(default_factory=list)
    what: Any = None
    share: float = 1.0

    def keep(self, places: Tensor) -> None:
        """Keep the crops at these places of the request alone."""
        if len(places) < len(self.kept):
            is_kept = torch.isin(self.kept, places)
            self.inputs, self.n_frames, self.kept = self.inputs[is_kept], self.n_frames[is_kept], self.kept[is_kept]


class CropReader(Dataset[CropBatch]):
    """Reads the crops of a request by seeking.

    Parameters
    ----------
    sample_rate, hop, n_fft, unpadded : int
        Those of the front end: Hz and samples.
    front_end : FrontEnd, optional
        Computes the frames where the crops are read, on the CPU and in one thread, so that they do not depend on the
        number of processes; without it, batches have waveforms.
    """

    def __init__(
        self, sample_rate: int, hop: int, n_fft: int, *, unpadded: int = 0, front_end: FrontEnd | None = None
    ) -> None:
        self._rate, self._hop, self._n_fft, self._front_end = sample_rate, hop, n_fft, front_end
        self._unpadded = unpadded

    def __getitem__(self, request: CropRequest) -> CropBatch:
        longest = max(crop.n_frames for crop in request.crops)
        waveforms = torch.zeros(len(request.crops), (longest - 1) * self._hop + self._n_fft)
        kept: list[int] = []
        faults: list[tuple[int, str]] = []
        for place, crop in enumerate(request.crops):
            try:
                first, samples = self._read(crop)
            except AudioError as error:
                # Silence within a recording is normal, and there is nothing to learn from it.
                if error.fault != "silent" or crop.n_frames == 1 + (crop.n_samples - self._unpadded) // self._hop:
                    faults.append((place, error.reason))
                continue
            except Exception as error:  # an error of a decoder must not stop the other files
                faults.append((place, f"it cannot be decoded ({type(error).__name__}: {error})"))
                continue
            waveforms[len(kept), first : first + len(samples)] = samples
            kept.append(place)
        counts = torch.tensor([request.crops[place].n_frames for place in kept], dtype=torch.int64)
        inputs = waveforms[: len(kept)]
        if self._front_end is not None and kept:
            with threads(1), torch.no_grad():
                inputs = self._front_end.frames(inputs, counts)
        places = torch.tensor(kept, dtype=torch.int64)
        return CropBatch(inputs, counts, places, faults=faults, what=request.what)

    def _read(self, crop: Crop) -> tuple[int, Tensor]:
        """Return the samples of a crop, and where they begin in it."""
        margin = 0 if self._unpadded else self._n_fft // 2
        first = crop.first * self._hop - margin
        begin, end = max(first, 0), min(first + (crop.n_frames - 1) * self._hop + self._n_fft, crop.n_samples)
        waveform = read_audio(
            crop.path,
            self._rate,
            crop.start + begin / self._rate,
            duration=max(end - begin, 1) / self._rate,
            channel=crop.channel,
        )
        samples = waveform[: end - begin]
        remove_offset(samples)  # as `embed_utterances` does
        return begin - first, samples


class _Requests(Sampler[CropRequest]):
    """Gives requests to a `DataLoader`, which sends each to a worker."""

    def __init__(self, requests: Iterable[CropRequest]) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[CropRequest]:
        return iter(self._requests)


def _ignore(*error: object) -> None:
    """Print nothing about an error."""


def _init_worker(number: int) -> None:
    """Prepare a worker process."""
    if hasattr(os, "nice"):  # a thread of the network that waits for its core holds up all others
        os.nice(LOWEST_PRIORITY)
    # The handler of the script would print the traceback of an interruption.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # If the run is interrupted, threads that are sending crops to it fail, and would print tracebacks.
    sys.excepthook = _ignore
    Queue._on_queue_feeder_error = staticmethod(_ignore)  # type: ignore[attr-defined]
    gc.freeze()  # a collection would write to, and so copy, all objects of the parent process, such as the corpus


def read_crops(
    reader: CropReader, requests: Iterable[CropRequest], num_workers: int, *, pin: bool = False
) -> Generator[CropBatch]:
    """Read requests in order, ahead of the caller, in processes; without workers in this process.

    Requests go to the workers one by one, so a worker holds no list of the corpus. Close the iterator to end the
    processes.

    Raises
    ------
    TrainingError
        A process was killed.
    """
    loader = DataLoader(
        reader,
        batch_size=None,
        sampler=_Requests(requests),
        num_workers=num_workers,
        prefetch_factor=PREFETCH if num_workers else None,
        pin_memory=pin,
        worker_init_fn=_init_worker,
    )
    try:
        yield from loader
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise TrainingError(
            "A process that reads crops was killed, perhaps because memory ran out. Give a smaller --num_workers; the "
            "same command continues the run."
        ) from error
