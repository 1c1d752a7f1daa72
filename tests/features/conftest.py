"""What the tests of extraction share."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def own_root(corpus_root: Path, tmp_path: Path) -> Path:
    """Return a copy of the corpus, to change."""
    return Path(shutil.copytree(corpus_root, tmp_path / "own"))


@pytest.fixture
def holder() -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Return a function that starts a process which holds a lock: ``holder("locked(Path('x.lock'))")``."""
    started: list[subprocess.Popen[str]] = []

    def hold(locks: str) -> "subprocess.Popen[str]":
        code = (
            f"import sys, time; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
            "from pathlib import Path\nfrom features.lock import locked\n"
            f"with {locks}:\n    print('holds', flush=True)\n    time.sleep(60)"
        )
        started.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == "holds\n"
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.communicate()
