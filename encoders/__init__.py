"""Encoders turn waveforms into embeddings: one file per family, and one registry."""

from encoders.base import Encoder, EncoderError
from encoders.device import resolve_device
from encoders.export_onnx import check_exportable, export_onnx
from encoders.pretrained import Pretrained, is_pretrained
from encoders.published_file import PublishedNetwork
from encoders.registry import (
    ALIASES,
    ENCODERS,
    MIN_BANDWIDTH,
    LazyEncoder,
    default_spec,
    detection_spec,
    encoder_from_spec,
    encoder_options,
    lazy_encoder,
    load_encoder,
    register_encoder,
    without_length_warning,
)  # fmt: skip
from encoders.speaker_encoder import RELIABLE_SECONDS
from encoders.spec import (
    Spec,
    describe_detection,
    pieces_of,
    spec_differences,
    spec_digest,
    warn_of_detection,
    warn_of_precision,
    windows_of,
    with_detection_of,
)
from encoders.trained_file import TrainedNetwork, trained_file_name
from encoders.training_corpora import corpora_with_speakers_of
from encoders.weights import tensors_digest
from networks import single_thread

__all__ = [
    "RELIABLE_SECONDS",
    "ALIASES",
    "ENCODERS",
    "MIN_BANDWIDTH",
    "Encoder",
    "EncoderError",
    "LazyEncoder",
    "Pretrained",
    "PublishedNetwork",
    "Spec",
    "TrainedNetwork",
    "check_exportable",
    "corpora_with_speakers_of",
    "default_spec",
    "describe_detection",
    "detection_spec",
    "encoder_from_spec",
    "encoder_options",
    "export_onnx",
    "is_pretrained",
    "lazy_encoder",
    "load_encoder",
    "pieces_of",
    "register_encoder",
    "resolve_device",
    "single_thread",
    "spec_differences",
    "spec_digest",
    "tensors_digest",
    "trained_file_name",
    "warn_of_detection",
    "warn_of_precision",
    "windows_of",
    "with_detection_of",
    "without_length_warning",
]
