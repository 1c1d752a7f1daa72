"""Weights: where they are found, how they are downloaded, and the cache of their specs."""

import copy
import hashlib
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from encoders import EncoderError, default_spec, lazy_encoder, load_encoder
from encoders.weights import tensors_digest
from files import remembered

ROOT = Path(__file__).parents[2]
NAME = "music_speech_audioset_epoch_15_esc_89.98.pt"
DESCRIBE = f"""
import sys, time; sys.path.insert(0, {str(ROOT)!r})
import huggingface_hub, encoders.audiosep
started = time.monotonic()
from encoders import EncoderError, lazy_encoder
try: print(lazy_encoder("audiosep").spec["weights"])
except EncoderError as error: print("EncoderError:", error)
print(time.monotonic() - started)
"""


@pytest.fixture
def empty_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty working folder and a clone without weights; return the folder of both."""
    (tmp_path / "clone" / "encoders").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.setattr("encoders.weights.CLONE", tmp_path / "clone")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def link(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)
    return target


@pytest.mark.parametrize(
    "place",
    [
        f"work/pretrained_models/{NAME}",
        f"clone/pretrained_models/{NAME}",
        "work/pretrained_models/audiosep_base_4M_steps.ckpt",
        "clone/pretrained_models/pytorch_model.bin",
    ],
)
def test_weights_are_found_in_working_folder_and_in_clone(place: str, empty_folders: Path, clap_weights: Path) -> None:
    assert default_spec("audiosep") is None
    link(clap_weights, empty_folders / place)
    assert default_spec("clap") == lazy_encoder("audiosep").spec == lazy_encoder("audiosep", clap_weights).spec


def test_weights_are_found_in_the_hub_cache(
    empty_folders: Path, clap_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(empty_folders / "hub"))
    repository = empty_folders / "hub" / "models--lukewys--laion_clap"
    link(clap_weights, repository / "snapshots" / "abc" / NAME)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    found = load_encoder("audiosep", device="cpu")
    assert found.spec == lazy_encoder("audiosep", clap_weights).spec


def test_weights_are_found_in_a_given_folder(empty_folders: Path, clap_weights: Path) -> None:
    folder = link(clap_weights, empty_folders / "some" / NAME).parent
    assert lazy_encoder("audiosep", folder).spec == lazy_encoder("audiosep", clap_weights).spec
    with pytest.raises(EncoderError, match=f"this folder has none of {NAME}"):
        lazy_encoder("audiosep", empty_folders / "work")


def test_missing_file_is_refused(empty_folders: Path) -> None:
    with pytest.raises(EncoderError, match=r"nowhere\.pt: no such file"):
        lazy_encoder("audiosep", "nowhere.pt")


def test_missing_weights_error_lists_the_file_to_get(empty_folders: Path) -> None:
    with pytest.raises(EncoderError) as caught:
        load_encoder("audiosep")
    sentence = str(caught.value)
    assert f"/lukewys/laion_clap/resolve/main/{NAME}" in sentence
    for part in ("about 2.4 GB", "HF_HUB_OFFLINE", "pretrained_models/", "--encoder_weights"):
        assert part in sentence


@pytest.fixture
def hub(clap_weights: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the small checkpoint as the hub serves files; return the address and the list of requests."""
    content = clap_weights.read_bytes()
    requests: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def answer(self) -> None:
            requests.append(f"{self.command} {self.path}")
            known = self.path.startswith("/lukewys/laion_clap/resolve/") and self.path.endswith(f"/{NAME}")
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(content) if known else 0))
            if known:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "c0ffee" + 34 * "0")
            self.end_headers()
            if known and self.command == "GET":
                self.wfile.write(content)

        do_GET = do_HEAD = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()


def describe_in_process(endpoint: str, folder: Path) -> tuple[str, float]:
    """Describe the default encoder in a new process with this hub; return what it prints and its seconds."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBE],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed, seconds = done.stdout.strip().splitlines()
    return printed, float(seconds)


def test_missing_weights_are_downloaded_once(hub: tuple[str, list[str]], clap_weights: Path, tmp_path: Path) -> None:
    if (ROOT / "pretrained_models").exists():
        pytest.skip("this clone has pretrained_models/, so nothing would be downloaded")
    endpoint, requests = hub
    expected = lazy_encoder("audiosep", clap_weights).spec["weights"]
    assert describe_in_process(endpoint, tmp_path)[0] == expected
    assert any(line.startswith("GET") for line in requests)
    requests.clear()
    assert describe_in_process(endpoint, tmp_path)[0] == expected
    assert requests == []


def test_silent_hub_is_reported_within_ten_seconds(tmp_path: Path) -> None:
    if (ROOT / "pretrained_models").exists():
        pytest.skip("this clone has pretrained_models/, so nothing would be downloaded")
    with socket.socket() as silent:  # accepts the connection and sends nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        printed, seconds = describe_in_process(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path)
    assert seconds < 10
    assert printed.startswith("EncoderError: The encoder's weights, ")
    assert "timed out" in printed or "did not answer" in printed


def test_values_are_cached_until_the_file_changes(tmp_path: Path) -> None:
    calls = []

    def compute() -> dict[str, int]:
        calls.append(1)
        return {"calls": len(calls)}

    path = tmp_path / "file"
    path.write_text("one")
    assert remembered(path, "a", compute) == remembered(path, "a", compute) == {"calls": 1}
    assert remembered(path, "b", compute) == {"calls": 2}
    path.write_text("other")
    assert remembered(path, "a", compute) == {"calls": 3}


@pytest.mark.parametrize("content", ["", "text", "[1]", '{"a": '])
def test_damaged_cache_is_replaced(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = tmp_path / "voxprobe" / "digests.json"
    cache.parent.mkdir()
    cache.write_text(content)
    (tmp_path / "file").write_text("one")
    assert remembered(tmp_path / "file", "a", lambda: {"x": 1}) == {"x": 1}
    assert list(json.loads(cache.read_text()).values()) == [{"x": 1}]


def test_values_are_computed_without_a_writable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("one")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert remembered(tmp_path / "file", "a", lambda: {"x": 1}) == {"x": 1}


def test_digest_depends_on_names_shapes_types_and_values() -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(())}
    digest = tensors_digest(tensors)
    assert digest == tensors_digest(dict(reversed(tensors.items())))
    assert digest == tensors_digest({**tensors, "a": tensors["a"].T.contiguous().T})
    for changed in (
        {**tensors, "a": tensors["a"].reshape(3, 2)},
        {**tensors, "a": tensors["a"] + 1e-6},
        {**tensors, "a": tensors["a"].double()},
        {"c": tensors["a"], "b": tensors["b"]},
    ):
        assert tensors_digest(changed) != digest


def test_spec_is_cached_after_reading_the_weights_once(clap_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = lazy_encoder("audiosep", clap_weights).spec

    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr("encoders.audiosep.load_audio_tower", refuse)
    assert lazy_encoder("audiosep", clap_weights).spec == expected


def test_redirect_to_silent_server_is_reported_within_ten_seconds(tmp_path: Path) -> None:
    if (ROOT / "pretrained_models").exists():
        pytest.skip("this clone has pretrained_models/, so nothing would be downloaded")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        class Redirect(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{silent.getsockname()[1]}/file")
                for name, value in (("ETag", '"abc"'), ("X-Linked-Size", "9"), ("X-Repo-Commit", 40 * "0")):
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_HEAD = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Keep the tests' output clean."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Redirect)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        printed, seconds = describe_in_process(f"http://127.0.0.1:{server.server_port}", tmp_path)
        server.shutdown()
        server.server_close()
    assert seconds < 10
    assert "timed out" in printed or "did not answer" in printed


def test_weights_replaced_after_describing_are_refused(
    clap_weights: Path, clap_state: Callable[..., dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    path = tmp_path / "clap.pt"
    shutil.copy(clap_weights, path)
    lazy = lazy_encoder("audiosep", path, device="cpu")
    before = path.stat()
    torch.save(clap_state(seed=1), path)
    content = path.read_bytes()
    path.write_bytes(content + bytes(max(before.st_size - len(content), 0)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(EncoderError, match=r"clap\.pt: these weights have changed"):
        lazy.encode([torch.randn(8000)])
    assert lazy_encoder("audiosep", path).spec["weights"] != lazy.spec["weights"]


def test_copied_encoder_gives_same_output_and_loads_other_weights(
    clap_weights: Path, clap_state: Callable[..., dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    waveform = torch.randn(8000, generator=torch.Generator().manual_seed(0))
    encoder = load_encoder("audiosep", clap_weights, device="cpu")
    expected = encoder.encode([waveform])
    copied = pickle.loads(pickle.dumps(copy.deepcopy(encoder)))
    assert torch.equal(copied.encode([waveform]), expected)
    torch.save(clap_state(seed=1), tmp_path / "other.pt")
    other = load_encoder("audiosep", tmp_path / "other.pt", device="cpu")
    copied.load_state_dict(other.state_dict())
    # These buffers are computed from the weights, and are not in the state dict.
    for block, source in zip(copied.modules(), other.modules(), strict=True):
        if hasattr(block, "bias") and "bias" in getattr(block, "_non_persistent_buffers_set", ()):
            block.bias = source.bias
    assert torch.equal(copied.encode([waveform]), other.encode([waveform]))
