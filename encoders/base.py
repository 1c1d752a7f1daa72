"""The base of all encoders."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from audio import InputError
from encoders.spec import Spec


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
        ``sample_rate``, ``dim``, ``layers``, ``weights`` (digest, or None), ``precision`` and ``options``.
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
    # Utterances that one forward takes. On a CPU one at a time is fastest: nothing is spent on padding.
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 32, "mps": 32}

    def __init__(self, spec: Spec, weights: str | Path | None = None) -> None:
        super().__init__()
        self.spec = spec

    @classmethod
    @abstractmethod
    def describe(cls, weights: str | Path | None, options: Any) -> Spec:
        """Return the spec of the encoder that these weights and options make, without building it."""

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

        They are sorted by length, so that a batch is padded little, and the order is given back.

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
