"""Figures computed from labels and scores. Imports only `files`; any room may import it."""

from metrics.bootstrap import MIN_BOOTSTRAP_SPEAKERS, difference_interval, ratio_interval, trial_interval
from metrics.identification import (
    detection_identification_rate,
    expected_calibration_error,
    log_loss,
    macro_f1,
    ranks,
    top_k_accuracy,
)  # fmt: skip
from metrics.mean_interval import mean_interval
from metrics.verification import (
    ErrorRates,
    cllr,
    equal_error_rate,
    equal_error_threshold,
    error_rates,
    min_cllr,
    min_dcf,
)  # fmt: skip

__all__ = [
    "MIN_BOOTSTRAP_SPEAKERS",
    "ErrorRates",
    "cllr",
    "detection_identification_rate",
    "difference_interval",
    "equal_error_rate",
    "equal_error_threshold",
    "error_rates",
    "expected_calibration_error",
    "log_loss",
    "macro_f1",
    "mean_interval",
    "min_cllr",
    "min_dcf",
    "ranks",
    "ratio_interval",
    "top_k_accuracy",
    "trial_interval",
]
