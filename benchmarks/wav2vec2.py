"""Compare speed and output of `wav2vec2` with the feature extractor and model of transformers.

python benchmarks/wav2vec2.py --data_dir LibriSpeech/dev-clean
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
from torch import Tensor

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

RATE = 16_000
PADDED, ALONE = "transformers, padded batches of 8", "transformers, one at a time"
Family = Literal["Wav2Vec2", "Hubert", "HubertBatchNorm", "WavLM", "Data2VecAudio"]


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2Benchmark(SideBySideConfig):
    """Time the way from files to the means of all layers, with random weights of the base size."""

    family: Family = "Wav2Vec2"
    """Family of the model; HubertBatchNorm has a batch norm in its positional convolution."""


def main(config: Wav2Vec2Benchmark) -> int:
    """Print the median clips per second of each way, the ratios to transformers, and the distances from its output."""
    device = resolve_device(config.device)
    corpus = select_files(config.data_dir, config.n_files)
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_random_model(config.family, folder)
        peer = Peer(folder, device)
        encoders = {name: load_encoder("wav2vec2", folder, str(device), precision=name) for name in ("fp32", "bf16")}
    clips = [read_audio(item.path, RATE, max_duration=10.0) for item in corpus]
    ways: dict[str, Callable[[], object]] = {
        PADDED: partial(peer.embed_files, corpus, 8),
        ALONE: partial(peer.embed_files, corpus, 1),
        "decode alone": partial(decode, corpus, RATE),
    }
    for name, encoder in encoders.items():
        ways[f"{name}, files to vectors"] = partial(embed, encoder, corpus)
        ways[f"{name}, forward alone"] = partial(encoder.encode, clips)
    rates = measure(ways, len(corpus), config.repeats)
    seconds = sum(map(len, clips)) / RATE
    print(f"{len(corpus)} files of {corpus.name}, {seconds / len(clips):.1f} s each on average; {hardware(device)}")
    print(f"{config.family} of base size, random weights, the means of all layers; medians of {config.repeats}")
    print(rates_table(rates, {PADDED: "times padded", ALONE: "times alone"}))
    best = median(rates["fp32, files to vectors"]) * seconds / len(clips)
    print(f"fp32, files to vectors: {best / 3600:.4f} hours of audio per second")
    gflop = flops_of(encoders["fp32"], round(seconds / len(clips) * RATE)) / 1e9
    print(f"A clip of average length is {gflop:.0f} GFLOP of matrix products and convolutions:")
    ours = {way: median(values) for way, values in rates.items() if way.startswith(("fp32", "bf16"))}
    print(peak_table({way.replace(",", ""): rate for way, rate in ours.items()}, gflop, device))
    alone = peer.embed(clips, 1)
    print("Largest distance from transformers, one at a time, divided by the norm:")
    print(f"  transformers in padded batches of 8: {distance(peer.embed(clips, 8), alone):.1e}")
    print(f"  fp32, one at a time: {distance(encoders['fp32'].encode(clips, 1), alone):.1e}")
    print(f"  fp32, in batches of 8: {distance(encoders['fp32'].encode(clips, 8), alone):.1e}")
    error = (encoders["bf16"].encode(clips) - alone).norm(dim=2) / (alone - alone.mean(0)).norm(dim=2)
    shares = " ".join(f"{100 * share:.1f}" for share in error.median(0).values.tolist())
    print(f"Distance of bf16, divided by the distance from the mean, median of each layer in percent: {shares}")
    return EXIT_DONE


def save_random_model(family: Family, folder: Path, form: str = "Model", **settings: Any) -> None:
    """Save a model with random weights, and a feature extractor.

    Parameters
    ----------
    family : str
        A `Family`.
    folder : Path
        Folder of the model.
    form : str
        What follows the family in the name of its class, such as ``ForXVector``.
    **settings
        Settings of the model; the defaults are the base size.
    """
    import transformers

    library: Any = transformers
    library.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    name = family.removesuffix("BatchNorm")
    if name != family:
        settings["conv_pos_batch_norm"] = True
    model = getattr(library, f"{name}{form}")(getattr(library, f"{name}Config")(**settings))
    for buffer_name, buffer in model.named_buffers():
        if "batch_norm.running" in buffer_name:  # statistics of a trained model
            buffer.uniform_(0.5, 2)
    model.save_pretrained(folder)
    library.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)


class Peer:
    """Feature extractor and model of transformers, used as in its documentation; the mean of each layer over time."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        import transformers

        library: Any = transformers
        self.extractor = library.AutoFeatureExtractor.from_pretrained(folder)
        self.model = library.AutoModel.from_pretrained(folder).to(device).eval()
        self.device = device

    def embed_files(self, corpus: Corpus, batch_size: int) -> Tensor:
        """Read the files and embed them (n, layers, dim)."""
        return self.embed([read_audio(item.path, RATE, max_duration=10.0) for item in corpus], batch_size)

    @torch.inference_mode()
    def embed(self, clips: Sequence[Tensor], batch_size: int) -> Tensor:
        """Embed clips (n, layers, dim)."""
        rows = []
        for first in range(0, len(clips), batch_size):
            batch = [clip.numpy() for clip in clips[first : first + batch_size]]
            values = self.extractor(batch, sampling_rate=RATE, return_tensors="pt", padding=True).input_values
            output = self.model(values.to(self.device), output_hidden_states=True)
            states = [*output.hidden_states[:-1], output.last_hidden_state]
            lengths = self.model._get_feat_extract_output_lengths(torch.tensor([len(clip) for clip in batch]))
            for row, length in enumerate(lengths.tolist()):
                rows.append(torch.stack([state[row, :length].mean(0) for state in states]).cpu())
        return torch.stack(rows)


def distance(found: Tensor, expected: Tensor) -> float:
    """Return the largest distance of a vector from the expected one, divided by the norm of that."""
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


if __name__ == "__main__":
    run(Wav2Vec2Benchmark, main)
