"""The cache: `FeatureSet`, where it came from, and the engine that fills it."""

from features.decoding import n_workers_of
from features.extraction import Shard, extract, extract_shard
from features.feature_set import AudioProvenance, FeaturesError, FeatureSet
from features.files import (
    OutputError,
    check_writable,
    load_tensors,
    tensors_from_bytes,
    tensors_to_bytes,
    write_atomically,
    write_tensors,
)  # fmt: skip
from features.lock import LockedError
from features.pipeline import Row, embed_utterances
from features.provenance import default_file_name, file_digest, warn_of_precision

__all__ = [
    "AudioProvenance",
    "FeatureSet",
    "FeaturesError",
    "LockedError",
    "OutputError",
    "Row",
    "Shard",
    "check_writable",
    "default_file_name",
    "embed_utterances",
    "extract",
    "extract_shard",
    "file_digest",
    "load_tensors",
    "n_workers_of",
    "tensors_from_bytes",
    "tensors_to_bytes",
    "warn_of_precision",
    "write_atomically",
    "write_tensors",
]
