"""Compare the speed of `ecapa` with SpeechBrain's `EncoderClassifier.encode_batch`, one file at a time.

python benchmarks/ecapa.py --data_dir LibriSpeech/dev-clean
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from speechbrain.inference.classifiers import EncoderClassifier
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.processing.features import InputNormalization
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from audio import read_audio
from benchmarks.random_weights import MODELS
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
PEER, PEER_BATCHED = "SpeechBrain, one file at a time", "SpeechBrain, padded batches (not exact)"


@dataclass(frozen=True, kw_only=True)
class EcapaBenchmark(SideBySideConfig):
    """Time the way from files to vectors, with random weights of the published size unless a checkpoint is given."""

    weights: Path | None = None
    """Checkpoint of SpeechBrain's ECAPA-TDNN; by default random weights."""


def main(config: EcapaBenchmark) -> int:
    """Print the median clips per second of each way, the ratios to SpeechBrain, and the largest difference."""
    device = resolve_device(config.device)
    corpus = select_files(config.data_dir, config.n_files)
    with TemporaryDirectory() as folder:
        weights = config.weights
        if weights is None:
            weights = Path(folder) / "embedding_model.ckpt"
            MODELS["ecapa"].write_random(weights)
        encoder = load_encoder("ecapa", weights, device=str(device))
        peer = load_peer(weights, device)
    clips = [read_audio(item.path, RATE) for item in corpus]
    ways: dict[str, Callable[[], object]] = {
        PEER: partial(embed_as_peer, peer, corpus),
        "decode and resample alone": partial(decode, corpus, RATE, max_duration=None),
        "fp32, files to vectors": partial(embed, encoder, corpus),
        "fp32, forward alone": partial(encoder.encode, clips),
    }
    peers = {PEER: "times one at a time"}
    if device.type != "cpu":
        ways[PEER_BATCHED] = partial(embed_as_peer, peer, corpus, batch_size=64)
        peers[PEER_BATCHED] = "times batches"
    rates = measure(ways, len(corpus), config.repeats)
    seconds = sum(map(len, clips)) / RATE / len(clips)
    print(f"{len(corpus)} files of {corpus.name}, {seconds:.1f} s on average, {hardware(device)}; medians")
    print(rates_table(rates, peers))
    expected = embed_as_peer(peer, corpus)
    distances = (encoder.encode(clips) - expected).norm(dim=1) / expected.norm(dim=1)
    print(f"Largest distance between the vectors of both, relative to their length: {float(distances.max()):.1e}")
    gflop = flops_of(encoder, round(seconds * RATE)) / 1e9
    print(f"A clip of this length is {gflop:.2f} GFLOP of matrix products:")
    ours = {way: median(values) for way, values in rates.items() if way.startswith("fp32")}
    print(peak_table({way.replace(",", ""): rate for way, rate in ours.items()}, gflop, device))
    return EXIT_DONE


def load_peer(weights: Path, device: torch.device) -> Any:
    """Build the classifier of SpeechBrain that `from_hparams` makes of the published hyperparams.yaml."""
    network = _network()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    modules = {
        "compute_features": Fbank(n_mels=80),
        "mean_var_norm": InputNormalization(norm_type="sentence", std_norm=False),
        "embedding_model": network,
        "classifier": nn.Identity(),
    }
    return EncoderClassifier(modules=modules, hparams={}, run_opts={"device": str(device)})


def _network() -> Any:
    return ECAPA_TDNN(80, channels=[1024, 1024, 1024, 1024, 3072], attention_channels=128, lin_neurons=192)


@torch.inference_mode()
def embed_as_peer(peer: Any, corpus: Corpus, batch_size: int = 1) -> Tensor:
    """Embed files as SpeechBrain does: read, then `encode_batch` with relative lengths."""
    vectors = []
    for first in range(0, len(corpus), batch_size):
        clips = [read_audio(item.path, RATE) for item in corpus.utterances[first : first + batch_size]]
        lengths = torch.tensor([len(clip) for clip in clips])
        batch = pad_sequence(clips, batch_first=True)
        vectors.append(peer.encode_batch(batch, lengths / lengths.max())[:, 0].cpu())
    return torch.cat(vectors)


if __name__ == "__main__":
    run(EcapaBenchmark, main)
