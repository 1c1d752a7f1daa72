"""From a waveform to an embedding: one file per family, one registry."""

from encoders.base import Encoder, EncoderError
from encoders.device import resolve_device, single_thread
from encoders.registry import ENCODERS, LazyEncoder, describe_encoder, lazy_encoder, load_encoder
from encoders.spec import Spec, spec_differences, spec_digest

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderError",
    "LazyEncoder",
    "Spec",
    "describe_encoder",
    "lazy_encoder",
    "load_encoder",
    "resolve_device",
    "single_thread",
    "spec_differences",
    "spec_digest",
]
