"""Fixtures of the page: a verifier that needs no weights, and servers of their own processes."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("gradio", reason="Gradio, which serves the page, is not installed: see requirements-extra.txt")

from corpora import load_corpus  # noqa: E402
from encoders import Encoder  # noqa: E402
from evaluation import compare_heads  # noqa: E402
from features import FeatureSet, extract  # noqa: E402
from verification import SpeakerVerifier  # noqa: E402

SAMPLE = ROOT / "sample"


@dataclass(frozen=True)
class Server:
    """A page that is served by a process of its own.

    Attributes
    ----------
    address : str
        Such as http://127.0.0.1:41234.
    process : subprocess.Popen
    temporary : Path
        Its folder for temporary files, which nothing else uses.
    store : Path
        Its store of enrolled speakers.
    printed : list of str
        Lines that it has printed so far; standard output and errors together.
    """

    address: str
    process: "subprocess.Popen[str]"
    temporary: Path
    store: Path
    printed: list[str] = field(default_factory=list)

    def files(self) -> list[Path]:
        """List the files in its temporary folder, without the lock of the folder of uploads."""
        return sorted(path for path in self.temporary.rglob("*") if path.is_file() and path.name != ".lock")


StartPage = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="session")
def sample_features(spectral: Encoder, tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    """Return the features of the sample's voices by the encoder `spectral`, which needs no weights."""
    path = tmp_path_factory.mktemp("sample") / "features.pt"
    extract(load_corpus(SAMPLE / "LibriSpeech"), spectral, path, progress=False)
    return FeatureSet.load(path)


@pytest.fixture(scope="session")
def verifier_file(sample_features: FeatureSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a verifier that was trained on the sample's voices."""
    return SpeakerVerifier.train(sample_features).save(tmp_path_factory.mktemp("page_verifier") / "verifier.pt")


@pytest.fixture(scope="session")
def classifier_file(sample_features: FeatureSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a classifier of the sample's voices, alone in a folder of results."""
    path = tmp_path_factory.mktemp("page_results") / "speaker_classifier_sample.pt"
    return compare_heads(sample_features, ["centroid"]).classifier.save(path)


@pytest.fixture(scope="session")
def start_page(verifier_file: Path, tmp_path_factory: pytest.TempPathFactory) -> StartPage:
    """Return a function that serves a page: ``with start_page("--max_upload", 5, variables={...}) as server``.

    A store and a folder for temporary files can be given; by default they are new.
    """

    @contextmanager
    def start(
        *arguments: object,
        store: Path | None = None,
        temporary: Path | None = None,
        variables: dict[str, str] | None = None,
    ) -> Iterator[Server]:
        folder = tmp_path_factory.mktemp("page")
        store, temporary = store or folder / "speakers.db", temporary or folder / "temporary"
        temporary.mkdir(exist_ok=True)
        given = ["--store", store, "--verifier", verifier_file, "--port", 0, "--device", "cpu", *arguments]
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py"), *map(str, given)],
            cwd=folder,
            env={**os.environ, "TMPDIR": str(temporary), **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        printed: list[str] = []
        try:
            address = _address(process, printed)
            yield Server(address, process, temporary, store, printed)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    return start


def _address(process: "subprocess.Popen[str]", printed: list[str]) -> str:
    """Wait for the address that the server prints; a thread keeps the lines after it, so that it can go on printing."""
    assert process.stdout is not None
    for line in process.stdout:
        printed.append(line)
        if line.startswith("The page is at "):
            threading.Thread(target=lambda: printed.extend(process.stdout or ()), daemon=True).start()
            return line.split()[4].rstrip("/")
    raise AssertionError(f"the page did not start:\n{''.join(printed)}")


@pytest.fixture(scope="session")
def page_server(start_page: StartPage, classifier_file: Path, speech_weights: Path) -> Iterator[Server]:
    """Return a page for tests that do not disturb each other: each enrols speakers of other names."""
    with start_page("--results_dir", classifier_file.parent) as server:
        yield server
