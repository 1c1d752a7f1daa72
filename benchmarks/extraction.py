"""Compare the speed of extraction with that of its two stages alone, decoding and encoding, and with other libraries.

Decoding is also timed for the same recordings as m4a files.

python benchmarks/extraction.py --data_dir LibriSpeech/dev-clean --encoder audiosep    (on Linux)
"""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from audio import read_audio
from benchmarks.clap import embed_as_peer, random_clap
from benchmarks.m4a import copy_as_m4a
from benchmarks.side_by_side import SideBySideConfig, decode_ahead, embed, hardware, select_files
from benchmarks.wav2vec2 import Peer, save_random_model
from command_line import EXIT_DONE, run
from corpora import Corpus, Utterance
from encoders import Encoder, load_encoder, resolve_device
from files import format_table

DECODE, FORWARD, LOOP, EXTRACT = "decode only", "forward only", "plain loop", "extract"
DECODE_M4A = "decode only, as m4a files"
PEERS = {
    "spectral": [],
    "audiosep": ["laion_clap, all files in one call", "laion_clap, 8 files per call, no gradients"],
    "wav2vec2": ["transformers, one at a time", "transformers, padded batches of 8"],
}
# Time between two measurements of the memory (seconds).
CHECK_INTERVAL = 0.2


@dataclass(frozen=True, kw_only=True)
class ExtractionBenchmark(SideBySideConfig):
    """Time extraction and its alternatives, each in its own process, with networks of base size and random weights."""

    encoder: Literal["spectral", "audiosep", "wav2vec2"] = "spectral"
    """Frozen encoder."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the encoder."""
    num_workers: int | None = None
    """Number of processes that decode; by default that of extraction."""


def main(config: ExtractionBenchmark) -> int:
    """Print the medians of each way, and the rate of extraction relative to the slower of its two stages."""
    corpus = select_files(config.data_dir, config.n_files)
    ways = [DECODE, DECODE_M4A, FORWARD, LOOP, EXTRACT, *PEERS[config.encoder]]
    results: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with TemporaryDirectory() as name:
        copy_as_m4a(corpus, Path(name))
        weights = Path(name) / "weights"
        if config.encoder == "audiosep":
            torch.manual_seed(0)
            torch.save({"state_dict": random_clap("base").state_dict()}, weights)
        elif config.encoder == "wav2vec2":
            save_random_model("Wav2Vec2", weights)
        for _ in range(config.repeats):
            for way in ways:
                results[way].append(_measured(config, way, weights))
    hours = results[LOOP][0]["hours"]
    device = resolve_device(config.device)
    print(f"{len(corpus)} files of {corpus.name}, {hours:.3f} h of audio used; {hardware(device)}")
    print(f"{config.encoder} in {config.precision}; medians of {config.repeats}")
    lines = [_line(way, rounds, len(corpus), hours=hours) for way, rounds in results.items()]
    print(format_table(["", "seconds", "(min - max)", "files/s", "h/s", "CPU %", "MB"], lines, "<>>>>>>"))
    for way in (LOOP, *PEERS[config.encoder]):
        print(f"{way}: {_ratio(results[way], results[EXTRACT]):.2f} times the time of extract")
    slower = max((DECODE, FORWARD), key=lambda way: median(each["seconds"] for each in results[way]))
    print(f"extract runs at {100 * _ratio(results[slower], results[EXTRACT]):.0f} % of the rate of {slower}")
    print(
        f"m4a files are decoded at {100 * _ratio(results[DECODE], results[DECODE_M4A]):.0f} % of the rate of {DECODE}"
    )
    if device.type == "cpu":  # both stages share the cores
        n_cores = os.cpu_count() or 1
        rounds = zip(results[DECODE], results[FORWARD], results[EXTRACT], strict=True)
        share = median((one["cpu"] + other["cpu"]) / n_cores / both["seconds"] for one, other, both in rounds)
        print(f"and at {100 * share:.0f} % of the rate that {n_cores} cores allow for both stages together")
    return EXIT_DONE


def _measured(config: ExtractionBenchmark, way: str, weights: Path) -> dict[str, float]:
    """Return the measurements of a way in its own process."""
    arguments = {
        "way": way, "weights": str(weights), "data_dir": str(config.data_dir), "n_files": config.n_files,
        "encoder": config.encoder, "device": config.device, "precision": config.precision,
        "num_workers": config.num_workers,
    }  # fmt: skip
    command = [sys.executable, __file__, "--child", json.dumps(arguments)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    result: dict[str, float] = json.loads(printed.splitlines()[-1])
    return result


def child(arguments: dict[str, Any]) -> None:
    """Run one way, and print its wall time (s), the CPU time of all cores (s), and its peak memory (bytes)."""
    corpus = select_files(Path(arguments["data_dir"]), arguments["n_files"])
    # This also brings the files into the page cache.
    clips = [read_audio(item.path, 16_000, max_duration=10.0) for item in corpus]
    hours = sum(map(len, clips)) / 16_000 / 3600
    del clips
    work = _work(arguments, corpus)
    with _watched() as result:
        work()
    print(json.dumps({**result, "hours": hours}))


def _work(arguments: dict[str, Any], corpus: Corpus) -> Callable[[], object]:
    """Return the function to measure; its preparation is not measured."""
    way, weights, device = arguments["way"], Path(arguments["weights"]), resolve_device(arguments["device"])
    if way in PEERS["audiosep"]:
        clap = random_clap("base").to(device)
        if way == PEERS["audiosep"][0]:
            return lambda: embed_as_peer(clap, corpus)
        return lambda: embed_as_peer(clap, corpus, batch_size=8, with_gradients=False)
    if way in PEERS["wav2vec2"]:
        peer = Peer(weights, device)
        return lambda: peer.embed_files(corpus, 1 if way == PEERS["wav2vec2"][0] else 8)
    encoder = load_encoder(
        arguments["encoder"], weights if weights.exists() else None, str(device), precision=arguments["precision"]
    )
    encoder.encode([0.1 * torch.randn(10 * encoder.sample_rate)])
    num_workers = arguments["num_workers"]
    if way in (DECODE, DECODE_M4A):
        copies = [replace(item, path=weights.parent / f"{number}.m4a") for number, item in enumerate(corpus)]
        items = copies if way == DECODE_M4A else corpus.utterances
        return lambda: _decode_all(items, encoder, num_workers)
    if way == FORWARD:
        clips = [read_audio(item.path, encoder.sample_rate, max_duration=10.0) for item in corpus]
        size = encoder.clips_per_call
        clips.sort(key=len, reverse=True)  # similar to the order of extraction
        return lambda: [encoder.encode(clips[first : first + size]) for first in range(0, len(clips), size)]
    if way == LOOP:
        return lambda: [
            encoder.encode([read_audio(item.path, encoder.sample_rate, max_duration=10.0)]) for item in corpus
        ]
    return lambda: embed(encoder, corpus, num_workers)


def _decode_all(utterances: Sequence[Utterance], encoder: Encoder, num_workers: int | None) -> None:
    """Decode as extraction does, and discard the waveforms."""
    for _ in decode_ahead(utterances, encoder.sample_rate, encoder.clips_per_call, num_workers=num_workers):
        pass


@contextmanager
def _watched() -> Iterator[dict[str, float]]:
    """Measure time and memory of the body, including the processes that it starts."""
    result: dict[str, float] = {}
    first, held, stop = _held(), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(CHECK_INTERVAL):
            now = _held()
            first.update({process: size for process, size in now.items() if process not in first})
            held.append(sum(size - first[process] for process, size in now.items()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, cpu = time.perf_counter(), _cpu()
    try:
        yield result
    finally:
        result |= {"seconds": time.perf_counter() - began, "cpu": _cpu() - cpu}
        stop.set()
        watcher.join()
        result["bytes"] = max(held)


def _cpu() -> float:
    """Return the CPU time of this process and of its children that have ended (seconds)."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _held() -> dict[str, int]:
    """Return the memory of this process and of each child that is not mapped from files (bytes, Linux).

    It is read from the counters of the kernel, which does not disturb the measurement.
    """
    own = Path(f"/proc/{os.getpid()}")
    children = [number for listing in own.glob("task/*/children") for number in listing.read_text().split()]
    sizes = {}
    for process in (own.name, *children):
        kinds = ("RssAnon", "RssShmem") if process == own.name else ("RssAnon",)
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:  # the child has just ended
            continue
        sizes[process] = sum(1024 * int(line.split()[1]) for line in lines if line.startswith(kinds))
    return sizes


def _line(way: str, rounds: list[dict[str, float]], n_files: int, *, hours: float) -> list[str]:
    times = [each["seconds"] for each in rounds]
    middle = median(times)
    rates = [f"{n_files / middle:.1f}", f"{hours / middle:.4f}"]
    return [
        way, f"{middle:.2f}", f"{min(times):.2f} - {max(times):.2f}", *rates,
        f"{100 * median(each['cpu'] / each['seconds'] for each in rounds):.0f}",
        f"{median(each['bytes'] for each in rounds) / 1e6:.0f}",
    ]  # fmt: skip


def _ratio(numerators: list[dict[str, float]], denominators: list[dict[str, float]]) -> float:
    """Return the median over rounds of the ratio of times."""
    return median(one["seconds"] / other["seconds"] for one, other in zip(numerators, denominators, strict=True))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
    else:
        run(ExtractionBenchmark, main)
