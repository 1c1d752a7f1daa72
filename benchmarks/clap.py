"""Compare the speed of `audiosep` with laion_clap's file API and with the peak of the machine.

python benchmarks/clap.py --data_dir LibriSpeech/dev-clean
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from audio import read_audio
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
from networks.laion_htsat import CLIP_SAMPLES, build_htsat

Size = Literal["tiny", "base", "large"]
# Channels, and blocks and heads of each stage, as in laion_clap.
SIZES: dict[str, tuple[int, Sequence[int], Sequence[int]]] = {
    "tiny": (96, (2, 2, 6, 2), (4, 8, 16, 32)),
    "base": (128, (2, 2, 12, 2), (4, 8, 16, 32)),
    "large": (256, (2, 2, 12, 2), (4, 8, 16, 32)),
}
# laion_clap's file API with all files in one call, as in its documentation; and with its fastest settings that were
# found, 8 files per call without gradients.
PEER, PEER_AT_BEST = "laion_clap, its file API", "the same, fastest settings"


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
        torch.manual_seed(0)
        torch.save({"state_dict": random_clap(config.size)}, weights)
        peer = laion_clap_module(config.size, weights, device)
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


def random_clap(size: Size) -> dict[str, torch.Tensor]:
    """Return the audio tower of a checkpoint of the real size, with random weights."""
    width, depths, heads = SIZES[size]
    state = {
        f"audio_branch.{name}": value
        for name, value in build_htsat(width, depths=depths, heads=heads, n_classes=527).state_dict().items()
    }
    projection = torch.nn.Sequential(torch.nn.Linear(8 * width, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512))
    state |= {f"audio_projection.{name}": value for name, value in projection.state_dict().items()}
    for name, value in state.items():
        if value.ndim == 2 and "extractor" not in name:
            state[name] = 0.02 * torch.randn(value.shape)
    return state


def laion_clap_module(size: Size, weights: Path, device: torch.device) -> Any:
    """Return laion_clap's `CLAP_Module` with these weights, and a very small text tower, which is not used."""
    import json

    import transformers

    # laion_clap downloads these tokenizers on import; audio does not need them.
    for name in ("BertTokenizer", "RobertaTokenizer", "BartTokenizer"):
        getattr(transformers, name).from_pretrained = lambda *_, **__: None
    sys.argv = sys.argv[:1]  # laion_clap's modules read the command line
    import laion_clap
    from clap_module.model import CLAP

    configs = Path(laion_clap.__file__).parent / "clap_module" / "model_configs"
    settings = json.loads((configs / f"HTSAT-{size}.json").read_text())
    text = {"context_length": 77, "vocab_size": 100, "width": 64, "heads": 2, "layers": 1, "model_type": "transformer"}
    module = laion_clap.CLAP_Module.__new__(laion_clap.CLAP_Module)
    torch.nn.Module.__init__(module)
    module.model = CLAP(8 * SIZES[size][0], settings["audio_cfg"], text).to(device).eval()
    state = torch.load(weights, weights_only=True)["state_dict"]
    assert not module.model.load_state_dict(state, strict=False).unexpected_keys
    module.enable_fusion, module.model_cfg = False, settings
    return module


def embed_as_peer(peer: Any, corpus: Corpus, batch_size: int | None = None, *, with_gradients: bool = True) -> None:
    """Call laion_clap's file API with all files, as in its documentation, or in batches and without gradients."""
    paths = [str(item.path) for item in corpus]
    batch_size = batch_size or len(paths)
    with torch.inference_mode(not with_gradients):
        for first in range(0, len(paths), batch_size):
            peer.get_audio_embedding_from_filelist(paths[first : first + batch_size])


def forward_as_peer(peer: Any, n_clips: int, device: torch.device) -> None:
    """Run only laion_clap's network, without gradients; on a CPU one clip at a time, which is fastest."""
    clip = {"waveform": 0.1 * torch.randn(CLIP_SAMPLES), "longer": torch.tensor([False])}
    batch_size = 1 if device.type == "cpu" else 32
    with torch.inference_mode():
        for first in range(0, n_clips, batch_size):
            peer.model.get_audio_embedding([clip] * min(batch_size, n_clips - first)).cpu()


if __name__ == "__main__":
    run(ClapBenchmark, main)
