"""Numbers from labels and scores. Imports no other room; any room may import it."""

from metrics.bootstrap import difference_interval, ratio_interval, trial_interval
from metrics.identification import expected_calibration_error, log_loss, macro_f1, ranks, top_k_accuracy
from metrics.verification import (
    ErrorRates,
    cllr,
    equal_error_rate,
    error_rates,
    min_cllr,
    min_dcf,
)  # fmt: skip

__all__ = [
    "ErrorRates",
    "cllr",
    "difference_interval",
    "equal_error_rate",
    "error_rates",
    "expected_calibration_error",
    "log_loss",
    "macro_f1",
    "min_cllr",
    "min_dcf",
    "ranks",
    "ratio_interval",
    "top_k_accuracy",
    "trial_interval",
]
