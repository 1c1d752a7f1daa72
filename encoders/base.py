"""The base of all encoders."""

import logging
import re
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from audio import InputError, window_starts
from encoders.spec import Spec, windows_of

logger = logging.getLogger(__name__)

# Samples beyond a clip that an encoder is still given: what the filter of a resampler can see, and to spare.
MARGIN = 64
OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|enforce fail at alloc_cpu", re.I)


class EncoderError(InputError):
    """An encoder cannot be made, or was given what it does not take."""


class Encoder(nn.Module):
    """A frozen network, or a fixed transform, from waveforms to embeddings.

    A family is a subclass: its ``Options`` (a frozen dataclass) are the keyword arguments that `load_encoder` takes,
    ``describe`` gives the spec without building anything, the constructor builds what the spec says, and ``forward``
    embeds a padded batch. It is in eval mode and has no gradients.

    Attributes
    ----------
    spec : dict
        Everything that changes the output, in plain values: ``name``, ``version`` (of the computation),
        ``sample_rate``, ``dim``, ``layers``, ``weights`` (digest, or None), ``options``, ``clip_seconds`` where the
        encoder hears only the beginning of a waveform, and, added by the registry, ``precision``.
    name : str
        Name in the registry.
    sample_rate : int
        Rate of the waveforms it takes (Hz).
    dim : int
        Length of an embedding.
    layers : tuple of int
        The layers that `encode` returns; empty for an encoder that has none to choose from.
    """

    Options: ClassVar[type]
    # Those that it can compute in.
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    # Utterances that one forward takes. On a CPU one at a time is fastest: nothing is spent on padding.
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 32, "mps": 32}
    # Seconds that one forward takes, padding included, where length counts more than number.
    batch_seconds: ClassVar[dict[str, float]] = {}

    def __init__(self, spec: Spec, weights: str | Path | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.fitting_batch: int | None = None  # clips that memory was found to hold, once it did not hold more

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> str | Path | None:
        """Return the place of the weights that were asked for, or of the default ones if None was.

        Parameters
        ----------
        weights : path-like, optional
        download : bool
            Whether default weights may be fetched; if not, None says that they are not on this machine.
        """
        return weights

    @classmethod
    @abstractmethod
    def describe(cls, weights: str | Path | None, options: Any) -> Spec:
        """Return the spec of the encoder that these weights and options make, without its precision."""

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
        """How many clips to give `encode` at a time, for it to sort and batch: few where it takes one by one anyway."""
        most = self._most_clips()
        return 4 * most if most > 1 else 8

    def _most_clips(self, asked: int | None = None) -> int:
        most = asked or self.batch_size.get(self.device.type, 1)
        return most if self.fitting_batch is None else min(most, self.fitting_batch)

    @property
    def device(self) -> torch.device:
        """Where the tensors of the encoder are."""
        return next((tensor.device for tensor in [*self.parameters(), *self.buffers()]), torch.device("cpu"))

    def encode(self, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
        """Embed waveforms, each as if it were alone.

        They are sorted by length, so that a batch is padded little, and the order is given back. With the option
        ``window`` a longer waveform is cut into windows, and their vectors are averaged; silent windows do not count.

        Parameters
        ----------
        waveforms : sequence of Tensor (samples,)
            Floating point, at `sample_rate`, of any mix of lengths.
        batch_size : int, optional
            Most waveforms per forward; by default what suits the device. A batch that memory does not hold is halved.

        Returns
        -------
        Tensor (n, dim) or (n, layers, dim)
            With an axis of layers where there are several; float32, on the CPU, in the order of the waveforms.

        Raises
        ------
        EncoderError
            A waveform is not a non-empty vector of floating-point samples, or one alone does not fit into memory.
        """
        if isinstance(waveforms, Tensor) and waveforms.ndim < 2:
            raise EncoderError("encode takes a sequence of waveforms; put a single one into a list.")
        waves = [self._check(torch.as_tensor(waveform), number) for number, waveform in enumerate(waveforms)]
        pieces = [self._windows(wave) for wave in waves]
        vectors = self._embed([piece for windows in pieces for piece in windows], batch_size)
        if len(vectors) == len(waves):
            return vectors
        parts = torch.split(vectors, [len(windows) for windows in pieces])
        return torch.stack([self.merge(part) for part in parts])

    def merge(self, vectors: Tensor) -> Tensor:
        """Average the vectors (windows, dim) of a recording's windows."""
        return vectors.mean(0)

    def _windows(self, waveform: Tensor) -> list[Tensor]:
        windows = windows_of(self.spec)
        if windows is None:
            clip = self.spec.get("clip_seconds")
            return [waveform if clip is None else waveform[: int(clip * self.sample_rate) + MARGIN]]
        size, hop = windows
        pieces = [waveform[start : start + size] for start in window_starts(len(waveform), size, hop)]
        return [piece for piece in pieces if piece.any()] or pieces[:1]

    def _embed(self, waves: Sequence[Tensor], batch_size: int | None) -> Tensor:
        order = sorted(range(len(waves)), key=lambda number: len(waves[number]), reverse=True)
        embeddings = torch.empty(len(waves), *([len(self.layers)] if len(self.layers) > 1 else []), self.dim)
        parts: list[tuple[list[int], Tensor]] = []
        most = self._most_clips(batch_size)
        seconds = None if batch_size else self.batch_seconds.get(self.device.type)
        while order:
            longest = len(waves[order[0]]) / self.sample_rate  # to which the others are padded
            rows = order[: most if seconds is None else min(most, max(int(seconds / longest), 1))]
            try:
                parts.append((rows, self._run([waves[row] for row in rows])))
            except (RuntimeError, MemoryError) as error:  # the CPU's and MPS's have no class of their own
                if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
                    raise
                most = self.fitting_batch = self._smaller_batch(len(rows), longest, error)
            else:
                order = order[len(rows) :]
        for rows, vectors in parts:  # last: a GPU computes while the next batch is made ready
            embeddings[rows] = vectors.cpu()
        return embeddings

    def _run(self, waves: Sequence[Tensor]) -> Tensor:
        batch = pad_sequence(list(waves), batch_first=True)
        lengths = torch.tensor([len(wave) for wave in waves])
        device = self.device
        if device.type == "cuda":  # from pinned memory the copy does not wait
            batch, lengths = batch.pin_memory(), lengths.pin_memory()
        with torch.inference_mode():  # the forward alone: a tensor made in it could not be trained on
            vectors: Tensor = self(batch.to(device, non_blocking=True), lengths.to(device, non_blocking=True))
            return vectors.float()

    def _smaller_batch(self, size: int, seconds: float, error: Exception) -> int:
        """Return half the size of a batch that did not fit into memory, and say what would avoid that."""
        if size == 1:
            raise EncoderError(
                f"There is not memory enough on {self.device} for one utterance of {seconds:.1f} s; give a smaller "
                "--max_duration, or --window, or --device cpu."
            ) from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = size // 2
        logger.warning(
            "Out of memory on %s with %d utterances of up to %.1f s: going on with --encoder_batch_size %d.",
            self.device, size, seconds, half,
        )  # fmt: skip
        return half

    @staticmethod
    def _check(waveform: Tensor, number: int) -> Tensor:
        if waveform.ndim != 1 or not len(waveform) or not waveform.is_floating_point():
            raise EncoderError(
                f"Waveform {number} is a {waveform.dtype} of shape {tuple(waveform.shape)}; "
                "expected floating point, (samples,), at least one sample."
            )
        return waveform.float()
