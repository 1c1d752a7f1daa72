"""The cache: `FeatureSet`, where it came from, and the engine that fills it."""

from features.extraction import extract
from features.feature_set import AudioProvenance, FeaturesError, FeatureSet
from features.files import OutputError, check_writable, load_tensors, write_atomically, write_tensors
from features.pipeline import Row, embed_utterances
from features.provenance import default_file_name, warn_of_precision

__all__ = [
    "AudioProvenance",
    "FeatureSet",
    "FeaturesError",
    "OutputError",
    "Row",
    "check_writable",
    "default_file_name",
    "embed_utterances",
    "extract",
    "load_tensors",
    "warn_of_precision",
    "write_atomically",
    "write_tensors",
]
