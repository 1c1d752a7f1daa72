"""Compare the speed of `audiosep` with laion-clap's network and with the peak of the machine.

python benchmarks/clap.py --data_dir LibriSpeech/dev-clean
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from audio import read_audio
from benchmarks.laion_reference import ReferenceClap
from benchmarks.side_by_side import (
    SideBySideConfig,
    decode,
    embed,
    flops_of,
    hardware,
    measure,
    peak_table,
    rates_table,
    select_files,
)
from command_line import EXIT_DONE, run
from corpora import Corpus
from encoders import load_encoder, resolve_device
from networks import CLIP_SAMPLES

Size = Literal["tiny", "base", "large"]
# Channels, and blocks and heads of each stage, as in laion_clap.
SIZES: dict[str, tuple[int, Sequence[int], Sequence[int]]] = {
    "tiny": (96, (2, 2, 6, 2), (4, 8, 16, 32)),
    "base": (128, (2, 2, 12, 2), (4, 8, 16, 32)),
    "large": (256, (2, 2, 12, 2), (4, 8, 16, 32)),
}
# The steps of laion-clap's file API with all files in one call, as in its documentation; and with its fastest settings
# that were found, 8 files per call without gradients.
PEER, PEER_AT_BEST = "laion-clap's network, steps of its file API", "the same, fastest settings"


@dataclass(frozen=True, kw_only=True)
class ClapBenchmark(SideBySideConfig):
    """Time the way from files to vectors, with random weights: the time does not depend on their values."""

    size: Size = "base"
    """Size of the HTSAT network."""


def main(config: ClapBenchmark) -> int:
    """Print the median clips per second of each way, and the ratios to laion_clap."""
    device = resolve_device(config.device)
    corpus = select_files(config.data_dir, config.n_files)
    with TemporaryDirectory() as folder:
        weights = Path(folder) / "random.pt"
        peer = random_clap(config.size)
        torch.save({"state_dict": peer.state_dict()}, weights)
        peer.to(device)
        encoders = {name: load_encoder("audiosep", weights, str(device), precision=name) for name in ("fp32", "bf16")}
    clips = [read_audio(item.path, 32_000, max_duration=10.0) for item in corpus]
    ways: dict[str, Callable[[], object]] = {
        PEER: partial(embed_as_peer, peer, corpus),
        PEER_AT_BEST: partial(embed_as_peer, peer, corpus, batch_size=8, with_gradients=False),
        "laion_clap, forward alone": partial(forward_as_peer, peer, len(corpus), device),
        "decode and resample alone": partial(decode, corpus, 32_000),
    }
    for name, encoder in encoders.items():
        ways[f"{name}, files to vectors"] = partial(embed, encoder, corpus)
        ways[f"{name}, forward alone"] = partial(encoder.encode, clips)
    rates = measure(ways, len(corpus), config.repeats)
    print(f"{len(corpus)} files of {corpus.name}, HTSAT-{config.size}, random weights, {hardware(device)}; medians")
    print(rates_table(rates, {PEER: "times the API", PEER_AT_BEST: "times fastest"}))
    gflop = flops_of(encoders["fp32"], 320_000) / 1e9
    print(f"One clip is {gflop:.1f} GFLOP of matrix products:")
    ours = {way: median(values) for way, values in rates.items() if way.startswith(("fp32", "bf16"))}
    print(peak_table({way.replace(",", ""): rate for way, rate in ours.items()}, gflop, device))
    return EXIT_DONE


def random_clap(size: Size) -> ReferenceClap:
    """Build laion-clap's network of a published size, with random weights."""
    width, depths, heads = SIZES[size]
    torch.manual_seed(0)
    return ReferenceClap(width, depths=depths, heads=heads)


def embed_as_peer(
    peer: ReferenceClap, corpus: Corpus, batch_size: int | None = None, *, with_gradients: bool = True
) -> None:
    """Embed files as laion-clap's file API does: all at once, as in its documentation, or in batches."""
    paths = [item.path for item in corpus]
    batch_size = batch_size or len(paths)
    with torch.inference_mode(not with_gradients):
        for first in range(0, len(paths), batch_size):
            peer.embed_files(paths[first : first + batch_size]).detach().cpu()


def forward_as_peer(peer: ReferenceClap, n_clips: int, device: torch.device) -> None:
    """Run only laion-clap's network, without gradients; on a CPU one clip at a time, which is fastest."""
    batch_size = 1 if device.type == "cpu" else 32
    clips = 0.1 * torch.randn(batch_size, CLIP_SAMPLES, device=device)
    with torch.inference_mode():
        for first in range(0, n_clips, batch_size):
            peer(clips[: n_clips - first]).cpu()


if __name__ == "__main__":
    run(ClapBenchmark, main)
