"""Fixtures of the extraction tests: an encoder that counts, runs of `extract`, and processes that hold locks."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from corpora import Corpus
from encoders import load_encoder
from features import FeatureSet, extract

ROOT = Path(__file__).parents[2]


class CountingEncoder:
    """The `spectral` encoder with a count of the waveforms that it encodes.

    Parameters
    ----------
    fail_at : int, optional
        Number of waveforms after which `encode` raises `error`.
    error : type
    change : callable, optional
        Is called with the waveforms and their vectors, and returns the vectors that `encode` returns.
    clips_per_call : int
    """

    def __init__(
        self,
        *,
        fail_at: int | None = None,
        error: type[BaseException] = KeyboardInterrupt,
        change: Callable[[Sequence[Tensor], Tensor], Tensor] | None = None,
        clips_per_call: int = 32,
    ) -> None:
        self.n_encoded = 0
        self.clips_per_call = clips_per_call
        self._fail_at, self._error, self._change = fail_at, error, change
        self._encoder = load_encoder("spectral", device="cpu")
        self.spec, self.sample_rate = self._encoder.spec, self._encoder.sample_rate
        self.max_duration = self._encoder.max_duration

    def encode(self, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
        if self._fail_at is not None and self.n_encoded + len(waveforms) > self._fail_at:
            raise self._error
        self.n_encoded += len(waveforms)
        vectors = self._encoder.encode(waveforms, batch_size)
        return vectors if self._change is None else self._change(waveforms, vectors)


@pytest.fixture(scope="session")
def counting_encoder() -> type[CountingEncoder]:
    """Return the class `CountingEncoder`."""
    return CountingEncoder


@pytest.fixture(scope="session")
def run_extract() -> Callable[..., tuple[FeatureSet, int]]:
    """Return a function that calls `extract`, and returns the features and the number of encoded utterances."""

    def run(
        corpus: Corpus, path: Path, encoder: CountingEncoder | None = None, **options: Any
    ) -> tuple[FeatureSet, int]:
        encoder = encoder or CountingEncoder()
        features = extract(corpus, encoder, path, progress=False, **options)  # type: ignore[arg-type]
        return features, encoder.n_encoded

    return run


@pytest.fixture
def own_root(corpus_root: Path, tmp_path: Path) -> Path:
    """Return a copy of the corpus, which the test may change."""
    return Path(shutil.copytree(corpus_root, tmp_path / "own"))


@pytest.fixture
def holder() -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Return a function that starts a process which holds a lock: ``holder("locked(Path('x.lock'))")``."""
    started: list[subprocess.Popen[str]] = []

    def hold(locks: str) -> "subprocess.Popen[str]":
        code = (
            f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
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
