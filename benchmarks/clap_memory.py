"""How much memory `audiosep` takes beyond its weights: for many files, and for a very long one.

python benchmarks/clap_memory.py
"""

import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile
import torch

from benchmarks.clap import Size, random_clap
from command_line import EXIT_DONE, run
from config import LogLevel, ScriptConfig
from corpora import Corpus, Utterance
from encoders import load_encoder
from features import extract

RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class MemoryBenchmark(ScriptConfig):
    """Extract 8, then 64 files of 10 s, then a file of some hours by windows, each in a process of its own."""

    hours: float = 3.0
    """Of the long file."""
    size: Size = "base"
    """Of the HTSAT network, with random weights."""
    log_level: LogLevel = "error"
    """How much is told of the work."""


def main(config: MemoryBenchmark) -> int:
    """Print the most that each process held beyond what it held after one clip."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        torch.save({"state_dict": random_clap(config.size)}, folder / "clap.pt")
        write_noise(folder / "long.wav", config.hours * 3600)
        for number in range(64):
            write_noise(folder / f"{number:02d}.wav", 10.0)
        for files in (8, 64, 0):
            command = [sys.executable, __file__, "--child", name, str(files)]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            what = f"{files} files of 10 s" if files else f"one file of {config.hours:g} h, windows of 10 s"
            print(f"{what}: {printed.strip()}")
    return EXIT_DONE


def write_noise(path: Path, seconds: float) -> None:
    """Write noise, a minute at a time."""
    random = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for start in np.arange(0, seconds, 60.0):
            file.write(0.1 * random.standard_normal(round(min(60.0, seconds - start) * RATE)))


def child(folder: Path, n_files: int) -> None:
    """Extract in this process, and print the memory that it took."""
    windows: dict[str, Any] = {} if n_files else {"window": 10.0, "hop": 10.0}
    encoder = load_encoder("audiosep", folder / "clap.pt", "cpu", **windows)
    encoder.encode([torch.randn(320_000)])
    before = peak_bytes()
    paths = [folder / f"{number:02d}.wav" for number in range(n_files)] or [folder / "long.wav"]
    utterances = tuple(Utterance(path, "one", "one", root=folder) for path in paths)
    extract(Corpus(utterances, folder, "noise"), encoder, folder / f"{n_files}.pt", 10.0 if n_files else None)
    print(f"{before / 2**20:.0f} MiB after one clip, {(peak_bytes() - before) / 2**20:.0f} MiB more at the peak")


def peak_bytes() -> int:
    """Return the most memory that this process has held (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        run(MemoryBenchmark, main)
