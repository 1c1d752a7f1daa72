"""The base class of encoders whose networks were trained to tell speakers apart."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from encoders.base import CPU, Encoder, EncoderError, refuse_silence
from encoders.device import map_in_threads
from encoders.spec import Spec, windows_of

logger = logging.getLogger(__name__)

# Length of all recordings that are computed at the same time on a CPU (seconds), which limits memory use.
MAX_SECONDS = 1_440.0
# Below this length of a recording, vectors are much less reliable (seconds).
RELIABLE_SECONDS = 1.0


class SpeakerEncoder(Encoder):
    """Base class of encoders that embed whole recordings, on a CPU one recording per core.

    On a CPU each core computes one recording with one thread, so vectors do not depend on the number of threads.
    Digital silence is refused, because its vector would mean nothing.
    """

    max_duration: ClassVar[float | None] = None

    def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
        super().__init__(spec, weights, device)
        self._has_warned = False  # about short recordings

    @property
    def clips_per_call(self) -> int:
        return min(16 * torch.get_num_threads(), 128) if self.device.type == "cpu" else super().clips_per_call

    def _embed(self, waves: Sequence[Tensor], batch_size: int | None) -> Tensor:
        if self.device.type != "cpu" or batch_size not in (None, 1) or not waves:
            return super()._embed(waves, batch_size)
        embed_one = super()._embed
        order = sorted(range(len(waves)), key=lambda number: len(waves[number]), reverse=True)
        at_once = max(int(MAX_SECONDS * self.sample_rate / len(waves[order[0]])), 1)
        n_threads = min(torch.get_num_threads(), at_once)
        try:
            vectors = map_in_threads(lambda number: embed_one([waves[number]], 1), order, n_threads)
        except EncoderError as error:
            if not isinstance(error.__cause__, RuntimeError | MemoryError):
                raise
            # There is not enough memory for several recordings at the same time.
            logger.warning("Out of memory with %d recordings at the same time; continuing with one.", n_threads)
            return embed_one(waves, 1)
        by_number = dict(zip(order, vectors, strict=True))
        return torch.cat([by_number[number] for number in range(len(waves))])

    def _check(self, waveform: Tensor, number: int) -> Tensor:
        checked = super()._check(waveform, number)
        refuse_silence(checked, number)
        seconds = len(checked) / self.sample_rate
        if seconds < RELIABLE_SECONDS and not self._has_warned and windows_of(self.spec) is None:
            self._has_warned = True
            logger.warning(
                "A recording of %.2f s is shorter than %g s; the vectors of such recordings tell speakers apart much "
                "less reliably.", seconds, RELIABLE_SECONDS,
            )  # fmt: skip
        return checked
