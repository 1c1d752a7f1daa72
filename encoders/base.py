"""The base class of all encoders."""

import logging
import math
import re
from abc import abstractmethod
from collections.abc import Sequence
from itertools import chain
from pathlib import Path, PurePath
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from audio import window_starts
from encoders.spec import Spec, pieces_of
from files import InputError

logger = logging.getLogger(__name__)

# Samples after the end of a clip that are kept for the filter of a resampler, which needs fewer.
MARGIN = 64
CPU = torch.device("cpu")
OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|enforce fail at alloc_cpu", re.I)


class EncoderError(InputError):
    """An encoder cannot be built, or its input is not valid."""


class Encoder(nn.Module):
    """A frozen network, or a fixed transform, from waveforms to embeddings.

    Each family of encoders is a subclass. Its ``Options`` (a frozen dataclass) are the keyword arguments that
    `load_encoder` takes, ``describe`` returns the spec, the constructor builds the network that a spec describes, and
    ``forward`` embeds a padded batch. Encoders from `load_encoder` are in eval mode and have no gradients.

    Attributes
    ----------
    spec : dict
        Everything that changes the output, as plain values: ``name``, ``version`` (of the computation),
        ``sample_rate``, ``dim``, ``layers``, ``weights`` (digest, or None), ``options``, ``clip_seconds`` if the
        encoder uses only the beginning of a waveform, ``min_seconds`` if it refuses shorter waveforms,
        ``whole_seconds`` and ``piece_seconds`` if it cuts longer ones (`pieces_of`), ``trained_on`` (names of corpora,
        or ``unknown``), which does not change the output. The registry adds ``precision``,
        ``max_bandwidth`` (Hz) if files are limited to this frequency when they are read, and ``speech_detection``
        (`audio.SpeechDetector.spec`) if their pauses are left out; `encode` expects such waveforms.
    name : str
        Name in the registry.
    sample_rate : int
        Sampling rate of the input waveforms (Hz).
    dim : int
        Length of an embedding.
    layers : tuple of int
        Layers that `encode` returns; empty if the encoder has no selectable layers.
    """

    Options: ClassVar[type]
    # Precisions that the encoder supports.
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    # Default number of utterances per forward pass. On a CPU one is fastest, because nothing is padded.
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 32, "mps": 32}
    # Maximum length of a batch with its padding (seconds), on devices where the length limits the batch.
    batch_seconds: ClassVar[dict[str, float]] = {}
    # Default crop: length of the part of each recording that is read (seconds); None reads whole recordings.
    max_duration: ClassVar[float | None] = 10.0

    def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
        super().__init__()
        self.spec = spec
        self._device = device
        self.fitting_batch: int | None = None  # clips that fit into memory; set when a batch did not

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> str | Path | None:
        """Find weights on this machine, or download them.

        Parameters
        ----------
        weights : path-like, optional
            Weights that the user named; by default the published ones.
        download : bool
            Whether weights may be downloaded.

        Returns
        -------
        path-like or None
            None if the encoder has no weights, or if they are not on this machine and may not be downloaded.

        Raises
        ------
        EncoderError
            The weights do not exist, or cannot be downloaded.
        """
        return weights

    @classmethod
    @abstractmethod
    def describe(cls, weights: str | Path | None, options: Any) -> Spec:
        """Return the spec of the encoder with these weights and options, without its precision."""

    @abstractmethod
    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Embed a zero-padded batch as if each waveform were alone.

        Parameters
        ----------
        waveforms : Tensor (batch, samples)
            float32, at `sample_rate`.
        lengths : Tensor (batch,)
            int64, valid samples of each.

        Returns
        -------
        Tensor (batch, dim) or (batch, layers, dim)
        """

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def sample_rate(self) -> int:
        return int(self.spec["sample_rate"])

    @property
    def dim(self) -> int:
        return int(self.spec["dim"])

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(self.spec["layers"])

    @property
    def clips_per_call(self) -> int:
        """Number of clips to pass to `encode` at a time: several batches, so that it can sort them by length."""
        max_clips = self._max_clips()
        return 4 * max_clips if max_clips > 1 else 8

    def _max_clips(self, batch_size: int | None = None) -> int:
        """Return the maximum number of clips per forward pass."""
        max_clips = batch_size or self.batch_size.get(self.device.type, 1)
        return max_clips if self.fitting_batch is None else min(max_clips, self.fitting_batch)

    @property
    def device(self) -> torch.device:
        """Device of the encoder's tensors; if it has none, the device that it was built for."""
        return next((tensor.device for tensor in chain(self.parameters(), self.buffers())), self._device)

    def encode(self, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
        """Embed waveforms, each as if it were alone.

        Waveforms are sorted by length, so that batches need little padding; the result has the original order. With
        the option ``window`` longer waveforms are cut into windows whose vectors are averaged, without silent windows.

        Parameters
        ----------
        waveforms : sequence of Tensor (samples,)
            Floating point, at `sample_rate`; lengths may differ.
        batch_size : int, optional
            Maximum number of waveforms per forward pass; by default a size that suits the device. A batch that does not
            fit into memory is halved.

        Returns
        -------
        Tensor (n, dim) or (n, layers, dim)
            float32, on the CPU, in the order of the waveforms; with an axis of layers if there are several.

        Raises
        ------
        EncoderError
            A waveform is empty or too short, is not a vector of floating-point samples, or does not fit into memory
            alone.
        """
        if getattr(waveforms, "ndim", 2) < 2:  # one tensor or array
            raise EncoderError("encode expects a sequence of waveforms; put a single waveform into a list.")
        given = list(waveforms)
        if any(isinstance(waveform, str | PurePath) for waveform in given):
            raise EncoderError(
                f"encode expects waveforms, not paths; read each file with audio.read_audio(path, {self.sample_rate})."
            )
        waves = [self._check(torch.as_tensor(waveform), number) for number, waveform in enumerate(given)]
        pieces = [self._windows(wave) for wave in waves]
        vectors = self._embed([piece for windows in pieces for piece in windows], batch_size)
        if len(vectors) == len(waves):
            return vectors
        parts = torch.split(vectors, [len(windows) for windows in pieces])
        return torch.stack([self.merge(part) for part in parts])

    def merge(self, vectors: Tensor) -> Tensor:
        """Average the vectors of a recording's windows, of shape (windows, dim) or (windows, layers, dim)."""
        return vectors.mean(0)

    def _windows(self, waveform: Tensor) -> list[Tensor]:
        windows = pieces_of(self.spec, len(waveform))
        if windows is None:
            clip = self.spec.get("clip_seconds")
            return [waveform if clip is None else waveform[: int(clip * self.sample_rate) + MARGIN]]
        size, hop = windows
        pieces = [waveform[start : start + size] for start in window_starts(len(waveform), size, hop)]
        return [piece for piece in pieces if piece.any()] or pieces[:1]

    def _embed(self, waves: Sequence[Tensor], batch_size: int | None) -> Tensor:
        order = sorted(range(len(waves)), key=lambda number: len(waves[number]), reverse=True)
        shape = (len(self.layers), self.dim) if len(self.layers) > 1 else (self.dim,)
        embeddings = torch.empty(len(waves), *shape)
        parts: list[tuple[list[int], Tensor]] = []
        max_clips = self._max_clips(batch_size)
        max_seconds = None if batch_size else self.batch_seconds.get(self.device.type)
        while order:
            seconds = len(waves[order[0]]) / self.sample_rate  # the others are padded to this length
            size = max_clips if max_seconds is None else min(max_clips, max(int(max_seconds / seconds), 1))
            rows = order[:size]
            try:
                parts.append((rows, self._run([waves[row] for row in rows])))
            except (RuntimeError, MemoryError) as error:  # on CPU and MPS, out of memory has no class of its own
                if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
                    raise
                max_clips = self.fitting_batch = self._smaller_batch(len(rows), seconds, error)
            else:
                order = order[len(rows) :]
        for rows, vectors in parts:  # copied last, so that a GPU computes while the next batch is prepared
            embeddings[rows] = vectors.cpu()
        return embeddings

    def _run(self, waves: Sequence[Tensor]) -> Tensor:
        batch = pad_sequence(list(waves), batch_first=True)
        lengths = torch.tensor([len(wave) for wave in waves])
        device = self.device
        if device.type == "cuda":  # copies from pinned memory are asynchronous
            batch, lengths = batch.pin_memory(), lengths.pin_memory()
        with torch.inference_mode():  # only around forward: its tensors cannot be used in training
            vectors: Tensor = self(batch.to(device, non_blocking=True), lengths.to(device, non_blocking=True))
            return vectors.float()

    def _smaller_batch(self, size: int, seconds: float, error: Exception) -> int:
        """Return half the size of a batch that did not fit into memory, and log the setting that avoids the failure."""
        if size == 1:
            raise EncoderError(
                f"The memory of {self.device} is too small for one utterance of {seconds:.1f} s; set a smaller "
                "--max_duration, or --window, or --device cpu."
            ) from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = size // 2
        logger.warning(
            "Out of memory on %s with %d utterances of up to %.1f s; continuing with --encoder_batch_size %d.",
            self.device, size, seconds, half,
        )  # fmt: skip
        return half

    def _check(self, waveform: Tensor, number: int) -> Tensor:
        if waveform.ndim != 1 or not len(waveform) or not waveform.is_floating_point():
            raise EncoderError(
                f"Waveform {number} is a {waveform.dtype} tensor of shape {tuple(waveform.shape)}; "
                "expected a floating-point tensor of shape (samples,) with at least one sample."
            )
        min_seconds = self.spec.get("min_seconds", 0.0)
        if len(waveform) < min_seconds * self.sample_rate:
            raise EncoderError(
                f"Waveform {number} has {len(waveform)} samples; the encoder {self.name!r} needs at least "
                f"{math.ceil(min_seconds * self.sample_rate)}."
            )
        return waveform.float()


def refuse_silence(waveform: Tensor, number: int) -> None:
    """Refuse a waveform without a signal; the number is its position in the batch.

    Raises
    ------
    EncoderError
        All samples are equal.
    """
    lowest, highest = torch.aminmax(waveform)  # much faster than waveform.any()
    if lowest == highest:
        raise EncoderError(f"Waveform {number} is digital silence: all of its samples are {float(lowest):g}.")
