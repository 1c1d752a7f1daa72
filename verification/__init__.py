"""From pairs of embeddings to scores: trials, backends, normalisation, calibration."""

from verification.backends import BACKENDS, Backend, BackendError, create_backend, split_speakers
from verification.calibration import Calibration, CalibrationError
from verification.normalisation import as_norm
from verification.trials import (
    TrialError,
    Trials,
    all_pairs,
    cross_session,
    random_triplets,
    read_trials,
    same_gender,
)  # fmt: skip
from verification.verifier import SpeakerVerifier, Verdict, VerifierError

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendError",
    "Calibration",
    "CalibrationError",
    "SpeakerVerifier",
    "TrialError",
    "Trials",
    "Verdict",
    "VerifierError",
    "all_pairs",
    "as_norm",
    "create_backend",
    "cross_session",
    "random_triplets",
    "read_trials",
    "same_gender",
    "split_speakers",
]
