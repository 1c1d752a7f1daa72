"""Training in the processes that torchrun starts, on CPUs."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corpora import Corpus
from files import read_csv

ROOT = Path(__file__).parents[2]
# Validation has pairs of utterances.
SETTINGS = [
    "--network", "bilstm", "--objective", "triplet", "--split_by", "speaker", "--fractions", "0.5", "0.5", "0",
    "--epochs", "2", "--n_frames", "20", "--batch_size", "5", "--num_workers", "1", "--device", "cpu",
]  # fmt: skip
# Runs the script with a checkpoint after each step; each process records the anchors of its steps, and one of them may
# fail after the first epoch.
SPY = f"""
import json, os, runpy, sys
sys.path.insert(0, {str(ROOT)!r})
import training.training_run as module
from training import TrainingError
folder, failing = sys.argv[1:3]
train_step, end_epoch = module.TrainingRun._train_step, module.TrainingRun._end_epoch
module.CHECKPOINT_SECONDS = -1.0

def step(run, batch):
    with open(os.path.join(folder, "anchors" + os.environ["RANK"]), "a") as file:
        anchors = batch.what[1][: len(batch.kept) // 3].tolist()
        file.write(json.dumps([batch.what[0].epoch, anchors]) + "\\n")
    return train_step(run, batch)

def end(run, curves):
    if os.environ["RANK"] == failing:
        raise TrainingError(f"Process {{failing}} stops here.")
    return end_epoch(run, curves)

module.TrainingRun._train_step, module.TrainingRun._end_epoch = step, end
sys.argv = [{str(ROOT / "train_encoder.py")!r}, *sys.argv[3:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass
class Done:
    """What a run left: its folder, its weights, what it printed."""

    folder: Path
    stdout: str
    stderr: str
    code: int

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        content: dict[str, Any] = torch.load(self.folder / "encoder_bilstm.pt", weights_only=True)
        tensors: dict[str, torch.Tensor] = content["tensors"]
        return tensors


@pytest.fixture(scope="module")
def run_in(corpus_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Done]:
    """Return a function that trains in a number of processes; the process `failing` fails after an epoch."""

    def run(n_processes: int, failing: int = -1, folder: Path | None = None, settings: list[str] = SETTINGS) -> Done:
        folder = folder or tmp_path_factory.mktemp("run")
        (folder / "spy.py").write_text(SPY)
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(n_processes), "--standalone"]
        command += [str(folder / "spy.py"), str(folder), str(failing), str(corpus_root), *settings]
        command += ["--output_dir", str(folder)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
        return Done(folder, done.stdout, done.stderr, done.returncode)

    return run


@pytest.fixture(scope="module")
def failed(run_in: Callable[..., Done]) -> Done:
    """Return a run in two processes, one of which failed after the first epoch, before it was evaluated."""
    done = run_in(2, failing=1)
    assert not (done.folder / "encoder_bilstm.pt").exists()
    return done


@pytest.fixture(scope="module")
def both(run_in: Callable[..., Done], failed: Done) -> tuple[Done, Done]:
    """Return a run in one process, and the same run in two, which continued the one that failed."""
    return run_in(1), run_in(2, folder=failed.folder)


def test_two_processes_see_every_crop_once(both: tuple[Done, Done], corpus: Corpus) -> None:
    _, done = both
    assert done.code == 0, done.stderr
    lines = [line for rank in (0, 1) for line in (done.folder / f"anchors{rank}").read_text().splitlines()]
    steps = [json.loads(line) for line in lines]
    for epoch in (0, 1):
        anchors = [row for number, rows in steps if number == epoch for row in rows]
        assert len(anchors) == len(set(anchors)) == 20  # the utterances of two speakers


def test_figures_and_weights_of_two_processes_are_those_of_one(both: tuple[Done, Done]) -> None:
    one, two = (read_csv(done.folder / "metrics.csv") for done in both)
    assert [row["part"] for row in two] == ["train", "validation"] * 2
    for expected, found in zip(one, two, strict=True):
        assert found["n_utterances"] == expected["n_utterances"]
        for name in ("loss", "eer", "min_dcf", "eer_threshold", "learning_rate"):
            values = [math.nan if row[name] in (None, "") else float(row[name]) for row in (expected, found)]
            assert values[1] == pytest.approx(values[0], abs=1e-4, nan_ok=True), name
    expected, found = (done.tensors for done in both)
    assert all(np.allclose(expected[name], found[name], atol=1e-4, rtol=0) for name in expected)


def test_only_the_first_process_prints(both: tuple[Done, Done]) -> None:
    _, done = both
    assert done.stdout.count("Saved ") == 2  # the encoder and the report
    assert done.stderr.count("INFO Epoch 1 of 2:") == 1
    assert done.stderr.count("INFO train: ") == 1
    assert done.stderr.count(": continuing at epoch 1, step") == 1
    assert "gloo" not in done.stderr


def test_error_of_one_process_ends_all_with_one_sentence(failed: Done) -> None:
    assert failed.code != 0
    lines = [line for line in failed.stderr.splitlines() if line.startswith(("ERROR ", "Interrupted"))]
    assert lines == ["ERROR Process 1 stops here."]
    assert "RuntimeError" not in failed.stderr


def test_refused_settings_are_reported_once(run_in: Callable[..., Done]) -> None:
    done = run_in(2, settings=[*SETTINGS, "--batch_size", "1"])
    assert done.stderr.count("fewer than one for each of the 2 processes") == 1
    assert done.code != 0
