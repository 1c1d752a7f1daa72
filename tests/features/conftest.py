"""What the tests of extraction share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def own_root(corpus_root: Path, tmp_path: Path) -> Path:
    """Return a copy of the corpus, to change."""
    return Path(shutil.copytree(corpus_root, tmp_path / "own"))
