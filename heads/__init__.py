"""From an embedding to a speaker: scalers, heads, and the classifier that combines them."""

from files import UNKNOWN
from heads.base import Head, HeadError
from heads.classifier import SpeakerClassifier, mean_logits
from heads.covariance import ClassStatistics
from heads.fitted import ClassifierError, FittedHead
from heads.head_source import HeadSource
from heads.minibatch import MinibatchHead
from heads.open_set import PROBABILITY, describe_open_set, log_odds, min_speakers
from heads.plda import PLDAHead
from heads.predictions import Prediction, check_predictions_path, predictions_table, write_predictions
from heads.registry import (
    HEADS,
    can_be_saved,
    create_head,
    head_options,
    head_source,
    register_head,
    register_heads,
    search_space,
    takes_layers,
)
from heads.replaced_speakers import warn_of_replaced_speakers
from heads.scalers import SCALERS, Scaler, create_scaler
from heads.scikit_learn import ScikitLearnHead
from heads.weighted import WeightedHead

__all__ = [
    "HEADS",
    "PROBABILITY",
    "SCALERS",
    "UNKNOWN",
    "ClassStatistics",
    "ClassifierError",
    "FittedHead",
    "Head",
    "HeadError",
    "HeadSource",
    "MinibatchHead",
    "PLDAHead",
    "Prediction",
    "Scaler",
    "ScikitLearnHead",
    "SpeakerClassifier",
    "WeightedHead",
    "can_be_saved",
    "check_predictions_path",
    "create_head",
    "create_scaler",
    "describe_open_set",
    "head_options",
    "head_source",
    "log_odds",
    "min_speakers",
    "mean_logits",
    "predictions_table",
    "register_head",
    "register_heads",
    "search_space",
    "takes_layers",
    "warn_of_replaced_speakers",
    "write_predictions",
]
