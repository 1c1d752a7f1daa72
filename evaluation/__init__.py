"""Comparisons of heads and of backends: protocols, fitting, figures, tables, files."""

from evaluation.backend_comparison import BackendComparison
from evaluation.check_heads import check_heads
from evaluation.compare_backends import compare_backends
from evaluation.compare_heads import compare_heads
from evaluation.embedding_map import save_embedding_map
from evaluation.error_curves import lowest_eer
from evaluation.head_comparison import HeadComparison
from evaluation.notes import NOT_SIGNIFICANT, SIGNIFICANT, TOO_FEW, verdict
from evaluation.protocol import check_split
from evaluation.result_tables import mark_unsaved, results_tables, sort_summary
from evaluation.summary import describe_selection, mean_by_layer, rank_by_validation
from evaluation.table_columns import BACKEND_COLUMNS, HEAD_COLUMNS, Column, shown
from evaluation.training_table import scored_row, selected_rows, training_columns, training_notes

__all__ = [
    "BACKEND_COLUMNS",
    "HEAD_COLUMNS",
    "NOT_SIGNIFICANT",
    "SIGNIFICANT",
    "TOO_FEW",
    "BackendComparison",
    "Column",
    "HeadComparison",
    "check_heads",
    "check_split",
    "compare_backends",
    "compare_heads",
    "describe_selection",
    "lowest_eer",
    "mark_unsaved",
    "mean_by_layer",
    "rank_by_validation",
    "results_tables",
    "save_embedding_map",
    "scored_row",
    "selected_rows",
    "shown",
    "sort_summary",
    "training_columns",
    "training_notes",
    "verdict",
]
