"""The cache: `FeatureSet`, its provenance, and the extraction engine that fills it."""

from features.extraction import Shard, extract, extract_shard
from features.feature_set import FeatureSet
from features.job import MaxDuration, crop_of
from features.lock import LockedError
from features.provenance import default_file_name
from features.row_columns import AudioProvenance
from features.set_checks import FeaturesError

__all__ = [
    "AudioProvenance",
    "FeatureSet",
    "FeaturesError",
    "LockedError",
    "MaxDuration",
    "Shard",
    "crop_of",
    "default_file_name",
    "extract",
    "extract_shard",
]
