"""Compare the speed of `campplus` with 3D-Speaker's own way and with the peak of the machine.

python benchmarks/campplus.py --data_dir LibriSpeech/dev-clean
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from speakerlab.models.campplus.DTDNN import CAMPPlus
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchaudio.compliance.kaldi import fbank

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
# 3D-Speaker embeds one file at a time. Padded batches, which change its vectors, are slower than that on a CPU.
PEER, PEER_BATCHED = "3D-Speaker, one file at a time", "3D-Speaker, padded batches (not exact)"


@dataclass(frozen=True, kw_only=True)
class CampPlusBenchmark(SideBySideConfig):
    """Time the way from files to vectors, with the weights of the encoder, which are downloaded if necessary."""

    n_files: int = 200
    """Number of files, spread evenly over the corpus."""


def main(config: CampPlusBenchmark) -> int:
    """Print the median clips per second of each way, the ratios to 3D-Speaker, and the largest difference."""
    device = resolve_device(config.device)
    corpus = select_files(config.data_dir, config.n_files)
    encoder = load_encoder("campplus", device=str(device))
    weights = type(encoder).find_weights(None)
    peer = CAMPPlus(embedding_size=encoder.dim).eval().to(device)
    peer.load_state_dict(torch.load(str(weights), map_location=device, weights_only=True))
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
    difference = 1 - torch.cosine_similarity(encoder.encode(clips).double(), embed_as_peer(peer, corpus).double())
    print(f"Largest 1 - cosine between the vectors of both: {float(difference.max()):.1e}")
    gflop = flops_of(encoder, round(seconds * RATE)) / 1e9
    print(f"A clip of this length is {gflop:.2f} GFLOP of matrix products and convolutions:")
    ours = {way: median(values) for way, values in rates.items() if way.startswith("fp32")}
    print(peak_table({way.replace(",", ""): rate for way, rate in ours.items()}, gflop, device))
    return EXIT_DONE


@torch.inference_mode()
def embed_as_peer(peer: CAMPPlus, corpus: Corpus, batch_size: int = 1) -> Tensor:
    """Embed files as 3D-Speaker does: read, log-mel spectrogram minus its mean, network."""
    device = next(peer.parameters()).device
    vectors = []
    for first in range(0, len(corpus), batch_size):
        frames = []
        for item in corpus.utterances[first : first + batch_size]:
            mels = fbank(read_audio(item.path, RATE)[None], num_mel_bins=80, sample_frequency=RATE, dither=0)
            frames.append(mels - mels.mean(0, keepdim=True))
        vectors.append(peer(pad_sequence(frames, batch_first=True).to(device)).cpu())
    return torch.cat(vectors)


if __name__ == "__main__":
    run(CampPlusBenchmark, main)
