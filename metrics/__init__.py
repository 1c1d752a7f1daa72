"""Numbers from labels and scores. Imports no other room; any room may import it."""

from metrics.identification import log_loss, macro_f1, top_k_accuracy

__all__ = ["log_loss", "macro_f1", "top_k_accuracy"]
