"""Runs that are killed, run out of disk space, or end in another way."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import audio
from encoders import EncoderError, TrainedNetwork
from files import OutputError
from training import TrainedEncoder, TrainingError
from training.training_run import TrainingRun

Train = Callable[..., TrainedEncoder]
ROOT = Path(__file__).parents[2]
CHECKPOINT, ENCODER = "training.ckpt", "encoder_conv1d.pt"
# Runs the script with a checkpoint after each step; it is killed while it writes its n-th checkpoint, or after that.
KILLED = f"""
import os, runpy, signal, sys
sys.path.insert(0, {str(ROOT)!r})
import torch
import training.training_run as module
torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
moment, number = sys.argv[1], int(sys.argv[2])
module.CHECKPOINT_SECONDS, done = 0.0, []
original, save = module.save_checkpoint, torch.save

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def write_half(content, file):
    save(content, file)
    file.truncate(file.tell() // 2)
    file.flush()
    kill()

def save_checkpoint(path, content):
    done.append(path)
    if len(done) == number and moment == "during":
        torch.save = write_half
    original(path, content)
    if len(done) == number:
        kill()

module.save_checkpoint = save_checkpoint
sys.argv = [{str(ROOT / "train_encoder.py")!r}, *sys.argv[3:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SETTINGS = [
    "--network", "conv1d", "--epochs", "2", "--batch_size", "8", "--n_frames", "30", "--num_workers", "1",
    "--device", "cpu", "--mask_probability", "0.5", "--schedule", "cosine",
]  # fmt: skip


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    content: dict[str, Any] = torch.load(folder / ENCODER, weights_only=True)
    tensors: dict[str, torch.Tensor] = content["tensors"]
    return tensors


@pytest.fixture
def start(corpus_root: Path, tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Return a function that starts the script, which is killed at a moment of its n-th checkpoint."""
    (tmp_path / "killed.py").write_text(KILLED)

    def run(folder: Path, moment: str = "never", number: int = 0) -> "subprocess.Popen[str]":
        command: Sequence[object] = [
            sys.executable, tmp_path / "killed.py", moment, number, corpus_root, *SETTINGS, "--output_dir", folder
        ]  # fmt: skip
        return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return run


@pytest.mark.timeout(400)  # four scripts, one after another
def test_a_killed_script_continues_with_the_same_weights(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "killed"
    assert start(undisturbed).wait(100) == 0
    for moment, number in (("after", 1), ("during", 3)):
        process = start(folder, moment, number)
        process.communicate(timeout=100)
        assert process.returncode == -signal.SIGKILL
        assert (folder / CHECKPOINT).is_file()
        assert not (folder / ENCODER).exists()
    printed = start(folder).communicate(timeout=100)
    assert "continuing at epoch" in printed[1]
    expected, found = tensors_of(undisturbed), tensors_of(folder)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert [path.name for path in folder.glob(".*.tmp")] == []  # of the processes that were killed


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_script_says_how_to_continue(
    sent: signal.Signals, start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    process = start(tmp_path / "run")
    deadline = time.monotonic() + 100
    while not (tmp_path / "run" / CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == "Interrupted. Run the same command again to continue."
    assert "Traceback" not in errors


def test_a_full_disk_keeps_the_last_checkpoint(train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    undisturbed = train(output_dir=tmp_path / "undisturbed")
    checkpoint, original = tmp_path / "run" / CHECKPOINT, os.fsync
    written: list[Path] = []

    def fsync(number: int) -> None:
        if written and any(checkpoint.parent.glob(f".{CHECKPOINT}.*")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.extend(checkpoint.parent.glob(f".{CHECKPOINT}.*"))
        original(number)

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OutputError, match=rf"{CHECKPOINT}: cannot be written \(No space left on device\)"):
        train()
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 1
    assert list(checkpoint.parent.glob(".*.tmp")) == []
    monkeypatch.undo()
    train()
    expected, found = tensors_of(undisturbed.paths[0].parent), tensors_of(checkpoint.parent)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_second_run_in_the_folder_is_refused(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = TrainingRun._end_epoch

    def end(run: TrainingRun, curves: Any) -> None:
        with pytest.raises(OutputError, match=f"{tmp_path / 'run' / CHECKPOINT}: another .* is writing there"):
            train(lr=0.5)
        original(run, curves)

    monkeypatch.setattr(TrainingRun, "_end_epoch", end)
    assert train().paths[0].is_file()


@pytest.mark.parametrize(
    "change", [lambda content: content.pop("precision"), lambda content: content["members"].clear()]
)
def test_a_checkpoint_that_does_not_fit_is_refused(change: Callable[[Any], Any], train: Train, tmp_path: Path) -> None:
    path = train(epochs=1).paths[0].parent / CHECKPOINT
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(TrainingError, match=rf"{CHECKPOINT}: .*Delete it to begin again\."):
        train(epochs=1)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=rf"{CHECKPOINT}: .*cut off .*Delete it to begin again\."):
        train(epochs=1)


def test_a_folder_that_was_deleted_ends_the_run_in_a_sentence(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TrainingRun._end_epoch

    def end(run: TrainingRun, curves: Any) -> None:
        shutil.rmtree(tmp_path / "run")
        original(run, curves)

    monkeypatch.setattr(TrainingRun, "_end_epoch", end)
    with pytest.raises(OutputError, match=r"the folder was deleted\. The same command begins again\."):
        train()


def test_weights_that_are_not_finite_are_never_saved(train: Train, tmp_path: Path) -> None:
    trained = TrainedNetwork.load(train(epochs=1).paths[0])
    next(iter(trained.tensors.values())).view(-1)[0] = float("nan")
    with pytest.raises(EncoderError, match=r"the weights of '.*' are not finite"):
        trained.save(tmp_path / "broken.pt")
    assert not (tmp_path / "broken.pt").exists()


def test_a_process_that_reads_crops_and_is_killed_ends_the_run_in_a_sentence(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, original = os.getpid(), audio.read_audio

    def read_or_end(*arguments: Any, **options: Any) -> torch.Tensor:
        if os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    monkeypatch.setattr("training.crop_reader.read_audio", read_or_end)
    with pytest.raises(TrainingError, match=r"A process that reads crops was killed.*--num_workers"):
        train(num_workers=1)


def test_precisions(train: Train, tmp_path: Path) -> None:
    trained = train(precision="bf16", output_dir=tmp_path / "bf16")
    assert {tensor.dtype for tensor in tensors_of(trained.paths[0].parent).values()} == {torch.float32, torch.int64}
    with pytest.raises(TrainingError, match="The precision fp16 needs a CUDA GPU; on cpu, give --precision bf16"):
        train(precision="fp16", output_dir=tmp_path / "fp16")
    assert train(precision="auto", output_dir=tmp_path / "auto").rows
