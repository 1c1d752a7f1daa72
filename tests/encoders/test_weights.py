"""Where weights are found, how they are fetched, and what is remembered of them."""

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

from encoders import EncoderError, default_spec, describe_encoder, lazy_encoder, load_encoder
from encoders.weights import remembered, tensors_digest

ROOT = Path(__file__).parents[2]
NAME = "music_speech_audioset_epoch_15_esc_89.98.pt"
DESCRIBE = f"""
import sys, time; sys.path.insert(0, {str(ROOT)!r})
import huggingface_hub, encoders.audiosep
started = time.monotonic()
from encoders import EncoderError, describe_encoder
try: print(describe_encoder("audiosep")["weights"])
except EncoderError as error: print("EncoderError:", error)
print(time.monotonic() - started)
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with a clone that has no weights."""
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
def test_weights_are_found_beside_the_work_and_in_the_clone(place: str, elsewhere: Path, clap_weights: Path) -> None:
    assert default_spec("audiosep") is None
    link(clap_weights, elsewhere / place)
    assert default_spec("clap") == describe_encoder("audiosep") == describe_encoder("audiosep", clap_weights)


def test_the_cache_of_the_hub_is_searched(elsewhere: Path, clap_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(elsewhere / "hub"))
    repository = elsewhere / "hub" / "models--lukewys--laion_clap"
    link(clap_weights, repository / "snapshots" / "abc" / NAME)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    found = load_encoder("audiosep", device="cpu")
    assert found.spec == describe_encoder("audiosep", clap_weights)


def test_a_folder_of_weights_is_searched(elsewhere: Path, clap_weights: Path) -> None:
    folder = link(clap_weights, elsewhere / "some" / NAME).parent
    assert describe_encoder("audiosep", folder) == describe_encoder("audiosep", clap_weights)
    with pytest.raises(EncoderError, match=f"this folder has none of {NAME}"):
        describe_encoder("audiosep", elsewhere / "work")


def test_a_named_file_that_is_absent_is_answered(elsewhere: Path) -> None:
    with pytest.raises(EncoderError, match=r"nowhere\.pt: no such file"):
        describe_encoder("audiosep", "nowhere.pt")


def test_offline_and_absent_says_what_to_put_where(elsewhere: Path) -> None:
    with pytest.raises(EncoderError) as caught:
        load_encoder("audiosep")
    sentence = str(caught.value)
    assert f"/lukewys/laion_clap/resolve/main/{NAME}" in sentence
    for part in ("about 2.4 GB", "HF_HUB_OFFLINE", "pretrained_models/", "--encoder_weights"):
        assert part in sentence


@pytest.fixture
def hub(clap_weights: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the small checkpoint as the hub serves files; gives the address and the list of what was asked."""
    content = clap_weights.read_bytes()
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
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
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def ask(endpoint: str, folder: Path) -> tuple[str, float]:
    """Describe the default encoder in a process of its own, in an empty folder, with that hub."""
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


def test_absent_weights_are_downloaded_once(hub: tuple[str, list[str]], clap_weights: Path, tmp_path: Path) -> None:
    if (ROOT / "pretrained_models").exists():
        pytest.skip("this clone has pretrained_models/, so nothing would be downloaded")
    endpoint, asked = hub
    expected = describe_encoder("audiosep", clap_weights)["weights"]
    assert ask(endpoint, tmp_path)[0] == expected
    assert any(line.startswith("GET") for line in asked)
    asked.clear()
    assert ask(endpoint, tmp_path)[0] == expected
    assert asked == []


def test_a_hub_that_does_not_answer_costs_ten_seconds_at_most(tmp_path: Path) -> None:
    if (ROOT / "pretrained_models").exists():
        pytest.skip("this clone has pretrained_models/, so nothing would be downloaded")
    with socket.socket() as mute:  # takes the connection and says nothing
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        printed, seconds = ask(f"http://127.0.0.1:{mute.getsockname()[1]}", tmp_path)
    assert seconds < 10
    assert printed.startswith("EncoderError: The encoder's weights, ")
    assert "timed out" in printed or "did not answer" in printed


def test_what_was_computed_of_a_file_is_remembered_while_it_stays(tmp_path: Path) -> None:
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
def test_a_damaged_memory_is_made_again(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    memory = tmp_path / "voxprobe" / "digests.json"
    memory.parent.mkdir()
    memory.write_text(content)
    (tmp_path / "file").write_text("one")
    assert remembered(tmp_path / "file", "a", lambda: {"x": 1}) == {"x": 1}
    assert list(json.loads(memory.read_text()).values()) == [{"x": 1}]


def test_a_cache_folder_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("one")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert remembered(tmp_path / "file", "a", lambda: {"x": 1}) == {"x": 1}


def test_a_digest_is_of_names_shapes_and_values() -> None:
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


def test_weights_are_read_once_for_their_spec(clap_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = describe_encoder("audiosep", clap_weights)

    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr("encoders.audiosep.load_audio_tower", refuse)
    assert describe_encoder("audiosep", clap_weights) == expected


def test_a_hub_that_sends_one_on_to_a_mute_server_costs_ten_seconds_at_most(tmp_path: Path) -> None:
    if (ROOT / "pretrained_models").exists():
        pytest.skip("this clone has pretrained_models/, so nothing would be downloaded")
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()

        class Redirect(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{mute.getsockname()[1]}/file")
                for name, value in (("ETag", '"abc"'), ("X-Linked-Size", "9"), ("X-Repo-Commit", 40 * "0")):
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_HEAD = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Keep the tests' output clean."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Redirect)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        printed, seconds = ask(f"http://127.0.0.1:{server.server_port}", tmp_path)
        server.shutdown()
        server.server_close()
    assert seconds < 10
    assert "timed out" in printed or "did not answer" in printed


def test_weights_that_were_replaced_since_they_were_described_are_refused(
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
    with pytest.raises(EncoderError, match=r"clap\.pt: these weights were changed"):
        lazy.encode([torch.randn(8000)])
    assert describe_encoder("audiosep", path)["weights"] != lazy.spec["weights"]


def test_a_copy_of_an_encoder_gives_the_same_and_takes_other_weights(
    clap_weights: Path, clap_state: Callable[..., dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    waveform = torch.randn(8000, generator=torch.Generator().manual_seed(0))
    encoder = load_encoder("audiosep", clap_weights, device="cpu")
    expected = encoder.encode([waveform])
    twin = pickle.loads(pickle.dumps(copy.deepcopy(encoder)))
    assert torch.equal(twin.encode([waveform]), expected)
    torch.save(clap_state(seed=1), tmp_path / "other.pt")
    other = load_encoder("audiosep", tmp_path / "other.pt", device="cpu")
    twin.load_state_dict(other.state_dict())
    for block, source in zip(twin.modules(), other.modules(), strict=True):  # derived from the weights, not saved
        if hasattr(block, "bias") and "bias" in getattr(block, "_non_persistent_buffers_set", ()):
            block.bias = source.bias
    assert torch.equal(twin.encode([waveform]), other.encode([waveform]))
