"""The comparison of heads: protocols, tables, pictures, files."""

from evaluation.compare import compare_heads
from evaluation.comparison import Comparison
from evaluation.layer_curve import layer_table, save_layer_curve
from evaluation.predictions import check_predictions_path, predictions_table, write_predictions
from evaluation.verification import Verification, compare_backends

__all__ = [
    "Comparison",
    "Verification",
    "check_predictions_path",
    "compare_backends",
    "compare_heads",
    "layer_table",
    "predictions_table",
    "save_layer_curve",
    "write_predictions",
]
