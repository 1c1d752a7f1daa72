"""The page gives the answers of the scripts, bit for bit, and leaves no audio behind."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gradio_client import Client, handle_file

from verification import SpeakerStore, SpeakerVerifier

Run = Callable[..., subprocess.CompletedProcess[str]]
SAMPLE = Path(__file__).parents[2] / "sample"
HELD_OUT = [SAMPLE / "held_out" / name for name in ("9002_1.flac", "9001_2.flac", "9006_1.flac", "9001_1.flac")]
SPEAKERS = ("9001", "9002")


def voices(speaker: str) -> list[Path]:
    return sorted((SAMPLE / "LibriSpeech" / "synthetic" / speaker).rglob("*.flac"))[:3]


def sent(paths: list[Path]) -> list[Any]:
    return [handle_file(path) for path in paths]


@pytest.fixture(scope="module")
def client(page_server: Any) -> Client:
    return Client(page_server.address, verbose=False)


@pytest.fixture(scope="module")
def store(client: Client, page_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the store of the page, in which it has enrolled speakers."""
    for name in SPEAKERS:
        answer = client.predict(f"same {name}", sent(voices(name)), True, api_name="/enrol")
        assert answer["n_enrolled"] == 3, answer
    path = tmp_path_factory.mktemp("copy") / "speakers.db"
    path.write_bytes(page_server.store.read_bytes())
    return path


@pytest.fixture(autouse=True)
def _no_audio_left(page_server: Any) -> Iterator[None]:
    yield
    assert page_server.files() == []


@pytest.mark.parametrize("p_known", [0.5, 0.05])
def test_identify_equals_the_script(
    p_known: float, client: Client, store: Path, call_script: Run, tmp_path: Path
) -> None:
    answer = client.predict(sent(HELD_OUT), "enrolled speakers", p_known, False, api_name="/identify")
    flags = ["--store", store, "--output", tmp_path / "x.json", "--p_known", p_known, "--device", "cpu"]
    done = call_script("speaker_verification.py", "identify", *flags, *HELD_OUT)
    assert done.returncode == 0, done.stderr
    expected = json.loads((tmp_path / "x.json").read_text())
    assert [each["file"] for each in answer["recordings"]] == [path.name for path in HELD_OUT]
    for found, record in zip(answer["recordings"], expected, strict=True):
        assert [found[key] for key in ("predictions", "score", "threshold", "error")] == [
            record.get(key) for key in ("predictions", "score", "threshold", "error")
        ]


def test_classifier_equals_the_script(client: Client, classifier_file: Path, call_script: Run, tmp_path: Path) -> None:
    paths = [Path(shutil.copy(path, tmp_path)) for path in sorted(HELD_OUT)]
    answer = client.predict(sent(paths), classifier_file.name, 0.5, False, api_name="/identify")
    flags = ["--classifier", classifier_file, "--output", tmp_path / "x.json", "--device", "cpu"]
    done = call_script("speaker_recognition_inference.py", *flags, "--audio_path", tmp_path)
    assert done.returncode == 0, done.stderr
    for found, record in zip(answer["recordings"], json.loads((tmp_path / "x.json").read_text()), strict=True):
        assert found["predictions"] == record["predictions"]
        assert found["predictions"][0]["speaker"] == found["file"].split("_")[0]


def test_compare_equals_verify(client: Client, verifier_file: Path) -> None:
    verifier = SpeakerVerifier.load(verifier_file)
    for pair in (HELD_OUT[:2], [HELD_OUT[1], HELD_OUT[3]]):
        answer = client.predict(*sent(pair), 0.3, api_name="/compare")
        verdict = verifier.verify(*pair, p_target=0.3)
        for name in ("score", "llr", "probability", "same", "same_audio", "decision"):
            assert answer[name] == getattr(verdict, name)


def test_enrol_stores_what_the_script_stores(
    store: Path, verifier_file: Path, call_script: Run, tmp_path: Path
) -> None:
    for name in SPEAKERS:
        for paths in (voices(name)[:2], voices(name)[2:]):
            flags = ["--store", tmp_path / "s.db", "--verifier", verifier_file, "--existing", "add", "--device", "cpu"]
            done = call_script("speaker_verification.py", "enroll", *flags, "--name", f"same {name}", *paths)
            assert done.returncode == 0, done.stderr
    with SpeakerStore.open(store) as found, SpeakerStore.open(tmp_path / "s.db") as expected:
        for name in SPEAKERS:
            ours, theirs = (each.recordings(f"same {name}") for each in (found, expected))
            assert [each.path for each in ours] == [path.name for path in voices(name)]
            assert [(each.digest, each.seconds) for each in ours] == [(each.digest, each.seconds) for each in theirs]
            assert all(torch.equal(a.vector, b.vector) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("vad", [False, True])
def test_timeline_equals_the_script(
    vad: bool,
    client: Client,
    store: Path,
    call_script: Run,
    tmp_path: Path,
) -> None:
    # The name is that of the uploaded file, which is the recording of the RTTM file.
    recording = voices("9001")[0]
    answer = client.predict(handle_file(recording), 0.7, vad, api_name="/timeline")
    flags = ["--store", store, "--output", tmp_path / "x.rttm", "--p_known", 0.7, "--device", "cpu"]
    done = call_script(
        "speaker_verification.py", "identify", "--timeline", *flags, *(["--vad"] if vad else []), recording
    )
    assert done.returncode == 0, done.stderr
    assert answer["rttm"] == (tmp_path / "x.rttm").read_text()
    assert answer["csv"] == (tmp_path / "x.csv").read_bytes().decode()
    assert answer["rttm"]
