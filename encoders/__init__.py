"""From a waveform to an embedding: one file per family, one registry."""

from encoders.base import Encoder, EncoderError
from encoders.device import resolve_device, single_thread
from encoders.registry import (
    ALIASES,
    ENCODERS,
    LazyEncoder,
    default_spec,
    describe_encoder,
    encoder_options,
    lazy_encoder,
    load_encoder,
)  # fmt: skip
from encoders.spec import Spec, spec_differences, spec_digest, windows_of

__all__ = [
    "ALIASES",
    "ENCODERS",
    "Encoder",
    "EncoderError",
    "LazyEncoder",
    "Spec",
    "default_spec",
    "describe_encoder",
    "encoder_options",
    "lazy_encoder",
    "load_encoder",
    "resolve_device",
    "single_thread",
    "spec_differences",
    "spec_digest",
    "windows_of",
]
