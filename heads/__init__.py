"""From an embedding to a speaker: scalers, heads, and the classifier that joins them."""

from heads.base import Head, HeadError
from heads.classifier import UNKNOWN, Prediction, SpeakerClassifier
from heads.fitted import ClassifierError, FittedHead, find_encoder
from heads.registry import HEADS, create_head
from heads.scalers import SCALERS, Scaler, create_scaler

__all__ = [
    "HEADS",
    "SCALERS",
    "UNKNOWN",
    "ClassifierError",
    "FittedHead",
    "Head",
    "HeadError",
    "Prediction",
    "Scaler",
    "SpeakerClassifier",
    "create_head",
    "create_scaler",
    "find_encoder",
]
