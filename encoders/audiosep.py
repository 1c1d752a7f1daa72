"""The `audiosep` encoder: the frozen audio tower of LAION's CLAP, as AudioSep uses it."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torchaudio
from torch import Tensor
from torch.nn import functional

from encoders.base import CPU, Encoder, EncoderError
from encoders.clap_checkpoint import load_audio_tower
from encoders.device import exact_cudnn
from encoders.spec import Spec
from encoders.training_corpora import training_corpora
from encoders.weights import HubFile, check_digest, find_weights_file
from encoders.window_options import WindowOptions
from files import remembered
from networks import CLIP_SAMPLE_RATE as CLAP_RATE
from networks import CLIP_SAMPLES

SAMPLE_RATE = 32_000  # AudioSep's rate; its query encoder resamples to CLAP's rate
CLIP_SECONDS = CLIP_SAMPLES / CLAP_RATE
DEFAULT_WEIGHTS = HubFile("lukewys/laion_clap", "music_speech_audioset_epoch_15_esc_89.98.pt", "about 2.4 GB")
# Names of the files in which laion_clap and AudioSep distribute this audio tower.
FILE_NAMES = (
    "music_speech_audioset_epoch_15_esc_89.98.pt",
    "music_speech_audioset_epoch_15_esc_89.98.safetensors",
    "audiosep_base_4M_steps.ckpt",
    "pytorch_model.bin",
)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class AudioSepOptions(WindowOptions):
    """Options of `audiosep`; by default the first 10 s are embedded as one clip."""

    max_window: ClassVar[float] = CLIP_SECONDS


class AudioSepEncoder(Encoder):
    """The audio tower of CLAP as AudioSep's query encoder: 32 kHz in, one vector of 512 numbers and unit length out.

    1. Resample the waveform to 48 kHz.
    2. Repeat a clip shorter than 10 s as many whole times as fit into 10 s, and pad it with zeros. Cut a longer clip to
       its first 10 s (AudioSep and laion_clap crop at random).
    3. Compute log-mel spectrogram, HTSAT and projection (`networks.AudioTower`).

    Waveforms are not quantised to 16 bits; laion_clap's function that embeds files quantises them. In bf16 and fp16 the
    matrix products are computed in that precision, everything else in fp32.
    """

    Options = AudioSepOptions
    precisions = tuple(DTYPES)
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 64, "mps": 16}

    def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
        super().__init__(spec, weights, device)
        self.tower, digest, _ = load_audio_tower(_require(weights), DTYPES[spec["precision"]])
        check_digest(_require(weights), digest, spec["weights"])

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> Path | None:
        if weights is None:
            return find_weights_file(FILE_NAMES, DEFAULT_WEIGHTS, download)
        path = Path(weights)
        if path.is_dir():
            for name in FILE_NAMES:
                if (path / name).is_file():
                    return path / name
            found = ", ".join(sorted(file.name for file in path.iterdir())[:5]) or "nothing"
            raise EncoderError(
                f"{path}: this folder has none of {', '.join(FILE_NAMES)}; it has {found}. Give the path of the file."
            )
        if not path.is_file():
            raise EncoderError(
                f"{path}: no such file. Give a CLAP checkpoint as --encoder_weights, or omit this option to use the "
                "published weights."
            )
        return path

    @classmethod
    def describe(cls, weights: str | Path | None, options: AudioSepOptions) -> Spec:
        path = _require(weights)

        def read_checkpoint() -> Spec:
            _, digest, dim = load_audio_tower(path)
            return {"weights": digest, "dim": dim}

        return {
            "name": "audiosep",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            "layers": [],
            **remembered(path, "audiosep tower 1", read_checkpoint),
            "clip_seconds": CLIP_SECONDS,
            "trained_on": training_corpora(DEFAULT_WEIGHTS.name if path.name in FILE_NAMES else path),
            "options": {**asdict(options), "hop": options.resolved_hop()},
        }

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        # Without these flags some GPUs convolve in TF32 and select kernels by timing, which is not deterministic.
        with exact_cudnn(self.device):
            return self.tower(self.tower.log_mel(self._clips(waveforms, lengths)))  # type: ignore[no-any-return]

    @staticmethod
    def _clips(waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Return clips of 10 s at 48 kHz (batch, CLIP_SAMPLES)."""
        resampled: Tensor = torchaudio.functional.resample(waveforms, SAMPLE_RATE, CLAP_RATE)
        clips = resampled.new_zeros(len(resampled), CLIP_SAMPLES)
        for clip, waveform, length in zip(clips, resampled, lengths.tolist(), strict=True):
            length = min(math.ceil(length * CLAP_RATE / SAMPLE_RATE), CLIP_SAMPLES)
            n_repeats = CLIP_SAMPLES // length
            clip[: n_repeats * length] = waveform[:length].repeat(n_repeats)
        return clips

    def merge(self, vectors: Tensor) -> Tensor:
        return functional.normalize(super().merge(vectors), dim=-1)


def _require(weights: str | Path | None) -> Path:
    if weights is None:
        raise EncoderError(f"The encoder 'audiosep' needs weights: {DEFAULT_WEIGHTS.name} from {DEFAULT_WEIGHTS.url}.")
    return Path(weights)
