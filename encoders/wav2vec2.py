"""The wav2vec2 family: every layer of a frozen speech model, pooled over time."""

import hashlib
import json
import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.base import Encoder, EncoderError
from encoders.hub_model import CONFIG, PREPROCESSOR, find_model, model_folder, read_json, weight_paths
from encoders.spec import Spec
from encoders.wav2vec2_network import SpeechNetwork
from encoders.weights import check_digest, first_line, remembered, tensors_digest
from encoders.windows import WindowOptions

logger = logging.getLogger(__name__)

DEFAULT_WEIGHTS = "facebook/wav2vec2-base"
SAMPLE_RATE = 16_000
# model_type in config.json; transformers has a class for each.
FAMILIES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
POOLINGS = ("mean", "mean+std")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# What of a model's settings the network computes by.
SETTINGS = (
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "conv_dim", "conv_kernel", "conv_stride", "conv_bias", "feat_extract_norm", "feat_extract_activation",
    "feat_proj_layer_norm", "do_stable_layer_norm", "layer_norm_eps", "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups", "conv_pos_batch_norm", "conv_pos_kernel_size", "num_buckets",
    "max_bucket_distance", "adapter_attn_dim",
)  # fmt: skip
# Weights that play no part once training is over.
UNUSED = re.compile(r"masked_spec_embed$|^adapter\.|num_batches_tracked$")


@dataclass(frozen=True)
class Wav2Vec2Options(WindowOptions):
    """By default every layer is returned, averaged over the whole utterance."""

    layers: str = "all"
    """``all``, ``last``, a number N, or a range N-M; 0 is the input of the first transformer layer."""
    pooling: str = "mean"
    """``mean``, or ``mean+std``: mean and standard deviation over time, one after the other."""

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise EncoderError(f"There is no pooling {self.pooling!r}; choose one of: {', '.join(POOLINGS)}.")
        if not re.fullmatch(r"all|last|\d+(-\d+)?", str(self.layers)):
            raise EncoderError(f"layers is {self.layers!r}; expected all, last, a number N, or a range N-M.")
        super().__post_init__()


class Wav2Vec2Encoder(Encoder):
    """A frozen checkpoint of wav2vec2, XLSR, HuBERT, WavLM or data2vec-audio; 16 kHz in, one vector a layer out.

    Each utterance is normalised to zero mean and unit variance where the checkpoint's preprocessor says so. The layers
    are pooled over time as they are computed, in fp32. A batch gives what its utterances give alone: upstream,
    checkpoints with group norm (wav2vec2-base, HuBERT-base) let padding into their output. Layer L is the network's
    output; of CTC and other heads nothing is read.
    """

    Options = Wav2Vec2Options
    precisions = tuple(DTYPES)
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 64, "mps": 8}
    batch_seconds: ClassVar[dict[str, float]] = {"cuda": 320.0, "mps": 40.0}

    def __init__(self, spec: Spec, weights: str | Path | None = None) -> None:
        super().__init__(spec)
        folder = model_folder(weights or DEFAULT_WEIGHTS)
        self.pooling: str = spec["options"]["pooling"]
        self.normalises = bool(spec["normalises"])
        model, digest = _load(folder)
        check_digest(folder, digest, spec["weights"])
        self.network = SpeechNetwork(model, DTYPES[spec["precision"]], max(spec["layers"]))

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> str | Path | None:
        return find_model(weights or DEFAULT_WEIGHTS, download)

    @classmethod
    def describe(cls, weights: str | Path | None, options: Wav2Vec2Options) -> Spec:
        weights = weights or DEFAULT_WEIGHTS
        folder = model_folder(weights)
        config = _read_config(folder)
        layers = _layer_numbers(options.layers, config["num_hidden_layers"], folder)
        paths = weight_paths(folder)
        facts = remembered([folder / CONFIG, *paths], "wav2vec2 family 2", lambda: {"weights": _load(folder)[1]})
        chosen = f"{layers[0]}-{layers[-1]}" if len(layers) > 1 else str(layers[0])
        return {
            "name": "wav2vec2",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            "dim": int(config["hidden_size"]) * (1 + options.pooling.count("+")),
            "layers": layers,
            **facts,
            "source": None if Path(weights).is_dir() else str(weights),
            "normalises": _normalises(folder),
            "options": {**asdict(options), "layers": chosen, "hop": options.resolved_hop()},
        }

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        waveforms, lengths = self._prepare(waveforms, lengths)
        n_frames = self.network.n_frames(lengths)
        pooled: dict[int, Tensor] = {}

        def read(number: int, hidden: Tensor) -> None:
            if number in self.layers:
                pooled[number] = _pool(hidden, n_frames, self.pooling)

        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            self.network(waveforms, lengths, read)
        vectors = torch.stack([pooled[number] for number in self.layers], dim=1)
        return vectors if len(self.layers) > 1 else vectors[:, 0]

    def _prepare(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise each utterance by its own samples, and pad what is shorter than one frame."""
        shortest = self.network.receptive_field()
        if self.normalises:
            valid = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None]
            centred = waveforms - waveforms.sum(1, keepdim=True) / lengths[:, None]
            centred = torch.where(valid, centred, 0)
            variance = centred.square().sum(1, keepdim=True) / lengths[:, None]
            waveforms = centred / (variance + 1e-7).sqrt()
        waveforms = functional.pad(waveforms, (0, max(shortest - waveforms.shape[1], 0)))
        return waveforms, lengths.clamp_min(shortest)


def _pool(hidden: Tensor, n_frames: Tensor, pooling: str) -> Tensor:
    """Pool hidden states (batch, frames, width) over the valid frames: (batch, width), or (batch, 2 width) with std."""
    hidden = hidden.float()
    valid = (torch.arange(hidden.shape[1], device=hidden.device) < n_frames[:, None])[..., None]
    mean = torch.where(valid, hidden, 0).sum(1) / n_frames[:, None]
    if pooling == "mean":
        return mean
    variance = torch.where(valid, hidden - mean[:, None], 0).square().sum(1) / n_frames[:, None]
    return torch.cat([mean, variance.sqrt()], dim=1)


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / CONFIG)
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise EncoderError(
            f"{folder}: this is a model of type {kind!r}; expected a speech model of one of {', '.join(FAMILIES)}."
        )
    # What a config leaves out is transformers' default.
    config = {"num_hidden_layers": 12, "hidden_size": 768, **config}
    for name in ("num_hidden_layers", "hidden_size"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise EncoderError(
                f"{folder / CONFIG}: {name} is {config[name]!r}; expected a whole number. Download it again."
            )
    return config


def _layer_numbers(layers: str, n_layers: int, folder: Path) -> list[int]:
    if layers == "all":
        return list(range(n_layers + 1))
    if layers == "last":
        return [n_layers]
    first, _, last = str(layers).partition("-")
    numbers = list(range(int(first), int(last or first) + 1))
    if not numbers:
        raise EncoderError(f"layers is {layers!r}; expected the lower number first.")
    if numbers[-1] > n_layers:
        raise EncoderError(f"{folder}: this model has the layers 0 to {n_layers}; layers is {layers!r}.")
    return numbers


def _normalises(folder: Path) -> bool:
    """Tell whether the checkpoint wants normalised waveforms; without a word on it, it does."""
    if not (folder / PREPROCESSOR).is_file():
        logger.warning("%s: there is no %s; waveforms are normalised, as most models want.", folder, PREPROCESSOR)
        return True
    settings = read_json(folder / PREPROCESSOR)
    if settings.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise EncoderError(f"{folder}: it takes audio at {settings['sampling_rate']} Hz; expected {SAMPLE_RATE} Hz.")
    return bool(settings.get("do_normalize", True))


def _load(folder: Path) -> tuple[nn.Module, str]:
    """Load a checkpoint's network, and refuse one that lacks weights; return it with a digest of all it computes by."""
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    reports: Any = transformers_logging
    _read_config(folder)
    weight_paths(folder)
    verbosity = reports.get_verbosity()
    reports.set_verbosity_error()  # what it would tell is told below, by name
    reports.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            model, info = AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=torch.float32,
                attn_implementation=_attention(folder),
            )
    except Exception as error:  # of the files: transformers, torch and safetensors raise just about anything
        raise EncoderError(
            f"{folder}: this model cannot be loaded ({first_line(error)}); download it again."
        ) from error
    finally:
        reports.set_verbosity(verbosity)
        reports.enable_progress_bar()
    missing = sorted(key for key in info["missing_keys"] if not UNUSED.search(key))
    if missing:
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise EncoderError(f"{folder}: the weights lack {missing[0]}{others}; expected all of a speech model's.")
    used = {key: value for key, value in model.state_dict().items() if not UNUSED.search(key)}
    settings = json.dumps([getattr(model.config, name, None) for name in SETTINGS])
    digest = hashlib.sha256(f"{tensors_digest(used)} {settings}".encode()).hexdigest()
    return model.eval().requires_grad_(False), digest


def _attention(folder: Path) -> str:
    return "eager" if _read_config(folder)["model_type"] == "wavlm" else "sdpa"
