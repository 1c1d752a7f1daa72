"""Models of the wav2vec2 family in the format of transformers: check their settings, load and digest their weights."""

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.base import EncoderError
from encoders.hub_model import CONFIG, PREPROCESSOR, read_json, weight_paths
from encoders.weights import tensors_digest
from files import first_line, remembered
from networks import XVectorHead

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16_000
# Supported values of model_type in config.json.
FAMILIES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech-sat")
# Settings of a model that change its output.
SETTINGS = (
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "conv_dim", "conv_kernel", "conv_stride", "conv_bias", "feat_extract_norm", "feat_extract_activation",
    "feat_proj_layer_norm", "do_stable_layer_norm", "layer_norm_eps", "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups", "conv_pos_batch_norm", "conv_pos_kernel_size", "num_buckets",
    "max_bucket_distance", "adapter_attn_dim",
)  # fmt: skip
# Sizes of the layers of an x-vector head, with the defaults of transformers.
TDNN_SIZES = {"tdnn_dim": [512, 512, 512, 512, 1500], "tdnn_kernel": [5, 3, 3, 1, 1], "tdnn_dilation": [1, 2, 3, 1, 1]}
# Weights that are used in training only.
UNUSED = re.compile(r"masked_spec_embed$|^adapter\.|num_batches_tracked$")
UNUSED_IN_HEAD = ("classifier.", "objective.")
# Heads of checkpoints for speech recognition (CTC) and of pre-training, which are left out.
LEFT_OUT = re.compile(
    r"^(lm_head|quantizer|project_q|project_hid|speaker_proj|layer_norm_for_extract)\.|^label_embeddings_concat$"
)


@dataclass(frozen=True, eq=False)
class SpeechModel:
    """A model of the wav2vec2 family.

    Attributes
    ----------
    network : nn.Module
        The model of transformers, without a head.
    head : XVectorHead or None
        Its x-vector head, if it has one.
    digest : str
        Digest of the weights and of the settings that are used (64 hex digits).
    reads_final_norm : bool
        Whether the last layer, as the head takes it, includes the final norm of large models.
    """

    network: Any
    head: XVectorHead | None
    digest: str
    reads_final_norm: bool


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check ``config.json``, with the defaults of transformers for the numbers of layers and of dimensions.

    Raises
    ------
    EncoderError
        The model is of another family, or a setting is not valid.
    """
    config = read_json(folder / CONFIG)
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise EncoderError(
            f"{folder}: this is a model of type {model_type!r}; expected a speech model: {', '.join(FAMILIES)}."
        )
    config = {"num_hidden_layers": 12, "hidden_size": 768, **config}
    for name in ("num_hidden_layers", "hidden_size"):
        if not _is_size(config[name]):
            raise EncoderError(
                f"{folder / CONFIG}: {name} is {config[name]!r}; expected a positive whole number. Download it again."
            )
    if has_xvector_head(config):
        _check_head(folder, config)
    return config


def has_xvector_head(config: dict[str, Any]) -> bool:
    """Return whether a checkpoint with this ``config.json`` has an x-vector head."""
    return str(_architecture(config)).endswith("ForXVector")


def _architecture(config: dict[str, Any]) -> str | None:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else None


def _check_head(folder: Path, config: dict[str, Any]) -> None:
    sizes = {name: config.get(name, default) for name, default in TDNN_SIZES.items()}
    lengths = {len(each) if isinstance(each, list) and all(map(_is_size, each)) else 0 for each in sizes.values()}
    if len(lengths) > 1 or lengths == {0}:
        found = ", ".join(f"{name} is {size!r}" for name, size in sizes.items())
        raise EncoderError(
            f"{folder / CONFIG}: {found}; expected three lists of the same number of positive whole numbers. Download "
            "it again."
        )
    if config.get("add_adapter"):
        raise EncoderError(f"{folder / CONFIG}: add_adapter is true; an x-vector head on an adapter is not supported.")


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


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


def describe_speech_model(folder: Path) -> dict[str, Any]:
    """Load a model and describe it; the result is remembered for its files.

    Returns
    -------
    dict
        ``weights`` (digest), and for a model with an x-vector head ``dim`` and ``min_samples`` of its embeddings.
    """

    def describe() -> dict[str, Any]:
        model = load_speech_model(folder)
        if model.head is None:
            return {"weights": model.digest}
        samples = model.head.min_frames
        convolutions = zip(model.network.config.conv_kernel, model.network.config.conv_stride, strict=True)
        for kernel, stride in reversed(list(convolutions)):
            samples = (samples - 1) * stride + kernel
        return {"weights": model.digest, "dim": model.head.dim, "min_samples": samples}

    return remembered([folder / CONFIG, *weight_paths(folder)], "wav2vec2 family 4", describe)


def load_speech_model(folder: Path) -> SpeechModel:
    """Load the network of a checkpoint, and its x-vector head if ``config.json`` names one.

    A checkpoint without all weights of the network is refused, and so is one with weights that would be ignored, except
    for heads of CTC and of pre-training.

    Raises
    ------
    EncoderError
        The model is of another kind, or cannot be loaded.
    """
    config = read_config(folder)
    weight_paths(folder)
    is_xvector = has_xvector_head(config)
    model, info = _from_pretrained(folder, config)
    _check_weights(folder, config, info)
    network = getattr(model, model.base_model_prefix) if is_xvector else model
    used = {key: value for key, value in network.state_dict().items() if not UNUSED.search(key)}
    content = f"{tensors_digest(used)} {_settings_of(model, SETTINGS)}"
    reads_final_norm = _reads_final_norm(config)
    if is_xvector:
        content += f" {_head_digest(model)} {_settings_of(model, tuple(TDNN_SIZES))} {reads_final_norm}"
    return SpeechModel(
        network=network.eval().requires_grad_(False),
        head=XVectorHead(model).eval().requires_grad_(False) if is_xvector else None,
        digest=hashlib.sha256(content.encode()).hexdigest(),
        reads_final_norm=reads_final_norm,
    )


def _from_pretrained(folder: Path, config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Load a model with transformers; return it with the weights that are missing, unexpected or of another size."""
    from transformers import AutoModel, AutoModelForAudioXVector
    from transformers.utils import logging as transformers_logging

    transformers_log: Any = transformers_logging
    auto_class: Any = AutoModelForAudioXVector if has_xvector_head(config) else AutoModel
    verbosity = transformers_log.get_verbosity()
    transformers_log.set_verbosity_error()  # what is wrong with the weights is reported by name
    transformers_log.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            model, info = auto_class.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                attn_implementation="eager" if config["model_type"] == "wavlm" else "sdpa",
            )
    except Exception as error:  # transformers, torch and safetensors raise errors of any type
        raise EncoderError(
            f"{folder}: this model cannot be loaded ({first_line(error)}); download it again."
        ) from error
    finally:
        transformers_log.set_verbosity(verbosity)
        transformers_log.enable_progress_bar()
    return model, info


def _check_weights(folder: Path, config: dict[str, Any], info: dict[str, Any]) -> None:
    """Refuse weights of another size, missing weights, and weights that would be ignored."""
    is_xvector = has_xvector_head(config)

    def needs(key: str) -> bool:
        return not UNUSED.search(key) and not (is_xvector and key.startswith(UNUSED_IN_HEAD))

    resized = sorted((key, list(found), list(expected)) for key, found, expected in info["mismatched_keys"])
    for key, found, expected in (each for each in resized if needs(each[0])):
        raise EncoderError(
            f"{folder}: {key} has the shape {found} in the weights, but {expected} by the settings in {CONFIG}; "
            "download both again."
        )
    missing = sorted(filter(needs, info["missing_keys"]))
    if missing:
        kind = "a speech model with an x-vector head" if is_xvector else "a speech model"
        raise EncoderError(f"{folder}: the weights lack {_first_of(missing)}; expected all weights of {kind}.")
    unexpected = sorted(key for key in info["unexpected_keys"] if not LEFT_OUT.match(key) and not UNUSED.search(key))
    if unexpected:
        raise EncoderError(
            f"{folder}: this is {_architecture(config) or 'a model with other layers'}, whose "
            f"{_first_of(unexpected)} would be ignored; expected a speech model without other layers than a head for "
            "CTC, pre-training or x-vectors. Use the model that it was made from (for superb/wav2vec2-base-superb-sid, "
            "this is facebook/wav2vec2-base)."
        )


def _first_of(keys: list[str]) -> str:
    return keys[0] + (f" (and {len(keys) - 1} more)" if len(keys) > 1 else "")


def _settings_of(model: Any, names: tuple[str, ...]) -> str:
    return json.dumps([getattr(model.config, name, None) for name in names])


def _head_digest(model: Any) -> str:
    others = (f"{model.base_model_prefix}.", *UNUSED_IN_HEAD)
    tensors: dict[str, Tensor] = model.state_dict()
    return tensors_digest({key: tensor for key, tensor in tensors.items() if not key.startswith(others)})


def _reads_final_norm(config: dict[str, Any]) -> bool:
    """Return whether the average of layers that an x-vector head takes has the last layer after the final norm.

    Only large models have this norm. It is included in transformers 4, and in s3prl, where the published heads were
    trained; transformers 5 leaves it out.
    """
    version = str(config.get("transformers_version", "4"))
    is_left_out = re.match(r"([5-9]|\d{2,})\.", version) is not None
    return not (is_left_out and config.get("use_weighted_layer_sum") and config.get("do_stable_layer_norm"))
