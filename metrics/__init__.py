"""Numbers from labels and scores. Imports no other room; any room may import it."""

from metrics.bootstrap import difference_interval, ratio_interval
from metrics.identification import expected_calibration_error, log_loss, macro_f1, ranks, top_k_accuracy

__all__ = [
    "difference_interval",
    "expected_calibration_error",
    "log_loss",
    "macro_f1",
    "ranks",
    "ratio_interval",
    "top_k_accuracy",
]
