"""Embed files without a cache: decode ahead in processes, make batches, and encode them."""

from embedding.decode import Piece, decode, n_workers_of
from embedding.embed_utterances import Row, Timing, embed_utterances
from embedding.worker import DecodeSettings, FileState

__all__ = [
    "DecodeSettings",
    "FileState",
    "Piece",
    "Row",
    "Timing",
    "decode",
    "embed_utterances",
    "n_workers_of",
]
