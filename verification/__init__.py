"""Score pairs of embeddings: trials, backends, normalisation, calibration, verifiers and enrolled speakers."""

from verification.backends import BACKENDS, Backend, BackendError, create_backend, split_speakers
from verification.calibration import Calibration, CalibrationError, Conditions
from verification.check_recordings import CheckedRecording, check_recordings
from verification.enroll_rows import (
    EnrolmentResult,
    add_background_rows,
    enroll_feature_set,
    enroll_rows,
    enroll_voices,
)
from verification.enrolment import Enrolled, Recording
from verification.error_rates import describe_errors
from verification.name_labels import NamedLabel, labels_table, name_labels, repeats_of, turns_of_labels
from verification.nearest import SHOWN, Nearest, scores_table, write_scores
from verification.normalisation import as_norm
from verification.own_calibration import OwnCalibration
from verification.ready_comparison import compare_with_ready
from verification.score_histogram import ScoreHistogram
from verification.self_calibration import SelfCalibration
from verification.store import SpeakerStore
from verification.store_file import StoreError, check_background, check_name, check_origin, name_problem
from verification.timeline import WindowScores, find_turns, score_windows
from verification.trials import (
    TrialError,
    Trials,
    all_pairs,
    check_trial_ids,
    cross_session,
    random_triplets,
    read_trials,
)  # fmt: skip
from verification.turns import (
    Turn,
    speaking_time,
    to_csv,
    to_rttm,
    turns_by_speaker,
    turns_table,
    write_turns,
)  # fmt: skip
from verification.unknown_scores import UnknownScores, UnknownScoresError
from verification.verdict import UNSURE, Verdict
from verification.verifier import MIN_SECONDS, SpeakerVerifier, VerifierError
from verification.voices import Voices, is_voices

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendError",
    "Calibration",
    "CalibrationError",
    "CheckedRecording",
    "Conditions",
    "Enrolled",
    "EnrolmentResult",
    "MIN_SECONDS",
    "NamedLabel",
    "Nearest",
    "OwnCalibration",
    "Recording",
    "SHOWN",
    "ScoreHistogram",
    "SelfCalibration",
    "SpeakerStore",
    "SpeakerVerifier",
    "StoreError",
    "TrialError",
    "Trials",
    "Turn",
    "UNSURE",
    "UnknownScores",
    "UnknownScoresError",
    "Verdict",
    "VerifierError",
    "Voices",
    "WindowScores",
    "add_background_rows",
    "all_pairs",
    "as_norm",
    "check_background",
    "check_name",
    "check_origin",
    "check_recordings",
    "compare_with_ready",
    "create_backend",
    "cross_session",
    "describe_errors",
    "enroll_feature_set",
    "enroll_rows",
    "enroll_voices",
    "find_turns",
    "is_voices",
    "labels_table",
    "name_labels",
    "name_problem",
    "random_triplets",
    "repeats_of",
    "check_trial_ids",
    "read_trials",
    "score_windows",
    "scores_table",
    "speaking_time",
    "split_speakers",
    "to_csv",
    "to_rttm",
    "turns_by_speaker",
    "turns_of_labels",
    "turns_table",
    "write_scores",
    "write_turns",
]
