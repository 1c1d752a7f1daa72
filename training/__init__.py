"""Train a network that is then a frozen encoder. Needs the packages of requirements-training.txt."""

from training.save_run import TrainedEncoder
from training.settings import TrainingError, TrainingSettings
from training.train_encoder import train_encoder

__all__ = ["TrainedEncoder", "TrainingError", "TrainingSettings", "train_encoder"]
