"""The `resemblyzer` encoder: the LSTM of Resemblyzer, which was trained to tell speakers apart."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from audio import check_webrtc_vad, remove_long_silences
from encoders.base import CPU, Encoder, EncoderError, refuse_silence
from encoders.checkpoint_file import check_tensors, load_checkpoint, require_file
from encoders.device import exact_cudnn, map_in_threads
from encoders.spec import Spec
from encoders.training_corpora import training_corpora
from encoders.weights import check_digest, tensors_digest
from files import WheelFile, remembered
from networks import PartialMels, ResemblyzerLstm

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16_000
# Shorter recordings are refused (seconds).
MIN_SECONDS = 0.025
# Quieter recordings are raised to this level, the root of the mean square at full scale 1: -30 dB.
LEVEL = 10 ** (-30 / 20)
DEFAULT_WEIGHTS = WheelFile(
    error_class=EncoderError,
    package="Resemblyzer",
    version="0.1.4",
    member="resemblyzer/pretrained.pt",
    sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
    n_bytes=17_090_379,
    megabytes=16,
    platform="any",
    python="3.11",
    mirror="https://github.com/resemble-ai/Resemblyzer/raw/master/resemblyzer/pretrained.pt",
    saved_as="resemblyzer_pretrained.pt",
)
FILE_KIND = "a checkpoint of Resemblyzer or of the encoder of Real-Time-Voice-Cloning"
# Parts of the network; the checkpoint also holds parameters of the training.
PARTS = ("lstm.", "linear.")
# Maximum number of partial utterances per pass of the network. On a CPU, more are not faster.
CPU_ROWS, GPU_ROWS = 16, 512
# With fewer partials, CPUs compute with other kernels, which round differently and are slow.
MIN_ROWS = 4


@dataclass(frozen=True)
class ResemblyzerOptions:
    """Options of `resemblyzer`."""

    vad: Literal["webrtc"] | None = None
    """Speech detection that removes long silences: ``webrtc``, as in Resemblyzer, or None."""


class ResemblyzerEncoder(Encoder):
    """The speaker encoder of Resemblyzer 0.1.4: 16 kHz in, one vector of 256 numbers out, which the cosine compares.

    1. Raise recordings below -30 dB to this level.
    2. Remove long silences with the speech detection of WebRTC, if the option ``vad`` is ``webrtc``.
    3. Compute mel power spectrograms of partial utterances of 1.6 s, one every 0.77 s (`networks.PartialMels`).
    4. Compute the network (`networks.ResemblyzerLstm`), average the vectors, and scale the mean to unit length.

    On a CPU each core computes some partials with one thread, so vectors do not depend on the number of threads.
    """

    Options = ResemblyzerOptions
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    batch_size: ClassVar[dict[str, int]] = {"cpu": 64, "cuda": 64, "mps": 32}
    batch_seconds: ClassVar[dict[str, float]] = {"cpu": 960.0, "cuda": 3_600.0, "mps": 960.0}
    max_duration: ClassVar[float | None] = None

    def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
        super().__init__(spec, weights, device)
        path = _require(weights)
        state = load_resemblyzer(path)
        check_digest(path, tensors_digest(state), spec["weights"])
        self.network = _build(path, state)
        if spec["precision"] == "bf16":
            self.network.lstm.bfloat16()
        self.front_end = PartialMels()
        self._has_warned = False  # about recordings without speech

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> Path | None:
        if weights is None:
            return DEFAULT_WEIGHTS.find(download)
        return require_file(
            weights, f"Give {FILE_KIND} as --encoder_weights, or omit this option to use the published weights."
        )

    @classmethod
    def describe(cls, weights: str | Path | None, options: ResemblyzerOptions) -> Spec:
        path = _require(weights)
        if options.vad is not None:
            check_webrtc_vad()

        def read_checkpoint() -> Spec:
            state = load_resemblyzer(path)
            return {"weights": tensors_digest(state), "dim": _build(path, state).dim}

        found = remembered(path, "resemblyzer 1", read_checkpoint)
        return {
            "name": "resemblyzer",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            "layers": [],
            **found,
            "min_seconds": MIN_SECONDS,
            "trained_on": training_corpora(path, found["weights"]),
            "options": asdict(options),
        }

    @property
    def clips_per_call(self) -> int:
        # Only as many as keep all threads busy, because recordings are whole and may be long.
        return min(8 * torch.get_num_threads(), 64) if self.device.type == "cpu" else self._max_clips()

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        # `_windows` has raised their level and removed silences, which needs samples on the CPU.
        parts = self._map(
            self.front_end, [wave[:length] for wave, length in zip(waveforms, lengths.tolist(), strict=True)]
        )
        blocks = self._blocks(torch.cat(parts))
        vectors = torch.cat(self._map(self._embed_block, blocks))
        means = [each.mean(0) for each in torch.split(vectors, [len(part) for part in parts])]
        return normalize(torch.stack(means), dim=1)

    def _map(self, function: Callable[[Tensor], Tensor], items: Sequence[Tensor]) -> list[Tensor]:
        if self.device.type == "cpu":
            return map_in_threads(function, items, torch.get_num_threads())
        with exact_cudnn(self.device):
            return [function(item) for item in items]

    def _blocks(self, partials: Tensor) -> Sequence[Tensor]:
        """Divide partials into blocks of nearly equal size; on a CPU, there are as many for each thread."""
        if self.device.type != "cpu":
            return torch.split(partials, GPU_ROWS)
        n_threads = torch.get_num_threads()
        n_blocks = min(n_threads * math.ceil(len(partials) / (CPU_ROWS * n_threads)), len(partials) // MIN_ROWS)
        return torch.tensor_split(partials, max(n_blocks, 1))

    def _embed_block(self, partials: Tensor) -> Tensor:
        missing = max(MIN_ROWS - len(partials), 0)
        vectors: Tensor = self.network(pad(partials, (0, 0, 0, 0, 0, missing)))
        return vectors[: len(partials)]

    def _windows(self, waveform: Tensor) -> list[Tensor]:
        loud = waveform * max(LEVEL / _root_mean_square(waveform), 1.0)
        if self.spec["options"]["vad"] is None:
            return [loud]
        speech = remove_long_silences(loud.cpu())
        if len(speech):
            return [speech]
        if not self._has_warned:
            self._has_warned = True
            logger.warning("The speech detection found no speech in a recording, which is embedded whole.")
        return [loud]

    def _check(self, waveform: Tensor, number: int) -> Tensor:
        checked = super()._check(waveform, number)
        refuse_silence(checked, number)
        return checked


def _root_mean_square(waveform: Tensor) -> float:
    samples = waveform.cpu().numpy()  # PyTorch's sum depends on the number of threads
    return math.sqrt(np.einsum("i,i", samples, samples, dtype=np.float64) / len(samples))


def _require(weights: str | Path | None) -> Path:
    if weights is None:
        raise EncoderError(
            f"The encoder 'resemblyzer' needs weights: {DEFAULT_WEIGHTS.name} from {DEFAULT_WEIGHTS.mirror}."
        )
    return Path(weights)


def load_resemblyzer(path: Path) -> dict[str, Tensor]:
    """Read the tensors of the network from a checkpoint; no code in the file is run.

    Raises
    ------
    EncoderError
        The file is of another kind, or damaged.
    """
    model = load_checkpoint(path, "resemblyzer", kind=FILE_KIND, needs="model_state")["model_state"]
    if not isinstance(model, dict):
        raise EncoderError(
            f"{path}: its model_state is a {type(model).__name__}, so it is not {FILE_KIND}, which has a dict there."
        )
    state = {name: tensor for name, tensor in model.items() if str(name).startswith(PARTS)}
    check_tensors(path, state)
    return state


def _build(path: Path, state: dict[str, Tensor]) -> ResemblyzerLstm:
    try:
        return ResemblyzerLstm.from_state(state)
    except ValueError as error:
        raise EncoderError(f"{path}: this is not {FILE_KIND}: {str(error)[:300]}.") from error
