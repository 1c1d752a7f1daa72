"""The comparison of heads: protocols, tables, files."""

from evaluation.comparison import Comparison
from evaluation.predictions import check_predictions_path, predictions_table, write_predictions
from evaluation.protocol import compare_heads

__all__ = ["Comparison", "check_predictions_path", "compare_heads", "predictions_table", "write_predictions"]
