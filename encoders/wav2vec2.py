"""The `wav2vec2` encoder: layers of a frozen speech model of the wav2vec2 family, pooled over time."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from encoders.base import CPU, Encoder, EncoderError, refuse_silence
from encoders.device import exact_cudnn
from encoders.hub_model import find_model, model_folder
from encoders.spec import Spec
from encoders.speech_model import (
    SAMPLE_RATE,
    describe_speech_model,
    has_xvector_head,
    load_speech_model,
    normalises_input,
    read_config,
)
from encoders.training_corpora import training_corpora
from encoders.weights import check_digest
from encoders.window_options import WindowOptions
from files import unknown_choice
from networks import SpeechNetwork, masked_mean, masked_statistics, normalize_waveforms

DEFAULT_WEIGHTS = "facebook/wav2vec2-base"
POOLINGS = ("mean", "mean+std")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Value of the option `layers` for the embedding of an x-vector head.
XVECTOR = "xvector"


@dataclass(frozen=True)
class Wav2Vec2Options(WindowOptions):
    """Options of `wav2vec2`; by default the x-vector of a model that has this head, and every layer of others."""

    layers: str | int = "auto"
    """``xvector``, the embedding of an x-vector head; or layers, averaged over the whole utterance: ``all``, ``last``,
    a number N, or a range N-M; 0 is the input of the first transformer layer. ``auto`` is ``xvector`` if the model has
    this head, otherwise ``all``."""
    pooling: str = "mean"
    """``mean`` over time, or ``mean+std``: mean and standard deviation over time, concatenated."""

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise EncoderError(unknown_choice("pooling", self.pooling, POOLINGS))
        if not re.fullmatch(r"auto|xvector|all|last|\d+(-\d+)?", str(self.layers)):
            raise EncoderError(f"layers is {self.layers!r}; expected xvector, all, last, a number N, or a range N-M.")
        object.__setattr__(self, "layers", str(self.layers))  # 7 and "7" give one spec
        super().__post_init__()


class Wav2Vec2Encoder(Encoder):
    """A frozen checkpoint of wav2vec2, XLSR, HuBERT, WavLM, data2vec-audio or UniSpeech-SAT, with 16 kHz as input.

    The output is one vector per layer, or the x-vector of a checkpoint that was trained to tell speakers apart
    (`networks.XVectorHead`), which is not normalised.

    Each utterance is normalised to zero mean and unit variance if the checkpoint's preprocessor requires it. Each layer
    is pooled over time in fp32 as soon as it is computed; the highest layer is the output of the network. Heads for
    CTC and pre-training are ignored; a checkpoint with other layers is refused.

    An utterance has the same vectors in any batch. In transformers, checkpoints with group norm (wav2vec2-base,
    HuBERT-base) give other vectors if the utterance is padded.
    """

    Options = Wav2Vec2Options
    precisions = tuple(DTYPES)
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 64, "mps": 8}
    batch_seconds: ClassVar[dict[str, float]] = {"cuda": 320.0, "mps": 40.0}

    def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
        super().__init__(spec, weights, device)
        folder = model_folder(weights or DEFAULT_WEIGHTS)
        self.pooling: str = spec["options"]["pooling"]
        self.normalises = bool(spec["normalises"])
        model = load_speech_model(folder)
        check_digest(folder, model.digest, spec["weights"])
        self.head = model.head if spec["options"]["layers"] == XVECTOR else None
        self.network = SpeechNetwork(
            model.network,
            DTYPES[spec["precision"]],
            model.network.config.num_hidden_layers if self.head is not None else max(spec["layers"]),
            reads_final_norm=self.head is None or model.reads_final_norm,
        )

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> str | Path | None:
        return find_model(weights or DEFAULT_WEIGHTS, download)

    @classmethod
    def describe(cls, weights: str | Path | None, options: Wav2Vec2Options) -> Spec:
        weights = weights or DEFAULT_WEIGHTS
        folder = model_folder(weights)
        config = read_config(folder)
        has_head = has_xvector_head(config)
        layers = options.layers if options.layers != "auto" else XVECTOR if has_head else "all"
        if layers == XVECTOR and not has_head:
            raise EncoderError(
                f"{folder}: layers is {XVECTOR!r}, but this model has no x-vector head; choose all, last, a number N, "
                "or a range N-M."
            )
        if layers == XVECTOR:
            found = _describe_xvector(folder, options)
        else:
            numbers = _layer_numbers(str(layers), config["num_hidden_layers"], folder)
            layers = f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
            found = {
                "dim": 2 * config["hidden_size"] if options.pooling == "mean+std" else config["hidden_size"],
                "layers": numbers,
                "weights": describe_speech_model(folder)["weights"],
            }
        return {
            "name": "wav2vec2",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            **found,
            "source": None if Path(weights).is_dir() else str(weights),
            "normalises": normalises_input(folder),
            "trained_on": training_corpora(weights),
            "options": {**asdict(options), "layers": layers, "hop": options.resolved_hop()},
        }

    def _check(self, waveform: Tensor, number: int) -> Tensor:
        checked = super()._check(waveform, number)
        if self.head is not None:
            refuse_silence(checked, number)
        return checked

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        waveforms, lengths = self._prepare(waveforms, lengths)
        n_frames = self.network.n_frames(lengths)
        with exact_cudnn(self.device):
            if self.head is not None:
                return self.head(self._average(waveforms, lengths, self.head.layer_weights), n_frames)  # type: ignore[no-any-return]
            return self._pooled(waveforms, lengths, n_frames)

    def _average(self, waveforms: Tensor, lengths: Tensor, weights: Sequence[float]) -> Tensor:
        """Return the average of all layers with these weights (batch, frames, width)."""
        average: list[Tensor] = []

        def read(number: int, hidden: Tensor) -> None:
            if weights[number] != 0:
                average.append(weights[number] * hidden.float() + (average.pop() if average else 0))

        self.network(waveforms, lengths, read)
        return average[0]

    def _pooled(self, waveforms: Tensor, lengths: Tensor, n_frames: Tensor) -> Tensor:
        """Return the mean over time of the selected layers (batch, dim) or (batch, layers, dim)."""
        pooled: dict[int, Tensor] = {}
        pool = masked_mean if self.pooling == "mean" else masked_statistics

        def read(number: int, hidden: Tensor) -> None:
            if number in self.layers:
                pooled[number] = pool(hidden.float(), n_frames)

        self.network(waveforms, lengths, read)
        vectors = torch.stack([pooled[number] for number in self.layers], dim=1)
        return vectors if len(self.layers) > 1 else vectors[:, 0]

    def _prepare(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise each utterance with its own mean and variance, and pad utterances shorter than one frame."""
        min_length = self.network.receptive_field()
        if self.normalises:
            waveforms = normalize_waveforms(waveforms, lengths)
        waveforms = functional.pad(waveforms, (0, max(min_length - waveforms.shape[1], 0)))
        return waveforms, lengths.clamp_min(min_length)


def _describe_xvector(folder: Path, options: Wav2Vec2Options) -> Spec:
    """Return the part of the spec that describes x-vectors; options that do not fit are refused."""
    if options.pooling != "mean":
        raise EncoderError(
            f"{folder}: pooling is {options.pooling!r}, but the x-vector head of this model has its own pooling; give "
            "layers too (such as --layers all) to pool layers."
        )
    found = describe_speech_model(folder)
    min_seconds = found["min_samples"] / SAMPLE_RATE
    if options.window is not None and options.window < min_seconds:
        raise EncoderError(
            f"{folder}: window is {options.window:g} s; the x-vector head of this model needs at least "
            f"{min_seconds:g} s."
        )
    return {"dim": found["dim"], "layers": [], "weights": found["weights"], "min_seconds": min_seconds}


def _layer_numbers(layers: str, n_layers: int, folder: Path) -> list[int]:
    if layers == "all":
        return list(range(n_layers + 1))
    if layers == "last":
        return [n_layers]
    first, _, last = str(layers).partition("-")
    numbers = list(range(int(first), int(last or first) + 1))
    if not numbers:
        raise EncoderError(f"layers is {layers!r}; expected a range N-M with N <= M.")
    if numbers[-1] > n_layers:
        raise EncoderError(f"{folder}: layers is {layers!r}; this model has the layers 0 to {n_layers}.")
    return numbers
