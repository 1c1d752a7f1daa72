"""Checks of own encoders, and the digest of encoders whose weights are part of their code."""

import re
from collections.abc import Callable, Collection
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor

from encoders.base import CPU, Encoder, EncoderError
from encoders.spec import Spec
from encoders.weights import tensors_digest

# Keys that `describe` must return.
REQUIRED = ("name", "version", "sample_rate", "dim", "layers", "weights", "options")

# Creates an encoder: ``create(spec, device=device)``.
Create = Callable[..., Encoder]


def check_encoder_class(encoder_class: type[Any], taken: Collection[str]) -> None:
    """Refuse a class that is not a complete encoder, or whose name is `taken`."""
    name = encoder_class.__name__
    if not issubclass(encoder_class, Encoder):
        raise EncoderError(f"{name} is not a subclass of Encoder (from encoders import Encoder).")
    if name in taken:
        raise EncoderError(f"The class {name} has the name of one of this project's encoders; rename it.")
    methods = ("describe", "forward")
    lacking = [each for each in methods if getattr(getattr(encoder_class, each), "__isabstractmethod__", False)]
    if not is_dataclass(getattr(encoder_class, "Options", None)):
        lacking.append("Options (a dataclass)")
    if lacking:
        raise EncoderError(f"The encoder {name} does not define {' and '.join(lacking)}; see docs/extending.md.")


def check_own_spec(spec: Spec, encoder_class: type[Encoder], taken: Collection[str]) -> None:
    """Refuse an incomplete spec of an own encoder, and a name that is `taken` or not fit for a file name."""
    own = encoder_class.__name__
    missing = [key for key in REQUIRED if key not in spec]
    if missing:
        raise EncoderError(f"The encoder {own} has an incomplete spec: describe returns no {' and no '.join(missing)}.")
    if spec["name"] in taken:
        raise EncoderError(
            f"The encoder {own} has the name {spec['name']!r} in its spec, which is another encoder. Return another "
            "name from describe, so that their vectors are not mixed."
        )
    if not re.fullmatch(r"\w[\w.+-]*", str(spec["name"])):
        raise EncoderError(
            f"The encoder {own} has the name {spec['name']!r} in its spec, but features files are named after it; "
            "expected letters, digits, '_', '.', '+' and '-'."
        )


def add_own_weights(spec: Spec, create: Create) -> tuple[Spec, Create]:
    """Add the digest of an encoder's own tensors to a spec without weights.

    An encoder that describes no weights is created to see whether it has parameters or persistent buffers, which
    change with its code.

    Returns
    -------
    spec : dict
        ``weights`` is the digest of the state dict, or None if that is empty.
    create : callable
        Function that creates the encoder with these tensors.

    Raises
    ------
    EncoderError
        The function raises it if the encoder has other tensors each time it is created.
    """
    if spec["weights"] is not None:
        return spec, create
    # On the CPU, because a GPU may not be needed at all, and in fp32, because another precision may change the tensors.
    described = create({**spec, "precision": "fp32"}, device=CPU)
    digest = _state_digest(described)

    def create_again(spec: Spec, *, device: torch.device) -> Encoder:
        if spec["precision"] != "fp32":
            return create(spec, device=device)
        if device.type == "cpu":
            described.spec = spec
            return described
        created = create(spec, device=device)
        if _state_digest(created) != digest:
            raise EncoderError(
                f"The encoder {spec['name']!r} has other weights each time it is created. Load them from a file, or "
                "set a random seed before they are created."
            )
        return created

    return {**spec, "weights": digest}, create_again


def _state_digest(encoder: Encoder) -> str | None:
    """Return the digest of an encoder's parameters and persistent buffers, or None if it has none."""
    tensors = {key: value.cpu() for key, value in encoder.state_dict().items() if isinstance(value, Tensor)}
    return tensors_digest(tensors) if tensors else None
