"""The cache: `FeatureSet`, its provenance, and the extraction engine that fills it."""

from features.extraction import Shard, extract, extract_shard
from features.feature_set import FeatureSet
from features.job import MaxDuration, crop_of
from features.lock import LockedError, locked
from features.measuring import load_features
from features.narrow_band import (
    NARROW_SHARE,
    find_narrow_speakers,
    learned_bandwidth,
    warn_of_narrow_recordings,
    warn_of_narrow_rows,
)
from features.provenance import default_file_name
from features.row_columns import MEAN_CHANNEL, AudioProvenance
from features.same_audio import SAME_LENGTH, AudioIndex, audio_numbers, has_same_audio, number_vectors, without_copies
from features.set_checks import FeaturesError
from features.sources import check_stored, choose_path

__all__ = [
    "MEAN_CHANNEL",
    "NARROW_SHARE",
    "SAME_LENGTH",
    "AudioIndex",
    "AudioProvenance",
    "FeatureSet",
    "FeaturesError",
    "LockedError",
    "MaxDuration",
    "Shard",
    "check_stored",
    "choose_path",
    "audio_numbers",
    "crop_of",
    "default_file_name",
    "extract",
    "extract_shard",
    "find_narrow_speakers",
    "has_same_audio",
    "learned_bandwidth",
    "load_features",
    "locked",
    "number_vectors",
    "warn_of_narrow_recordings",
    "warn_of_narrow_rows",
    "without_copies",
]
