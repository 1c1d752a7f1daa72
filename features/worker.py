"""What a process does that decodes: it reads pieces of audio, and leaves their waveforms in shared memory."""

import mmap
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from audio import AudioError, read_audio, read_window
from features.provenance import file_digest

# Seconds between two looks of a worker whether the process that it works for lives.
LOOK_EVERY = 1.0


@dataclass(frozen=True)
class FileState:
    """A file's content and the marks by which to see that it has not changed."""

    digest: bytes
    size: int
    mtime_ns: int


class Request(NamedTuple):
    """What a worker is told of a piece: plain values, which cost little on their way."""

    number: int
    path: str
    start: float
    duration: float | None
    window: tuple[int, int] | None
    seconds: float
    with_state: bool


class Heard(NamedTuple):
    """What a worker answers; of a waveform that lies in the arena the number of samples."""

    waveform: Tensor | None = None
    n_shared: int | None = None
    seconds: float = 0.0
    fault: AudioError | None = None
    file: FileState | None = None


@dataclass(frozen=True)
class Hearing:
    """How a piece is read: rate (Hz), and the crop (seconds) of those without a window."""

    sample_rate: int
    crop: float | None


@dataclass
class Arena:
    """Shared memory in which each piece under way has a place for its waveform."""

    memory: mmap.mmap
    n_places: int
    samples: int  # of each place

    @classmethod
    def make(cls, n_places: int, samples: int) -> "Arena":
        return cls(mmap.mmap(-1, n_places * samples * 4), n_places, samples)

    def place(self, number: int, length: int) -> Tensor:
        """Return the place of a piece, by its number, as a vector."""
        offset = number % self.n_places * self.samples * 4
        return torch.from_numpy(np.frombuffer(self.memory, np.float32, length, offset))


# In a worker: where it leaves waveforms.
_arena: Arena | None = None


def begin(arena: Arena | None, parent: int) -> None:
    """Prepare a worker: it leaves Ctrl-C to the process that it works for, and ends with that."""
    global _arena
    _arena = arena
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    own = os.getppid()  # of a fork server's children this is not who they work for, but ends with it
    if multiprocessing.get_start_method() == "fork":
        own = parent
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork

    def watch() -> None:
        while os.getppid() == own:
            time.sleep(LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def read_all(requests: Sequence[Request | None], hearing: Hearing) -> list[Heard]:
    """Read pieces; a waveform that its place in the arena holds is left there."""
    answers = []
    for request in requests:
        heard = Heard() if request is None else _read(request, hearing)
        if request is not None and _arena is not None and heard.waveform is not None:
            length = len(heard.waveform)
            if length <= _arena.samples:
                _arena.place(request.number, length).copy_(heard.waveform)
                heard = heard._replace(waveform=None, n_shared=length)
        answers.append(heard)
    return answers


def _read(request: Request, hearing: Hearing) -> Heard:
    """Read the waveform of a piece, or say why there is none."""
    path, rate, before = Path(request.path), hearing.sample_rate, None
    try:
        before = file_state(path) if request.with_state else None
        if request.window is not None:
            waveform = read_window(path, rate, *request.window, request.start, request.seconds)
            seconds = request.seconds
        else:
            waveform = read_audio(path, rate, request.start, request.duration, hearing.crop)
            seconds = len(waveform) / rate
        if before is not None:
            status = os.stat(path)
            if (status.st_size, status.st_mtime_ns) != (before.size, before.mtime_ns):
                raise AudioError(path, "unreadable", "it was written to while it was read; it will be read again")
    except AudioError as error:
        return Heard(seconds=request.seconds, fault=error, file=before)
    except OSError as error:  # it vanished after it was read
        return Heard(fault=AudioError(path, "missing", error.strerror or str(error)))
    except Exception as error:  # one file is never in the way of the others, whatever a decoder makes of it
        reason = f"it cannot be decoded ({type(error).__name__}: {error})"
        return Heard(fault=AudioError(path, "unreadable", reason))
    return Heard(waveform, None, seconds, None, before)


def file_state(path: Path) -> FileState:
    """Digest a file.

    Raises
    ------
    AudioError
        It cannot be read.
    """
    try:
        status = os.stat(path)
        if not S_ISREG(status.st_mode):
            raise OSError("not a file")
        return FileState(file_digest(path, status.st_size, status.st_mtime_ns), status.st_size, status.st_mtime_ns)
    except (OSError, ValueError):
        read_audio(path, None)  # raises the AudioError that says what is wrong
        raise
