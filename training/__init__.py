"""Train a network that is then a frozen encoder. Needs the packages of requirements-training.txt."""

from training.save_run import TrainedEncoder
from training.session_folders import session_folders
from training.settings import TrainingError, TrainingSettings
from training.train_encoder import train_encoder
from training.train_sessions import TrainedSessions, train_sessions

__all__ = [
    "TrainedEncoder",
    "TrainedSessions",
    "TrainingError",
    "TrainingSettings",
    "session_folders",
    "train_encoder",
    "train_sessions",
]
