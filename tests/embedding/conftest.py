"""Fixtures of the embedding tests: decoding in processes, whatever the number of files."""

from importlib import import_module

import pytest


@pytest.fixture
def many_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in processes even if there are few files."""
    for module in ("embedding.decode", "embedding.embed_utterances"):
        monkeypatch.setattr(import_module(module), "MIN_PIECES_FOR_PROCESSES", 1)
