"""Compare the speed of training with its stages alone and with a plain DataLoader, and measure its memory.

python benchmarks/training.py speed --data_dir LibriSpeech/dev-clean --network conv1d    (on Linux)
python benchmarks/training.py memory --data_dir LibriSpeech/dev-clean
python benchmarks/training.py minutes outputs/conv1d outputs/transformer
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.memory import own_bytes
from command_line import EXIT_DONE, run_one_of
from config import LogLevel, ScriptConfig
from configs.base import InputPath
from corpora import Corpus, load_corpus
from files import format_table
from networks import FrontEnd, create_front_end
from networks.front_ends import Mfcc
from training import train_encoder
from training.augmentation import SpecAugment
from training.batch_plan import BatchPlan
from training.crop_reader import CropReader, CropRequest
from training.data import TrainingData, measure
from training.member import Member
from training.processes import create_fabric, threads
from training.settings import TrainingSettings

# Settings of the recipes conv1d_classifier and scratch_bilstm.
RECIPES: dict[str, dict[str, Any]] = {
    "conv1d": {
        "objective": "classification", "class_weight": True, "n_frames": 300, "optimizer": "adamw", "lr": 1e-4,
        "weight_decay": 0.01, "max_norm": 1.0, "batch_size": 32,
    },
    "bilstm": {
        "objective": "triplet", "n_frames": 100, "window": 100, "mask_probability": 0.3, "lr": 1e-4, "batch_size": 8,
    },
}  # fmt: skip
DECODE, FRONT_END, STEP, WHOLE, PLAIN = (
    "decode", "front end", "forward and backward", "train_encoder.py", "plain DataLoader",
)  # fmt: skip
WAYS = (DECODE, FRONT_END, STEP, WHOLE, PLAIN)


@dataclass(frozen=True, kw_only=True)
class SpeedBenchmark(ScriptConfig):
    """Time the stages of training alone, training as the script does it, and a plain DataLoader.

    Each is measured in its own process; the ways take turns. The plain DataLoader decodes whole files and computes the
    frames of each in worker processes, as published systems do; MFCC by librosa.
    """

    data_dir: Path
    """Folder of the corpus."""
    network: Literal["conv1d", "bilstm"] = "conv1d"
    """Network, with the settings of its recipe."""
    n_steps: int = 40
    """Number of training steps of each measurement."""
    num_workers: int | Literal["auto"] = "auto"
    """Number of processes that read crops in training."""
    plain_workers: int = 2
    """Number of processes of the plain DataLoader."""
    repeats: int = 3
    """Number of repetitions."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


@dataclass(frozen=True, kw_only=True)
class MemoryBenchmark(ScriptConfig):
    """Measure the memory of training on 1,000 and 100,000 listed utterances, which are segments of the same files."""

    data_dir: Path
    """Folder of the corpus."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


@dataclass(frozen=True, kw_only=True)
class MinutesBenchmark(ScriptConfig):
    """Compare training runs by the loss and the validation accuracy that they have after the same time of training."""

    is_positional: ClassVar[bool] = True

    runs: tuple[InputPath, ...]
    """Output folders of train_encoder.py."""
    minutes: tuple[float, ...] = (1, 2, 5, 10, 20)
    """Times at which the runs are compared, beside their ends: the figures are those of the last complete epoch."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def main_speed(config: SpeedBenchmark) -> int:
    """Print the crops per second of each way, and what they are of the stages alone."""
    results: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(config.repeats):
        for way in WAYS:
            results[way].append(_in_a_process("speed", way, config))
    rate = {way: median(each["crops"] / each["seconds"] for each in rounds) for way, rounds in results.items()}
    cpu = {way: median(1e3 * each["cpu"] / each["crops"] for each in rounds) for way, rounds in results.items()}
    lines = [[way, f"{rate[way]:.0f}", f"{1e3 / rate[way]:.2f}", f"{cpu[way]:.2f}"] for way in WAYS]
    print(f"{config.network}; {config.n_steps} steps; medians of {config.repeats}; {os.cpu_count()} cores")
    print(format_table(["", "crops/s", "ms/crop", "CPU ms/crop"], lines, "<>>>"))
    for way in (STEP, PLAIN):
        ratios = sorted(
            (ours["crops"] / ours["seconds"]) / (theirs["crops"] / theirs["seconds"])
            for ours, theirs in zip(results[WHOLE], results[way], strict=True)
        )
        print(f"{WHOLE} runs at {median(ratios):.2f} ({ratios[0]:.2f} - {ratios[-1]:.2f}) times the rate of {way}")
    n_cores = os.cpu_count() or 1
    bound = min(1e3 * n_cores / (cpu[DECODE] + cpu[FRONT_END] + cpu[STEP]), rate[STEP])
    print(f"The cores allow for {bound:.0f} crops/s, {bound / rate[STEP]:.2f} times the rate of {STEP}")
    return EXIT_DONE


def main_memory(config: MemoryBenchmark) -> int:
    """Print the memory of the first process and of a worker, with 1,000 and 100,000 utterances."""
    lines = []
    for n_utterances in (1_000, 100_000):
        found = _in_a_process("memory", str(n_utterances), config)
        lines.append([f"{n_utterances:,}", *(f"{found[name] / 2**20:.0f}" for name in ("corpus", "main", "worker"))])
    print(format_table(["utterances", "corpus (MiB)", "training (MiB)", "a worker (MiB)"], lines, ">>>>"))
    return EXIT_DONE


def main_minutes(config: MinutesBenchmark) -> int:
    """Print the epoch, the training loss and the validation accuracy of each run after each time."""
    lines = []
    for folder in config.runs:
        rows = json.loads((folder / "metrics.json").read_text())["rows"]
        validation = {row["epoch"]: row["accuracy"] for row in rows if row["part"] == "validation"}
        done, seconds = [], 0.0
        for row in (row for row in rows if row["part"] == "train"):
            seconds += row["seconds"]
            done.append((seconds / 60, row))
        total = done[-1][0]
        for limit in (*(limit for limit in config.minutes if done[0][0] <= limit < total), total):
            last = [row for minutes, row in done if minutes <= limit][-1]
            figures = f"{last['loss']:.2f}", f"{100 * validation[last['epoch']]:.1f}"
            lines.append([last["network"], f"{limit:.0f}", str(last["epoch"]), *figures])
    print(format_table(["network", "minutes", "epochs", "training loss", "validation"], lines, "<>>>>"))
    return EXIT_DONE


def _in_a_process(command: str, way: str, config: SpeedBenchmark | MemoryBenchmark) -> dict[str, float]:
    arguments = {name: str(value) if isinstance(value, Path) else value for name, value in vars(config).items()}
    child = [sys.executable, __file__, "--child", command, way, json.dumps(arguments)]
    printed = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


def _seconds_of_processes() -> float:
    """Return the CPU time of this process and of its children that have ended (s)."""
    return sum(os.times()[:4])


class Bench:
    """The stages of training, each on the crops of the first steps."""

    def __init__(self, data_dir: Path, network: str, n_steps: int) -> None:
        corpus = load_corpus(data_dir)
        self.settings = TrainingSettings(networks=(network,), **RECIPES[network]).resolve()
        self.front_end = create_front_end(self.settings.front_end, **self.settings.front_end_options)
        utterances, n_samples, _ = measure(corpus, self.front_end.sample_rate, progress=False)
        rows = np.arange(len(utterances))
        front_end = self.front_end
        self.data = TrainingData(
            utterances, n_samples, {"train": rows}, sample_rate=front_end.sample_rate, hop=front_end.hop
        )
        is_triplet = self.settings.objective == "triplet"
        plan = BatchPlan(self.data.labels, self.settings.batch_size, triplets=is_triplet, steps_per_epoch=n_steps)
        self.steps = list(plan.steps(0))
        labels = torch.from_numpy(self.data.labels)
        self.member = Member(network, self.settings, front_end, labels=labels, fabric=create_fabric("cpu", "fp32"))
        self.augment = SpecAugment(0.3, 8, 20) if self.settings.mask_probability else None

    def requests(self) -> Iterator[CropRequest]:
        n_frames = self.settings.n_frames
        assert isinstance(n_frames, int)
        for step in self.steps:
            pairs = zip(step.rows.tolist(), step.positions.tolist(), strict=True)
            yield CropRequest(tuple(self.data.crop(row, position, n_frames) for row, position in pairs), step.rows)

    def read(self, with_frames: bool) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return the inputs, the numbers of frames and the labels of the steps."""
        end = self.front_end
        reader = CropReader(end.sample_rate, end.hop, end.n_fft, front_end=end if with_frames else None)
        batches = [reader[request] for request in self.requests()]
        return [
            (batch.inputs, batch.n_frames, torch.from_numpy(self.data.labels[batch.what[batch.kept.numpy()]]))
            for batch in batches
        ]

    def train(self, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Update the weights on batches of frames."""
        with threads(self.member.model.network.training_threads):
            for frames, n_frames, labels in batches:
                if self.augment is not None:
                    frames = self.augment(frames, n_frames)
                self.member.train_step(frames, n_frames, labels, share=1.0, lr=self.settings.lr)


class WholeFiles(Dataset[tuple[Tensor, int, int]]):
    """Decodes a whole file and computes its frames for each item, and returns a random crop."""

    def __init__(self, bench: Bench) -> None:
        self._rows = np.concatenate([step.rows for step in bench.steps])
        self._data, self._front_end, self._size = bench.data, bench.front_end, bench.settings.n_frames

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> tuple[Tensor, int, int]:
        row = self._rows[place]
        samples, _ = soundfile.read(self._data.utterances[row].path, dtype="float32")
        frames = self._frames(samples)
        assert isinstance(self._size, int)
        first = random.randint(0, max(len(frames) - self._size, 0))
        crop = frames[first : first + self._size]
        padded = torch.nn.functional.pad(crop, (0, 0, 0, self._size - len(crop)))
        return padded, len(crop), int(self._data.labels[row])

    def _frames(self, samples: Any) -> Tensor:
        if isinstance(self._front_end, Mfcc):
            import librosa  # as wq2012's SpeakerRecognitionFromScratch computes them

            coefficients = librosa.feature.mfcc(y=samples, sr=16_000, n_mfcc=self._front_end.n_features)
            return torch.from_numpy(coefficients.T.copy())
        waveform = torch.from_numpy(samples)[None]
        frames: Tensor = self._front_end(waveform, torch.tensor([waveform.shape[1]]))[0][0]
        return frames


def child_speed(way: str, arguments: dict[str, Any]) -> dict[str, float]:
    """Run one way, and return its crops, its wall time and the CPU time of its processes (s)."""
    n_steps, data_dir = arguments["n_steps"], Path(arguments["data_dir"])
    bench = Bench(data_dir, arguments["network"], n_steps)
    ready = bench.read(with_frames=way == STEP)  # this also brings the files into the page cache
    crops = sum(len(labels) for _, _, labels in ready)
    if way == WHOLE:
        return _whole(arguments, bench, crops)
    works: dict[str, Callable[[], object]] = {
        DECODE: lambda: _decode(bench),
        FRONT_END: lambda: _frames(bench.front_end, ready),
        STEP: lambda: bench.train(ready),
        PLAIN: lambda: _plain(bench, arguments["plain_workers"]),
    }
    if way == STEP:
        bench.train(ready[:5])
    started, cpu = time.perf_counter(), _seconds_of_processes()
    works[way]()
    return {"crops": crops, "seconds": time.perf_counter() - started, "cpu": _seconds_of_processes() - cpu}


def _decode(bench: Bench) -> None:
    with threads(1):
        bench.read(with_frames=False)


def _frames(front_end: FrontEnd, ready: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    with threads(1), torch.no_grad():
        for waveforms, n_frames, _ in ready:
            front_end.frames(waveforms, n_frames)


def _plain(bench: Bench, num_workers: int) -> None:
    size = len(bench.steps[0].rows)
    loader: DataLoader[Any] = DataLoader(WholeFiles(bench), batch_size=size, num_workers=num_workers, drop_last=True)
    bench.train(loader)


def _whole(arguments: dict[str, Any], bench: Bench, crops: int) -> dict[str, float]:
    """Train three epochs as the script does, and return the figures of the second, when nothing starts or ends."""
    with TemporaryDirectory() as folder:
        cpu = _seconds_of_processes()
        trained = train_encoder(
            load_corpus(arguments["data_dir"]),
            arguments["network"],
            fractions=(1.0, 0.0, 0.0),
            split_by="utterance",
            output_dir=folder,
            device="cpu",
            num_workers=arguments["num_workers"],
            progress=False,
            epochs=3,
            steps_per_epoch=arguments["n_steps"],
            **RECIPES[arguments["network"]],
        )
        cpu = _seconds_of_processes() - cpu
    seconds = [row["seconds"] for row in trained.rows if row["part"] == "train"]
    return {"crops": crops, "seconds": seconds[1], "cpu": cpu / 3}


def child_memory(n_utterances: int, arguments: dict[str, Any]) -> dict[str, float]:
    """Read crops of a long list of segments; return the memory of the list, of training, and of a worker (bytes)."""
    from dataclasses import replace

    from training.crop_reader import read_crops

    torch.set_num_threads(1)
    whole, before = load_corpus(arguments["data_dir"]), own_bytes()
    n_each = -(-n_utterances // len(whole))
    segments = (
        replace(utterance, start=0.01 * number, duration=1.0) for utterance in whole for number in range(n_each)
    )
    corpus = Corpus(tuple(segments)[:n_utterances], whole.root, whole.name)
    listed = own_bytes()
    front_end = create_front_end("log_mel")
    utterances, n_samples, _ = measure(corpus, front_end.sample_rate, progress=False)
    rows = np.arange(len(utterances))
    data = TrainingData(utterances, n_samples, {"train": rows}, sample_rate=front_end.sample_rate, hop=front_end.hop)
    plan = BatchPlan(data.labels, 32)
    reader = CropReader(front_end.sample_rate, front_end.hop, front_end.n_fft, front_end=front_end)
    requests = (
        CropRequest(tuple(data.crop(row, 0.0, 50) for row in step.rows.tolist()))
        for epoch in range(1000)
        for step in plan.steps(epoch)
    )
    largest = 0
    batches = read_crops(reader, requests, 1)
    for number, _ in enumerate(batches):
        if number % 50 == 0:
            largest = max(largest, *map(_private_bytes, _children()))
        if number == 600:
            break
    batches.close()
    return {"corpus": listed - before, "main": own_bytes() - listed, "worker": largest}


def _children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(word) for word in text.split()]


def _private_bytes(process: int) -> int:
    """Return the memory of a process that it shares with no other (bytes, Linux)."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, command, way, text = sys.argv
        given = json.loads(text)
        print(json.dumps(child_speed(way, given) if command == "speed" else child_memory(int(way), given)))
    else:
        run_one_of(
            {
                "speed": (SpeedBenchmark, main_speed),
                "memory": (MemoryBenchmark, main_memory),
                "minutes": (MinutesBenchmark, main_minutes),
            }
        )
