"""The comparison of heads: protocols, tables, pictures, files."""

from evaluation.compare import compare_heads
from evaluation.comparison import Comparison
from evaluation.embedding_map import save_embedding_map
from evaluation.layer_curve import layer_table
from evaluation.open_set import about_strangers
from evaluation.predictions import (
    SHOWN,
    check_predictions_path,
    predictions_table,
    scores_table,
    write_predictions,
    write_scores,
)  # fmt: skip
from evaluation.report import ReportError, write_report
from evaluation.table import format_table
from evaluation.verification import Verification, compare_backends

__all__ = [
    "SHOWN",
    "Comparison",
    "ReportError",
    "Verification",
    "about_strangers",
    "check_predictions_path",
    "compare_backends",
    "compare_heads",
    "format_table",
    "layer_table",
    "predictions_table",
    "save_embedding_map",
    "scores_table",
    "write_predictions",
    "write_report",
    "write_scores",
]
