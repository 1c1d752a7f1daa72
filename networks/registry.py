"""Networks that can be trained, and their front ends, by name."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from files import InputError, check_options, load_choice
from networks.base_front_end import FrontEnd
from networks.pretrained_network import PretrainedNetwork
from networks.speaker_network import SpeakerNetwork

# Networks: from frames to embeddings. Name -> "module:Class" of a `SpeakerNetwork`, whose constructor takes the number
# of features of a frame, then options with defaults.
NETWORKS: dict[str, str] = {
    "bilstm": "networks.bilstm:BiLstm",
    "query_transformer": "networks.query_transformer:QueryTransformer",
    "conv1d": "networks.conv1d:Conv1d",
    "conv2d": "networks.conv2d:Conv2d",
    "transformer": "networks.transformer:Transformer",
    "mamba": "networks.mamba:Mamba",
    "mamba2": "networks.mamba:Mamba2",
    "resnet18": "networks.image_networks:ResNet18",
    "densenet121": "networks.image_networks:DenseNet121",
}

# Networks that are fine-tuned from pretrained weights. Name -> "module:Class" of a `PretrainedNetwork`, whose
# constructor takes the pretrained module, then options with defaults.
PRETRAINED_NETWORKS: dict[str, str] = {
    "wav2vec2": "networks.pretrained_network:Wav2Vec2Speaker",
    "campplus": "networks.pretrained_network:CampPlusSpeaker",
}

# Front ends: from waveforms to frames. All arguments of the constructor are options.
FRONT_ENDS: dict[str, str] = {
    "log_mel": "networks.front_ends:LogMel",
    "mfcc": "networks.front_ends:Mfcc",
    "waveform": "networks.pretrained_front_ends:Waveform",
    "fbank": "networks.pretrained_front_ends:KaldiFbank",
}


class NetworkError(InputError):
    """A network or a front end cannot be built with the given name or options."""


def create_network(name: str, n_features: int, **options: Any) -> SpeakerNetwork:
    """Build a network by its name in `NETWORKS`, with random weights.

    Parameters
    ----------
    name : str
        Name of the network.
    n_features : int
        Number of values in a frame.
    **options
        Options of the network: the other arguments of its constructor.

    Returns
    -------
    SpeakerNetwork
        In training mode.

    Raises
    ------
    NetworkError
        There is no network of this name, or an option is not valid; the message lists what is.
    """
    network: SpeakerNetwork = _create("network", name, NETWORKS, arguments=(n_features,), options=options)
    return network


def create_pretrained_network(name: str, pretrained: nn.Module, **options: Any) -> PretrainedNetwork:
    """Build a network by its name in `PRETRAINED_NETWORKS`; errors are those of `create_network`.

    Parameters
    ----------
    name : str
        Name of the network.
    pretrained : nn.Module
        Module with the pretrained weights, which becomes a part of the network.
    **options
        Options of the network: the other arguments of its constructor.
    """
    network: PretrainedNetwork = _create("network", name, PRETRAINED_NETWORKS, arguments=(pretrained,), options=options)
    return network


def create_front_end(name: str, **options: Any) -> FrontEnd:
    """Build a front end by its name in `FRONT_ENDS`; errors are those of `create_network`."""
    front_end: FrontEnd = _create("front end", name, FRONT_ENDS, arguments=(), options=options)
    return front_end


def default_settings(name: str) -> dict[str, Any]:
    """Return the defaults of a network.

    They are ``front_end``, ``front_end_options``, ``n_frames`` of a crop and ``window``; ``min_frames`` and
    ``min_crop`` are fixed.
    """
    network_class: type[SpeakerNetwork] = _network_class(name)
    return {
        "front_end": network_class.front_end,
        "front_end_options": dict(network_class.front_end_options),
        "n_frames": network_class.crop_frames,
        "window": network_class.window,
        "min_frames": network_class.min_frames,
        "min_crop": network_class.min_crop,
    }


def network_options(name: str) -> dict[str, Any]:
    """Return the names of a network's options, with their types."""
    return _options(_network_class(name), n_given=1)


def option_defaults(name: str) -> dict[str, Any]:
    """Return the options of a network or of a front end that have defaults, with these."""
    created_class = load_choice(
        "network", name, {**NETWORKS, **PRETRAINED_NETWORKS, **FRONT_ENDS}, error_class=NetworkError
    )
    parameters = inspect.signature(created_class).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def _network_class(name: str) -> Any:
    return load_choice("network", name, {**NETWORKS, **PRETRAINED_NETWORKS}, error_class=NetworkError)


def _create(
    what: str, name: str, registry: Mapping[str, str], *, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> Any:
    created_class = load_choice(what, name, registry, error_class=NetworkError)
    types = _options(created_class, n_given=len(arguments))
    check_options(f"The {what} {name!r}", options, types, error_class=NetworkError)
    for option, value in options.items():  # all whole numbers are sizes; PyTorch builds some modules of size 0
        if types[option] is int and value < 1:
            raise NetworkError(f"The {what} {name!r} has {option}={value}; expected 1 or more.")
    try:
        return created_class(*arguments, **options)
    except InputError:  # a package is absent
        raise
    except (ValueError, AssertionError, RuntimeError) as error:  # PyTorch raises them for sizes that do not fit
        reason = "it needs more memory than there is; give smaller sizes" if "alloc" in str(error).lower() else error
        raise NetworkError(f"The {what} {name!r} cannot be built: {reason}.") from error


def _options(created_class: type[nn.Module], n_given: int) -> dict[str, Any]:
    """Return the names and types of a constructor's arguments, without the first ones."""
    parameters = list(inspect.signature(created_class, eval_str=True).parameters.values())[n_given:]
    return {parameter.name: parameter.annotation for parameter in parameters}
