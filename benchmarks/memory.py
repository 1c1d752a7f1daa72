"""Measure the memory of extraction beyond that of the model: many files, a long file, and many utterances.

python benchmarks/memory.py --encoder audiosep    (on Linux)
"""

import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile
import torch

from benchmarks.clap import random_clap
from benchmarks.wav2vec2 import save_random_model
from command_line import EXIT_DONE, run
from config import LogLevel, ScriptConfig
from corpora import Corpus, Utterance
from encoders import load_encoder
from features import extract

RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class MemoryBenchmark(ScriptConfig):
    """Extract 8 and 64 files of 10 s, and a long file with windows, each in its own process.

    Then extract 1,000, 10,000 and 100,000 short utterances with `spectral`.
    """

    hours: float = 3.0
    """Duration of the long file (hours)."""
    encoder: Literal["audiosep", "wav2vec2"] = "audiosep"
    """Encoder, of base size with random weights."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def main(config: MemoryBenchmark) -> int:
    """Print the peak memory of each process beyond that of the model."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        weights = folder / "weights"
        if config.encoder == "audiosep":
            torch.save({"state_dict": random_clap("base").state_dict()}, weights)
        else:
            save_random_model("Wav2Vec2", weights)
        write_noise(folder / "long.wav", config.hours * 3600)
        for number in range(64):
            write_noise(folder / f"{number:02d}.wav", 10.0)
        for files in (8, 64, 0):
            command = [sys.executable, __file__, "--child", name, str(files), config.encoder]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            what = f"{files} files of 10 s" if files else f"one file of {config.hours:g} h, windows of 10 s"
            print(f"{what}: {printed.strip()}")
        for n_utterances in (1_000, 10_000, 100_000):
            command = [sys.executable, __file__, "--many", name, str(n_utterances)]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            print(f"{n_utterances} utterances of 0.1 s: {printed.strip()}")
    return EXIT_DONE


def write_noise(path: Path, seconds: float) -> None:
    """Write a file of noise, one minute at a time."""
    random = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for start in np.arange(0, seconds, 60.0):
            file.write(0.1 * random.standard_normal(round(min(60.0, seconds - start) * RATE)))


def child(folder: Path, n_files: int, name: str) -> None:
    """Extract files in this process, and print its memory."""
    windows: dict[str, Any] = {} if n_files else {"window": 10.0, "hop": 10.0}
    encoder = load_encoder(name, folder / "weights", "cpu", **windows)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak (Linux)
    before = peak_bytes()
    paths = [folder / f"{number:02d}.wav" for number in range(n_files)] or [folder / "long.wav"]
    utterances = tuple(Utterance(path, "one", "one", root=folder) for path in paths)
    extract(Corpus(utterances, folder, "noise"), encoder, folder / f"{n_files}.pt")
    print(f"{before / 2**20:.0f} MiB with the model, {(peak_bytes() - before) / 2**20:.0f} MiB more at the peak")


def many(folder: Path, n_utterances: int) -> None:
    """Extract segments of the long file in this process, and print its memory.

    Memory that is mapped from files is not counted: the system can free it at any time.
    """
    utterances = tuple(
        Utterance(folder / "long.wav", "one", "one", start=number / 10, duration=0.1, root=folder)
        for number in range(n_utterances)
    )
    corpus = Corpus(utterances, folder, "noise")
    assert len(corpus.ids) == n_utterances  # computes the ids, which belong to the corpus
    encoder = load_encoder("spectral", device="cpu")
    encoder.encode([torch.randn(1600)])
    before, held, done = own_bytes(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            held.append(own_bytes() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    extract(corpus, encoder, folder / f"{n_utterances}.pt")
    done.set()
    watcher.join()
    print(f"{before / 2**20:.0f} MiB with the corpus, {max(held) / 2**20:.0f} MiB more at the peak")


def own_bytes() -> int:
    """Return the memory of this process that is not mapped from files (bytes, Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))


def peak_bytes() -> int:
    """Return the peak memory of this process (bytes, Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    elif sys.argv[1:2] == ["--many"]:
        many(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        run(MemoryBenchmark, main)
