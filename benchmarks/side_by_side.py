"""Shared code of the encoder benchmarks: time several ways of the same work, and compare with the machine's peak."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from audio import read_audio
from config import LogLevel, ScriptConfig
from corpora import Corpus, Utterance, load_corpus
from embedding.decode import Piece
from embedding.decode import decode as read_ahead
from embedding.worker import DecodeSettings
from encoders import Encoder
from features import extract
from files import format_table

Rates = dict[str, list[float]]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class SideBySideConfig(ScriptConfig):
    """Settings of the encoder benchmarks."""

    data_dir: Path
    """Folder of the corpus."""
    n_files: int = 48
    """Number of files, spread evenly over the corpus."""
    device: str = "auto"
    """Device: auto (CUDA if available), cpu, cuda or cuda:N."""
    repeats: int = 3
    """Number of repetitions; the ways take turns."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def select_files(data_dir: Path, n_files: int) -> Corpus:
    """Load a corpus, and return `n_files` of its files, spread evenly."""
    whole = load_corpus(data_dir)
    step = max(len(whole) // n_files, 1)
    return Corpus(whole.utterances[::step][:n_files], whole.root, whole.name)


def embed(encoder: Encoder, corpus: Corpus, num_workers: int | None = None) -> None:
    """Extract into a new features file."""
    with TemporaryDirectory() as folder:
        extract(corpus, encoder, Path(folder) / "x.pt", num_workers=num_workers, progress=False)


def decode(corpus: Corpus, sample_rate: int, max_duration: float | None = 10.0) -> None:
    """Read the waveforms and discard them."""
    for item in corpus:
        read_audio(item.path, sample_rate, max_duration=max_duration)


def decode_ahead(
    utterances: Sequence[Utterance], sample_rate: int, max_held: int, *, num_workers: int | None = None
) -> Iterator[Piece]:
    """Compute digests, decode the first 10 s and resample as extraction does, in processes."""
    pieces = (Piece(utterance, with_state=True) for utterance in utterances)
    settings = DecodeSettings(sample_rate, 10.0)
    return read_ahead(pieces, len(utterances), settings, max_held=max_held, num_workers=num_workers)


def measure(ways: dict[str, Callable[[], object]], n_clips: int, repeats: int) -> Rates:
    """Return the clips per second of each way, one value per round; the ways take turns after a warm-up round."""
    rates: Rates = {name: [] for name in ways}
    for round_number in range(repeats + 1):
        for name, work in ways.items():
            started = time.perf_counter()
            work()
            if round_number:
                rates[name].append(n_clips / (time.perf_counter() - started))
    return rates


def rates_table(rates: Rates, peers: dict[str, str]) -> str:
    """Format medians and ranges, and medians of the ratios within a round to the peers (way -> heading)."""
    lines = []
    for name, values in rates.items():
        ratios = (median(ours / theirs for ours, theirs in zip(values, rates[peer], strict=True)) for peer in peers)
        spread = f"{min(values):.2f} - {max(values):.2f}"
        lines.append([name, f"{median(values):.2f}", spread, *(f"{ratio:.2f}" for ratio in ratios)])
    header = ["", "clips/s", "(min - max)", *peers.values()]
    return format_table(header, lines, "<>>" + ">" * len(peers))


def peak_table(rates: dict[str, float], gflop: float, device: torch.device) -> str:
    """Format each rate (clips/s) as a share of the machine's peak at the precision that its name begins with."""
    peaks = {name: median(gemm_rate(device, dtype) for _ in range(5)) for name, dtype in DTYPES.items()}
    lines = []
    for name, rate in rates.items():
        peak = peaks[name.split()[0]]
        lines.append([name, f"{gflop * rate:.0f}", f"{peak:.0f}", f"{100 * gflop * rate / peak:.0f}"])
    return format_table(["", "GFLOP/s", "one large product", "%"], lines, "<>>>")


def flops_of(encoder: Encoder, n_samples: int) -> float:
    """Return the number of operations in the matrix products and convolutions of one clip."""
    from torch.utils.flop_counter import FlopCounterMode

    def packed_linear(x: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
        rows = 1
        for length in x[:-1]:
            rows *= length
        return 2 * rows * weight[0] * weight[1]

    with FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: packed_linear}) as counter:
        encoder(torch.randn(1, n_samples, device=encoder.device), torch.tensor([n_samples], device=encoder.device))
    return float(counter.get_total_flops())


def gemm_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the GFLOP/s of one large matrix product."""
    size = 2048 if device.type == "cpu" else 8192
    left, right = torch.randn(2, size, size, device=device).to(dtype)
    left @ right
    started = time.perf_counter()
    for _ in range(5):
        product = left @ right
    product[0, 0].item()
    return 5 * 2 * size**3 / (time.perf_counter() - started) / 1e9


def hardware(device: torch.device) -> str:
    """Return a description of the hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads of {os.cpu_count()} cores"
