"""From an embedding to a speaker: scalers, heads, and the classifier that combines them."""

from heads.base import Head, HeadError
from heads.classifier import SpeakerClassifier, mean_logits
from heads.covariance import ClassStatistics
from heads.fitted import ClassifierError, FittedHead
from heads.minibatch import MinibatchHead
from heads.open_set import PROBABILITY, describe_open_set, log_odds
from heads.plda import PLDAHead
from heads.predictions import UNKNOWN, Prediction, check_predictions_path, predictions_table, write_predictions
from heads.registry import HEADS, create_head, head_options, search_space, takes_layers
from heads.scalers import SCALERS, Scaler, create_scaler
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
    "MinibatchHead",
    "PLDAHead",
    "Prediction",
    "Scaler",
    "SpeakerClassifier",
    "WeightedHead",
    "check_predictions_path",
    "create_head",
    "create_scaler",
    "describe_open_set",
    "head_options",
    "log_odds",
    "mean_logits",
    "predictions_table",
    "search_space",
    "takes_layers",
    "write_predictions",
]
