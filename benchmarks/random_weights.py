"""Random weights for each encoder: of the published size, or tiny, as the tests use them.

An encoder that is added to the registry needs one more row in `MODELS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clap import SIZES
from benchmarks.wav2vec2 import Family, save_random_model
from encoders import PublishedNetwork, TrainedNetwork, default_spec
from networks import create_front_end, create_network, default_settings

Options = Mapping[str, Any]
NONE: Options = {}


@dataclass(frozen=True)
class Model:
    """A model that an encoder can have.

    Attributes
    ----------
    encoder : str
        Name in `ENCODERS`.
    write : callable or None
        Function that writes random weights to a path; its second argument asks for a tiny network. None: the encoder
        has no weights.
    is_default : bool
        Whether the published weights that the encoder finds are of this model.
    """

    encoder: str
    write: Callable[[Path, bool], object] | None
    is_default: bool = True

    def weights(self, path: Path, is_tiny: bool) -> tuple[Path | None, str]:
        """Return weights for `load_encoder`, with a word for them: ``published`` if they are on this machine.

        Otherwise, and for a tiny network, random weights are written to `path`.
        """
        if self.write is None:
            return None, "none"
        if self.is_default and not is_tiny and default_spec(self.encoder) is not None:
            return None, "published"
        self.write_random(path, is_tiny)
        return path, "random"

    def write_random(self, path: Path, is_tiny: bool = False) -> None:
        """Write random weights to a path, the same ones each time."""
        assert self.write is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.write(path, is_tiny)


def write_state(
    path: Path, is_tiny: bool, *, network: str, published: Options = NONE, tiny: Options = NONE, key: str | None = None
) -> None:
    """Write the checkpoint of a network whose state dict has the names of the published weights.

    Parameters
    ----------
    path : Path
        The file.
    is_tiny : bool
        Whether the network has the options `tiny` instead of `published`.
    network : str
        Class of the network, as ``module:Class``.
    published, tiny : mapping
        Options of its constructor.
    key : str, optional
        Key of the state dict in the file; by default the file is the state dict.
    """
    module, _, name = network.partition(":")
    built: nn.Module = getattr(import_module(module), name)(**(tiny if is_tiny else published))
    state = {each: _random_like(each, tensor) for each, tensor in built.state_dict().items()}
    torch.save(state if key is None else {key: state}, path)


def _random_like(name: str, tensor: Tensor) -> Tensor:
    """Return random values of the usual scale for a tensor of a state dict; not for filters and counters."""
    if "extractor" in name or not tensor.is_floating_point():
        return tensor
    if tensor.ndim > 1:
        return torch.randn(tensor.shape).div_((tensor.numel() / len(tensor)) ** 0.5)
    is_scale = name.endswith(("running_var", ".weight"))
    return torch.empty(tensor.shape).uniform_(0.5, 1.5) if is_scale else 0.1 * torch.randn(tensor.shape)


def write_speech_model(
    path: Path, is_tiny: bool, *, family: Family, form: str = "Model", published: Options = NONE
) -> None:
    """Write a model of the wav2vec2 family in the format of transformers."""
    save_random_model(family, path, form, **(TINY_SPEECH_MODEL if is_tiny else published))


def write_published(path: Path, is_tiny: bool, *, network: str, tiny: Options) -> None:
    """Write a network in the form of SpeakerRecognitionFromScratch."""
    tensors = create_network(network, PublishedNetwork.FRONT_END_OPTIONS["n_mfcc"], **(tiny if is_tiny else {}))
    PublishedNetwork(network=network, sizes={}, tensors=dict(tensors.state_dict())).save(path)


def write_trained(path: Path, is_tiny: bool, *, network: str, tiny: Options = NONE) -> None:
    """Write a network in the form of train_encoder.py."""
    settings, options = default_settings(network), dict(tiny) if is_tiny else {}
    front_end = create_front_end(settings["front_end"], **settings["front_end_options"])
    tensors = create_network(network, front_end.n_features, **options).state_dict()
    TrainedNetwork(
        network=network,
        network_options=options,
        front_end=settings["front_end"],
        front_end_options=settings["front_end_options"],
        window=settings["window"],
        tensors=dict(tensors),
    ).save(path)


WIDTH, DEPTHS, HEADS = SIZES["base"]
TINY_SPEECH_MODEL: Options = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "tdnn_dim": [16] * 5, "xvector_output_dim": 16,
}  # fmt: skip
TINY_ECAPA: Options = {
    "channels": 32, "pooled_channels": 48, "dim": 24, "attention_channels": 16, "gate_channels": 8,
}  # fmt: skip
HTSAT: Options = {"width": WIDTH, "depths": DEPTHS, "heads": HEADS, "dim": 512}
TINY_HTSAT: Options = {"width": 16, "depths": (1, 2, 1, 1), "heads": (1, 2, 2, 2), "dim": 24}

# Name -> model. Those of encoders that are not in the registry are left out. Large ones are last, so that `gpu.py` has
# the time for them that the others leave.
MODELS: dict[str, Model] = {
    "campplus": Model("campplus", partial(write_state, network="networks.campplus:CAMPlusPlus", tiny={"dim": 16})),
    "ecapa": Model("ecapa", partial(write_state, network="networks.ecapa:ECAPATDNN", tiny=TINY_ECAPA)),
    "resemblyzer": Model(
        "resemblyzer", partial(write_state, network="networks.resemblyzer:ResemblyzerLstm", key="model_state")
    ),
    "spectral": Model("spectral", None),
    "scratch (bilstm)": Model("scratch", partial(write_published, network="bilstm", tiny={"hidden": 8, "n_layers": 1})),
    "scratch (query_transformer)": Model(
        "scratch", partial(write_published, network="query_transformer", tiny={"width": 16, "feed_forward": 24})
    ),
    "trained (conv1d)": Model("trained", partial(write_trained, network="conv1d")),
    "trained (transformer)": Model(
        "trained", partial(write_trained, network="transformer", tiny={"width": 16, "n_layers": 1})
    ),
    "trained (mamba)": Model("trained", partial(write_trained, network="mamba", tiny={"width": 16, "n_layers": 1})),
    "audiosep": Model(
        "audiosep",
        partial(write_state, network="networks.htsat:AudioTower", published=HTSAT, tiny=TINY_HTSAT, key="state_dict"),
    ),
    "wav2vec2 (base)": Model("wav2vec2", partial(write_speech_model, family="Wav2Vec2")),
    "wav2vec2 (WavLM base, x-vector)": Model(
        "wav2vec2", partial(write_speech_model, family="WavLM", form="ForXVector"), is_default=False
    ),
}

# Encoder -> reason why it has no model here.
LEFT_OUT: dict[str, str] = {"onnx": "it computes on the CPU, whatever the device"}
