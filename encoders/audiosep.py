"""AudioSep's CLAP: the audio tower of LAION's CLAP, frozen."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torchaudio
from torch import Tensor
from torch.nn import functional

from encoders.base import Encoder, EncoderError
from encoders.clap_checkpoint import load_audio_tower
from encoders.laion_htsat import CLIP_SAMPLES
from encoders.laion_htsat import SAMPLE_RATE as CLAP_RATE
from encoders.spec import Spec
from encoders.weights import HubFile, check_digest, find_weights_file, remembered
from encoders.windows import WindowOptions

SAMPLE_RATE = 32_000  # AudioSep's; its query encoder resamples to CLAP's
CLIP_SECONDS = CLIP_SAMPLES / CLAP_RATE
DEFAULT_WEIGHTS = HubFile("lukewys/laion_clap", "music_speech_audioset_epoch_15_esc_89.98.pt", "about 2.4 GB")
# Names under which laion_clap and AudioSep distribute this same audio tower.
FILE_NAMES = (
    "music_speech_audioset_epoch_15_esc_89.98.pt",
    "music_speech_audioset_epoch_15_esc_89.98.safetensors",
    "audiosep_base_4M_steps.ckpt",
    "pytorch_model.bin",
)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class AudioSepOptions(WindowOptions):
    """By default the first 10 s are embedded, in one clip."""

    longest: ClassVar[float] = CLIP_SECONDS


class AudioSepEncoder(Encoder):
    """The frozen audio tower of CLAP, as AudioSep's query encoder uses it: 32 kHz in, 512 numbers of unit length out.

    The waveform is resampled to 48 kHz. A clip shorter than 10 s is repeated as many whole times as fit, and padded
    with zeros; of a longer one the first 10 s are taken (AudioSep and laion_clap take a random crop). Then log-mel,
    HTSAT and projection, as in `encoders.htsat`. There is no quantisation to 16 bits, which laion_clap's own file API
    has.

    In bf16 and fp16 the network's matrix products are computed in that precision, all else in fp32.
    """

    Options = AudioSepOptions
    precisions = tuple(DTYPES)
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 64, "mps": 16}

    def __init__(self, spec: Spec, weights: str | Path | None = None) -> None:
        super().__init__(spec)
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
            there = ", ".join(sorted(file.name for file in path.iterdir())[:5]) or "nothing"
            raise EncoderError(
                f"{path}: this folder has none of {', '.join(FILE_NAMES)}, but {there}; name the file itself."
            )
        if not path.is_file():
            raise EncoderError(f"{path}: no such file. Give a CLAP checkpoint as --encoder_weights, or leave it out.")
        return path

    @classmethod
    def describe(cls, weights: str | Path | None, options: AudioSepOptions) -> Spec:
        path = _require(weights)

        def facts() -> Spec:
            _, digest, dim = load_audio_tower(path)
            return {"weights": digest, "dim": dim}

        return {
            "name": "audiosep",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            "layers": [],
            **remembered(path, "audiosep tower 1", facts),
            "clip_seconds": CLIP_SECONDS,
            "options": {**asdict(options), "hop": options.resolved_hop()},
        }

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        # Some GPUs would convolve in TF32 and choose their kernels by the clock.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
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
        raise EncoderError(f"The encoder 'audiosep' needs weights: {DEFAULT_WEIGHTS.name}, from {DEFAULT_WEIGHTS.url}.")
    return Path(weights)
