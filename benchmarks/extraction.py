"""How near extraction comes to what decoding alone and the encoder alone allow, beside the usual ways to do it.

python benchmarks/extraction.py --data_dir LibriSpeech/dev-clean --encoder audiosep    (on Linux)
"""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from audio import read_audio
from benchmarks.clap import embed_as_peer, laion_clap_module, random_clap
from benchmarks.side_by_side import SideBySideConfig, embed, hardware, some_files
from benchmarks.wav2vec2 import Peer, save_random_model
from command_line import EXIT_DONE, run
from corpora import Corpus
from encoders import Encoder, load_encoder, resolve_device
from evaluation.table import format_table
from features.decoding import Piece, decode
from features.worker import Hearing

DECODE, FORWARD, LOOP, EXTRACT = "decode only", "forward only", "plain loop", "extract"
PEERS = {
    "spectral": [],
    "audiosep": ["laion_clap, all files in a call", "laion_clap, 8 files a call, no graph"],
    "wav2vec2": ["transformers, one at a time", "transformers, padded batches of 8"],
}
# Seconds between two looks at how much memory is held.
LOOK_EVERY = 0.2


@dataclass(frozen=True, kw_only=True)
class ExtractionBenchmark(SideBySideConfig):
    """Time files in, vectors out, each way in a process of its own; networks have the base size and random weights."""

    encoder: Literal["spectral", "audiosep", "wav2vec2"] = "spectral"
    """Frozen encoder."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What it computes in."""
    num_workers: int | None = None
    """Processes that decode; by default as many as extraction starts."""


def main(config: ExtractionBenchmark) -> int:
    """Print the medians of each way, and how near extraction comes to the slower of its two halves."""
    corpus = some_files(config.data_dir, config.n_files)
    ways = [DECODE, FORWARD, LOOP, EXTRACT, *PEERS[config.encoder]]
    results: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with TemporaryDirectory() as name:
        weights = Path(name) / "weights"
        if config.encoder == "audiosep":
            torch.manual_seed(0)
            torch.save({"state_dict": random_clap("base")}, weights)
        elif config.encoder == "wav2vec2":
            save_random_model("Wav2Vec2", weights)
        for _ in range(config.repeats):
            for way in ways:
                results[way].append(_measured(config, way, weights))
    hours = results[LOOP][0]["hours"]
    device = resolve_device(config.device)
    print(f"{len(corpus)} files of {corpus.name}, {hours:.3f} h of audio used; {hardware(device)}")
    print(f"{config.encoder} in {config.precision}; medians of {config.repeats}")
    lines = [_line(way, rounds, len(corpus), hours) for way, rounds in results.items()]
    print(format_table(["", "seconds", "(least - most)", "files/s", "h/s", "CPU %", "MB"], lines, "<>>>>>>"))
    for way in (LOOP, *PEERS[config.encoder]):
        print(f"{way}: {_ratio(results[way], results[EXTRACT]):.2f} times the seconds of extract")
    slower = max((DECODE, FORWARD), key=lambda way: median(each["seconds"] for each in results[way]))
    print(f"extract runs at {100 * _ratio(results[slower], results[EXTRACT]):.0f} % of the rate of {slower}")
    if device.type == "cpu":  # one takes from the other
        n_cores = os.cpu_count() or 1
        rounds = zip(results[DECODE], results[FORWARD], results[EXTRACT], strict=True)
        share = median((one["cpu"] + other["cpu"]) / n_cores / both["seconds"] for one, other, both in rounds)
        print(
            f"and, both being done by {n_cores} cores, at {100 * share:.0f} % of what these allow for the two together"
        )
    return EXIT_DONE


def _measured(config: ExtractionBenchmark, way: str, weights: Path) -> dict[str, float]:
    """Return what a way costs in a process of its own."""
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
    """Do the work of one way, and print its seconds, the seconds of all cores, and the memory (bytes) it took."""
    corpus = some_files(Path(arguments["data_dir"]), arguments["n_files"])
    clips = [read_audio(item.path, 16_000, max_duration=10.0) for item in corpus]  # and the files are in the cache
    hours = sum(map(len, clips)) / 16_000 / 3600
    del clips
    work = _work(arguments, corpus)
    with _watched() as result:
        work()
    print(json.dumps({**result, "hours": hours}))


def _work(arguments: dict[str, Any], corpus: Corpus) -> Callable[[], object]:
    """Prepare a way, as far as it does not count."""
    way, weights, device = arguments["way"], Path(arguments["weights"]), resolve_device(arguments["device"])
    if way in PEERS["audiosep"]:
        clap = laion_clap_module("base", weights, device)
        if way == PEERS["audiosep"][0]:
            return lambda: embed_as_peer(clap, corpus)
        return lambda: embed_as_peer(clap, corpus, batch_size=8, without_graph=True)
    if way in PEERS["wav2vec2"]:
        peer = Peer(weights, device)
        return lambda: peer.embed_files(corpus, 1 if way == PEERS["wav2vec2"][0] else 8)
    encoder = load_encoder(
        arguments["encoder"], weights if weights.exists() else None, str(device), arguments["precision"]
    )
    encoder.encode([0.1 * torch.randn(10 * encoder.sample_rate)])
    num_workers = arguments["num_workers"]
    if way == DECODE:
        return lambda: _decode_all(corpus, encoder, num_workers)
    if way == FORWARD:
        clips = [read_audio(item.path, encoder.sample_rate, max_duration=10.0) for item in corpus]
        at_once = encoder.clips_per_call
        clips.sort(key=len, reverse=True)  # as extraction nearly does
        return lambda: [encoder.encode(clips[first : first + at_once]) for first in range(0, len(clips), at_once)]
    if way == LOOP:
        return lambda: [
            encoder.encode([read_audio(item.path, encoder.sample_rate, max_duration=10.0)]) for item in corpus
        ]
    return lambda: embed(encoder, corpus, num_workers)


def _decode_all(corpus: Corpus, encoder: Encoder, num_workers: int | None) -> None:
    """Digest, decode and resample as extraction does, and drop the waveforms."""
    pieces = (Piece(utterance, with_state=True) for utterance in corpus)
    for _ in decode(pieces, len(corpus), Hearing(encoder.sample_rate, 10.0), encoder.clips_per_call, num_workers):
        pass


@contextmanager
def _watched() -> Iterator[dict[str, float]]:
    """Measure what the body takes, with the processes that it starts."""
    result: dict[str, float] = {}
    first, held, stop = _held(), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(LOOK_EVERY):
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
    """Return the seconds that cores have spent on this process and on those that it started and that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _held() -> dict[str, int]:
    """Return the memory of this process and of each of its children that is not mapped from files (bytes, Linux).

    By the kernel's counters, which cost nothing; what a child had from the beginning is its parent's.
    """
    own = Path(f"/proc/{os.getpid()}")
    children = [number for listing in own.glob("task/*/children") for number in listing.read_text().split()]
    sizes = {}
    for process in (own.name, *children):
        kinds = ("RssAnon", "RssShmem") if process == own.name else ("RssAnon",)
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        sizes[process] = sum(1024 * int(line.split()[1]) for line in lines if line.startswith(kinds))
    return sizes


def _line(way: str, rounds: list[dict[str, float]], n_files: int, hours: float) -> list[str]:
    times = [each["seconds"] for each in rounds]
    middle = median(times)
    rates = [f"{n_files / middle:.1f}", f"{hours / middle:.4f}"]
    return [
        way, f"{middle:.2f}", f"{min(times):.2f} - {max(times):.2f}", *rates,
        f"{100 * median(each['cpu'] / each['seconds'] for each in rounds):.0f}",
        f"{median(each['bytes'] for each in rounds) / 1e6:.0f}",
    ]  # fmt: skip


def _ratio(numerators: list[dict[str, float]], denominators: list[dict[str, float]]) -> float:
    """Return the median of the ratios of seconds within a round."""
    return median(one["seconds"] / other["seconds"] for one, other in zip(numerators, denominators, strict=True))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
    else:
        run(ExtractionBenchmark, main)
