"""Encoders by name."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.base import Encoder, EncoderError
from encoders.device import resolve_device
from encoders.spec import Spec

logger = logging.getLogger(__name__)

# Name -> "module:Class". A string, so that asking for one encoder does not import the libraries of the others.
ENCODERS: dict[str, str] = {
    "audiosep": "encoders.audiosep:AudioSepEncoder",
    "wav2vec2": "encoders.wav2vec2:Wav2Vec2Encoder",
    "spectral": "encoders.spectral:SpectralEncoder",
    "scratch": "encoders.scratch:ScratchEncoder",
}

# Other names for them.
ALIASES = {"clap": "audiosep"}


def load_encoder(
    name: str,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    **options: Any,
) -> Encoder:
    """Build an encoder.

    Parameters
    ----------
    name : str
        A name of `ENCODERS` or `ALIASES`.
    weights : path-like, optional
        File or folder of the weights, where the encoder has any; by default its published ones, looked for in
        ``pretrained_models/`` and in the Hugging Face cache, then downloaded.
    device : str
        ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    precision : str
        ``auto``, which is fp32 everywhere, or one that the encoder knows (fp32, bf16, fp16).
    **options
        The encoder's own, the fields of its ``Options``.

    Returns
    -------
    Encoder
        In eval mode, without gradients, on the device.

    Raises
    ------
    EncoderError
        An unknown name, device, precision or option (the answer lists the valid ones), or weights that do not fit.
    """
    return lazy_encoder(name, weights, device, precision, **options).build()


def describe_encoder(name: str, weights: str | Path | None = None, precision: str = "auto", **options: Any) -> Spec:
    """Return the spec of the encoder that `load_encoder` would build, without building it."""
    return lazy_encoder(name, weights, "cpu", precision, **options).spec


def encoder_options(name: str) -> tuple[str, ...]:
    """Return the names of an encoder's options."""
    return tuple(field.name for field in fields(_resolve(name).Options))


def default_spec(name: str) -> Spec | None:
    """Return the spec of an encoder when nothing is chosen, or None if its weights are not on this machine."""
    kind = _resolve(name)
    try:
        spec = kind.describe(kind.find_weights(None, download=False), kind.Options())
    except EncoderError:
        return None
    return {**spec, "precision": _resolve_precision(kind, name, "auto")}


@dataclass(frozen=True)
class LazyEncoder:
    """An encoder that knows its spec, and is built when it is first asked to encode.

    `features.extract` takes one in place of an `Encoder`: a finished cache then costs no network.
    """

    spec: Spec
    build: Callable[[], Encoder]

    @cached_property
    def encoder(self) -> Encoder:
        return self.build()

    @property
    def sample_rate(self) -> int:
        """Rate of the waveforms it takes (Hz)."""
        return int(self.spec["sample_rate"])

    @property
    def clips_per_call(self) -> int:
        """How many clips to give `encode` at a time; asking for it builds the encoder."""
        return self.encoder.clips_per_call

    def encode(self, waveforms: list[Tensor], batch_size: int | None = None) -> Tensor:
        """Embed waveforms, as `Encoder.encode` does."""
        return self.encoder.encode(waveforms, batch_size)

    def merge(self, vectors: Tensor) -> Tensor:
        """Average the vectors of a recording's windows, as `Encoder.merge` does."""
        return self.encoder.merge(vectors)


def lazy_encoder(
    name: str,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    **options: Any,
) -> LazyEncoder:
    """Describe an encoder now and build it at first use; the arguments and errors are those of `load_encoder`."""
    kind = _resolve(name)
    resolved = resolve_device(device)
    precision = _resolve_precision(kind, name, precision)
    if precision == "fp16" and resolved.type == "cpu":
        logger.warning("Most CPUs are slower in fp16 than in fp32; bf16 is the fast one where it is supported.")
    chosen = _check_options(kind, name, options)
    found = kind.find_weights(weights)  # last of the checks: it may download
    spec = {**kind.describe(found, chosen), "precision": precision}
    return LazyEncoder(spec, partial(_build, spec, found, resolved))


def _build(spec: Spec, weights: str | Path | None, device: torch.device) -> Encoder:
    digest = str(spec["weights"] or "none")[:8]
    logger.info("Encoder %s on %s in %s; weights: %s (%s)", spec["name"], device, spec["precision"], weights, digest)
    return _resolve(spec["name"])(spec, weights).to(device).eval().requires_grad_(False)


def _resolve(name: str) -> type[Encoder]:
    key = ALIASES.get(name, name)
    if key not in ENCODERS:
        raise EncoderError(f"There is no encoder {name!r}; choose one of: {', '.join([*ENCODERS, *ALIASES])}.")
    module, _, attribute = ENCODERS[key].partition(":")
    kind: type[Encoder] = getattr(import_module(module), attribute)
    return kind


def _resolve_precision(kind: type[Encoder], name: str, precision: str) -> str:
    if precision not in ("auto", *kind.precisions):
        choices = ", ".join(["auto", *kind.precisions])
        raise EncoderError(f"The encoder {name!r} has no precision {precision!r}; choose one of: {choices}.")
    # Everywhere, until a measurement on a GPU speaks for another.
    return "fp32" if precision == "auto" else precision


def _check_options(kind: type[Encoder], name: str, options: dict[str, Any]) -> Any:
    valid = encoder_options(name)
    for option in options:
        if option not in valid:
            near = get_close_matches(option, valid, n=1)
            hint = f"perhaps you meant {near[0]}; " if near else ""
            listing = ", ".join(valid) or "it has none"
            raise EncoderError(f"The encoder {name!r} has no option {option!r}; {hint}valid options: {listing}.")
    return kind.Options(**options)
