"""Measure the time to search a store of a million speakers, compared with one product of all vectors in memory.

python benchmarks/store.py --speakers 1000000 --folder /somewhere/with/6GB

Every speaker has one random vector. The store is searched in its own process, which reports its peak memory. The naive
way holds all vectors and all scores in memory, and selects the best with `torch.topk`.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from command_line import EXIT_DONE, run
from config import BackendName, ScriptConfig
from features import FeatureSet
from verification import Backend, SpeakerStore, SpeakerVerifier

DIM, TOP_K = 512, 5


@dataclass(frozen=True, kw_only=True)
class StoreBenchmark(ScriptConfig):
    """Measure the time to search the store of enrolled speakers."""

    speakers: int = 1_000_000
    """Number of enrolled speakers, with one vector each."""
    probes: int = 1_000
    """Number of vectors that are scored against all speakers."""
    backend: tuple[BackendName, ...] = ("cosine", "plda")
    """Backends that score a pair."""
    folder: Path | None = None
    """Folder for the store (5 GB for a million speakers); by default that of temporary files."""
    score: Path | None = None
    """Existing store; only this store is searched."""


def draw(n_speakers: int, n_each: int, seed: int) -> FeatureSet:
    """Draw random speakers, and `n_each` recordings around each."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n_speakers, DIM, generator=generator).repeat_interleave(n_each, 0)
    rows += torch.randn(len(rows), DIM, generator=generator)
    labels = torch.arange(n_speakers).repeat_interleave(n_each)
    names = tuple(f"{seed}-{number:07d}" for number in range(n_speakers))
    return FeatureSet(
        features=rows,
        labels=labels,
        speakers=names,
        sessions=labels,
        session_names=names,
        ids=tuple(f"{seed}-{row}.wav" for row in range(len(rows))),
        durations=torch.ones(len(rows)),
        encoder={"name": "random", "dim": DIM, "layers": [], "options": {}},
        corpus="random",
    )


def peak_mib() -> int:
    """Return the peak memory of this process (MiB, Linux); `getrusage` would include that of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def score(path: Path, n_probes: int) -> None:
    """Search the store, and print time and memory."""
    probes = draw(n_probes, 1, seed=2)
    before = peak_mib()
    with SpeakerStore.open(path) as store:
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            nearest = store.nearest_features(probes, TOP_K)
            seconds.append(time.perf_counter() - started)
    more = peak_mib() - before
    print(f"store: {sorted(seconds)[1]:.1f} s (median of 3), peak memory {more} MiB above that before opening")
    torch.save({"names": nearest.names, "scores": nearest.scores}, path.with_suffix(".answer"))


def embed(backend: Backend, rows: torch.Tensor) -> torch.Tensor:
    """Return models of one recording each, computed in parts to limit memory."""
    return torch.cat([backend.embed(part) for part in torch.split(rows, 100_000)])


def naive(backend: Backend, models: torch.Tensor, probes: torch.Tensor) -> torch.return_types.topk:
    """Score all pairs at once, and print the time, and that of one product of the same size."""
    started = time.perf_counter()
    scores = probes @ models.T
    product = time.perf_counter() - started
    started = time.perf_counter()
    scores = backend.score_speakers(probes, models, torch.ones(len(models)))
    best = scores.topk(TOP_K, dim=1)
    print(f"naive: {time.perf_counter() - started:.1f} s, the product alone {product:.1f} s", flush=True)
    return best


def main(config: StoreBenchmark) -> int:
    """Enrol the speakers, and compare a search in another process with the naive way."""
    if config.score is not None:
        score(config.score, config.probes)
        return EXIT_DONE
    enrolled = draw(config.speakers, 1, seed=1)
    for name in config.backend:
        with tempfile.TemporaryDirectory(dir=config.folder) as folder:
            path = Path(folder) / "speakers.db"
            verifier = SpeakerVerifier.train(draw(1_200, 4, seed=3), name)
            with SpeakerStore.create(path, verifier) as store:
                started = time.perf_counter()
                store.enroll_features(enrolled)
                seconds = time.perf_counter() - started
            size = path.stat().st_size / 1e9
            print(f"{name}: {config.speakers} speakers enrolled in {seconds:.0f} s, {size:.1f} GB", flush=True)
            command = [sys.executable, __file__, "--score", str(path), "--probes", str(config.probes)]
            subprocess.run(command, check=True)
            models = embed(verifier.backend, enrolled.features)
            probes = verifier.backend.embed(draw(config.probes, 1, seed=2).features)
            best = naive(verifier.backend, models, probes)
            answer = torch.load(path.with_suffix(".answer"))
            names = [[enrolled.speakers[number] for number in row] for row in best.indices.tolist()]
            same = sum(a == b for a, b in zip(names, answer["names"], strict=True))
            off = float(((best.values - answer["scores"]) / best.values).abs().max())
            print(f"same names for {same} of {config.probes} probes, largest relative difference of scores {off:.1e}")
    return EXIT_DONE


if __name__ == "__main__":
    run(StoreBenchmark, main)
