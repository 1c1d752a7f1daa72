"""The base of all encoders."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from audio import InputError, window_starts
from encoders.spec import Spec, windows_of


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
        The layers that `encode` returns; empty for an encoder that gives one vector.
    """

    Options: ClassVar[type]
    # Those that it can compute in.
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    # Utterances that one forward takes. On a CPU one at a time is fastest: nothing is spent on padding.
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 32, "mps": 32}

    def __init__(self, spec: Spec, weights: str | Path | None = None) -> None:
        super().__init__()
        self.spec = spec

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
            Waveforms per forward; by default what suits the device.

        Returns
        -------
        Tensor (n, dim) or (n, layers, dim)
            float32, on the CPU, in the order of the waveforms.

        Raises
        ------
        EncoderError
            A waveform is not a non-empty vector of floating-point samples.
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
            return [waveform]
        size, hop = windows
        pieces = [waveform[start : start + size] for start in window_starts(len(waveform), size, hop)]
        return [piece for piece in pieces if piece.any()] or pieces[:1]

    def _embed(self, waves: Sequence[Tensor], batch_size: int | None) -> Tensor:
        batch_size = batch_size or self.batch_size.get(self.device.type, 1)
        order = sorted(range(len(waves)), key=lambda number: len(waves[number]), reverse=True)
        embeddings = torch.empty(len(waves), *([len(self.layers)] if self.layers else []), self.dim)
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            batch = pad_sequence([waves[row] for row in rows], batch_first=True)
            lengths = torch.tensor([len(waves[row]) for row in rows])
            with torch.inference_mode():  # the forward alone: a tensor made in it could not be trained on
                embeddings[rows] = self(batch.to(self.device), lengths.to(self.device)).float().cpu()
        return embeddings

    @staticmethod
    def _check(waveform: Tensor, number: int) -> Tensor:
        if waveform.ndim != 1 or not len(waveform) or not waveform.is_floating_point():
            raise EncoderError(
                f"Waveform {number} is a {waveform.dtype} of shape {tuple(waveform.shape)}; "
                "expected floating point, (samples,), at least one sample."
            )
        return waveform.float()
