"""Embed files without a cache: decode ahead in processes, make batches, and encode them."""

from embedding.decode import Piece, decode, n_workers_of
from embedding.embed_utterances import Row, Timing, embed_utterances, measure_utterances
from embedding.mixed_channels import warn_of_mixed_channels
from embedding.worker import MAX_OFFSET, DecodeSettings, FileState, remove_offset

__all__ = [
    "MAX_OFFSET",
    "DecodeSettings",
    "FileState",
    "Piece",
    "Row",
    "Timing",
    "decode",
    "embed_utterances",
    "measure_utterances",
    "n_workers_of",
    "remove_offset",
    "warn_of_mixed_channels",
]
