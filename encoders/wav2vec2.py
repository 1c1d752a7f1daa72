"""The `wav2vec2` encoder: layers of a frozen speech model of the wav2vec2 family, pooled over time."""

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

from encoders.base import CPU, Encoder, EncoderError
from encoders.hub_model import CONFIG, PREPROCESSOR, find_model, model_folder, read_json, weight_paths
from encoders.spec import Spec
from encoders.weights import check_digest, first_line, remembered, tensors_digest
from encoders.window_options import WindowOptions
from files import unknown_choice
from networks import SpeechNetwork, masked_mean, masked_statistics, normalize_waveforms

logger = logging.getLogger(__name__)

DEFAULT_WEIGHTS = "facebook/wav2vec2-base"
SAMPLE_RATE = 16_000
# Supported values of model_type in config.json.
FAMILIES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
POOLINGS = ("mean", "mean+std")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Settings of a model that change its output.
SETTINGS = (
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "conv_dim", "conv_kernel", "conv_stride", "conv_bias", "feat_extract_norm", "feat_extract_activation",
    "feat_proj_layer_norm", "do_stable_layer_norm", "layer_norm_eps", "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups", "conv_pos_batch_norm", "conv_pos_kernel_size", "num_buckets",
    "max_bucket_distance", "adapter_attn_dim",
)  # fmt: skip
# Weights that are used in training only.
UNUSED = re.compile(r"masked_spec_embed$|^adapter\.|num_batches_tracked$")
# Heads of checkpoints for speech recognition (CTC) and of pre-training, which are left out.
LEFT_OUT = re.compile(r"^(lm_head|quantizer|project_q|project_hid)\.")


@dataclass(frozen=True)
class Wav2Vec2Options(WindowOptions):
    """Options of `wav2vec2`; by default every layer is returned, averaged over the whole utterance."""

    layers: str | int = "all"
    """``all``, ``last``, a number N, or a range N-M; 0 is the input of the first transformer layer."""
    pooling: str = "mean"
    """``mean`` over time, or ``mean+std``: mean and standard deviation over time, concatenated."""

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise EncoderError(unknown_choice("pooling", self.pooling, POOLINGS))
        if not re.fullmatch(r"all|last|\d+(-\d+)?", str(self.layers)):
            raise EncoderError(f"layers is {self.layers!r}; expected all, last, a number N, or a range N-M.")
        object.__setattr__(self, "layers", str(self.layers))  # 7 and "7" give one spec
        super().__post_init__()


class Wav2Vec2Encoder(Encoder):
    """A frozen checkpoint of wav2vec2, XLSR, HuBERT, WavLM or data2vec-audio: 16 kHz in, one vector per layer out.

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
        model, digest = load_speech_model(folder)
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
        layers = _layer_numbers(str(options.layers), config["num_hidden_layers"], folder)
        layer_range = f"{layers[0]}-{layers[-1]}" if len(layers) > 1 else str(layers[0])
        return {
            "name": "wav2vec2",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            "dim": 2 * config["hidden_size"] if options.pooling == "mean+std" else config["hidden_size"],
            "layers": layers,
            "weights": model_digest(folder),
            "source": None if Path(weights).is_dir() else str(weights),
            "normalises": normalises_input(folder),
            "options": {**asdict(options), "layers": layer_range, "hop": options.resolved_hop()},
        }

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        waveforms, lengths = self._prepare(waveforms, lengths)
        n_frames = self.network.n_frames(lengths)
        pooled: dict[int, Tensor] = {}
        pool = masked_mean if self.pooling == "mean" else masked_statistics

        def read(number: int, hidden: Tensor) -> None:
            if number in self.layers:
                pooled[number] = pool(hidden.float(), n_frames)

        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
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


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / CONFIG)
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise EncoderError(
            f"{folder}: this is a model of type {model_type!r}; expected a speech model: {', '.join(FAMILIES)}."
        )
    # The defaults of transformers for settings that the file omits.
    config = {"num_hidden_layers": 12, "hidden_size": 768, **config}
    for name in ("num_hidden_layers", "hidden_size"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise EncoderError(
                f"{folder / CONFIG}: {name} is {config[name]!r}; expected a positive whole number. Download it again."
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
        raise EncoderError(f"layers is {layers!r}; expected a range N-M with N <= M.")
    if numbers[-1] > n_layers:
        raise EncoderError(f"{folder}: layers is {layers!r}; this model has the layers 0 to {n_layers}.")
    return numbers


def normalises_input(folder: Path) -> bool:
    """Return whether the checkpoint expects normalised waveforms; the default is yes."""
    if not (folder / PREPROCESSOR).is_file():
        logger.warning("%s: there is no %s; waveforms are normalised, as most models expect.", folder, PREPROCESSOR)
        return True
    settings = read_json(folder / PREPROCESSOR)
    if settings.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise EncoderError(
            f"{folder}: this model takes audio at {settings['sampling_rate']} Hz; expected {SAMPLE_RATE} Hz."
        )
    return bool(settings.get("do_normalize", True))


def model_digest(folder: Path) -> str:
    """Return the digest of a model, which is remembered for its files."""
    _read_config(folder)
    paths = [folder / CONFIG, *weight_paths(folder)]
    found = remembered(paths, "wav2vec2 family 3", lambda: {"weights": load_speech_model(folder)[1]})
    return str(found["weights"])


def load_speech_model(folder: Path) -> tuple[nn.Module, str]:
    """Load the network of a checkpoint; return it with a digest of its weights and of the settings that it uses.

    A checkpoint without all weights of the network is refused, and so is one with weights that would be ignored, except
    for heads of CTC and of pre-training.
    """
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_log: Any = transformers_logging
    _read_config(folder)
    weight_paths(folder)
    verbosity = transformers_log.get_verbosity()
    transformers_log.set_verbosity_error()  # missing weights are reported below, by name
    transformers_log.disable_progress_bar()
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
    except Exception as error:  # transformers, torch and safetensors raise errors of any type
        raise EncoderError(
            f"{folder}: this model cannot be loaded ({first_line(error)}); download it again."
        ) from error
    finally:
        transformers_log.set_verbosity(verbosity)
        transformers_log.enable_progress_bar()
    missing = sorted(key for key in info["missing_keys"] if not UNUSED.search(key))
    if missing:
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise EncoderError(f"{folder}: the weights lack {missing[0]}{others}; expected all weights of a speech model.")
    unexpected = sorted(key for key in info["unexpected_keys"] if not LEFT_OUT.match(key) and not UNUSED.search(key))
    if unexpected:
        others = f" (and {len(unexpected) - 1} more)" if len(unexpected) > 1 else ""
        architectures = read_json(folder / CONFIG).get("architectures")
        kind = architectures[0] if isinstance(architectures, list) and architectures else "a model with other layers"
        raise EncoderError(
            f"{folder}: this is {kind}, whose {unexpected[0]}{others} would be ignored; expected a speech model "
            "without other layers than a head for CTC or pre-training. Use the model that it was made from (for "
            "microsoft/wavlm-base-plus-sv, this is microsoft/wavlm-base-plus)."
        )
    used = {key: value for key, value in model.state_dict().items() if not UNUSED.search(key)}
    settings = json.dumps([getattr(model.config, name, None) for name in SETTINGS])
    digest = hashlib.sha256(f"{tensors_digest(used)} {settings}".encode()).hexdigest()
    return model.eval().requires_grad_(False), digest


def _attention(folder: Path) -> str:
    return "eager" if _read_config(folder)["model_type"] == "wavlm" else "sdpa"
