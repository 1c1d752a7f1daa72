"""Compare the speed of `resemblyzer` with the package Resemblyzer, and their vectors.

python benchmarks/resemblyzer.py --data_dir LibriSpeech/dev-clean
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

sys.path.pop(0)  # the folder of this file, which has the name of the package
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from resemblyzer import VoiceEncoder, normalize_volume, preprocess_wav
from torch import Tensor

from audio import read_audio
from benchmarks.side_by_side import (
    SideBySideConfig,
    decode,
    embed,
    hardware,
    measure,
    peak_table,
    rates_table,
    select_files,
)
from command_line import EXIT_DONE, run
from corpora import Corpus
from encoders import load_encoder, resolve_device
from networks import PartialMels

RATE = 16_000
# The package embeds one file at a time. Its own way removes long silences, which `resemblyzer` does not by default.
PEER, PEER_WHOLE = "Resemblyzer", "Resemblyzer without its speech detection"


@dataclass(frozen=True, kw_only=True)
class ResemblyzerBenchmark(SideBySideConfig):
    """Time the way from files to vectors, with the weights of the encoder, which are downloaded if necessary."""

    n_files: int = 100
    """Number of files, spread evenly over the corpus."""


def main(config: ResemblyzerBenchmark) -> int:
    """Print the median clips per second of each way, the ratios to the package, and the largest differences."""
    device = resolve_device(config.device)
    corpus = select_files(config.data_dir, config.n_files)
    encoders = {
        "fp32": load_encoder("resemblyzer", device=str(device)),
        "fp32, vad=webrtc": load_encoder("resemblyzer", device=str(device), vad="webrtc"),
        "bf16": load_encoder("resemblyzer", device=str(device), precision="bf16"),
    }
    encoder = encoders["fp32"]
    peer = VoiceEncoder(device, verbose=False)
    clips = [read_audio(item.path, RATE) for item in corpus]
    ways: dict[str, Callable[[], object]] = {
        PEER: partial(embed_files_with_peer, peer, corpus, trims=True),
        PEER_WHOLE: partial(embed_files_with_peer, peer, corpus, trims=False),
        "decode and resample alone": partial(decode, corpus, RATE, max_duration=None),
        **{f"{name}, files to vectors": partial(embed, each, corpus) for name, each in encoders.items()},
        "fp32, forward alone": partial(encoder.encode, clips),
    }
    rates = measure(ways, len(corpus), config.repeats)
    seconds = sum(map(len, clips)) / RATE / len(clips)
    print(f"{len(corpus)} files of {corpus.name}, {seconds:.1f} s on average, {hardware(device)}; medians")
    print(rates_table(rates, {PEER: "times the package", PEER_WHOLE: "without detection"}))
    for name, each in encoders.items():
        expected = embed_with_peer(peer, clips, trims="vad" in name)
        difference = 1 - torch.cosine_similarity(each.encode(clips).double(), expected.double())
        print(f"{name}: the largest 1 - cosine to the vector of the package is {float(difference.max()):.1e}")
    # PyTorch's counter does not know the LSTM: each frame of a partial is multiplied by each of its matrices.
    n_frames = sum(PartialMels()(clip)[..., 0].numel() for clip in clips)
    n_weights = sum(each.numel() for name, each in encoder.named_parameters() if "lstm.weight" in name)
    gflop = 2 * n_weights * n_frames / len(clips) / 1e9
    print(f"A clip is {gflop:.2f} GFLOP of matrix products on average:")
    print(peak_table({"fp32 forward alone": median(rates["fp32, forward alone"])}, gflop, device))
    return EXIT_DONE


def embed_files_with_peer(peer: VoiceEncoder, corpus: Corpus, *, trims: bool) -> None:
    """Embed files with the package, which reads them with librosa; without its speech detection unless `trims`."""
    for item in corpus:
        if trims:
            peer.embed_utterance(preprocess_wav(item.path))
        else:
            embed_with_peer(peer, [read_audio(item.path, RATE)], trims=False)


def embed_with_peer(peer: VoiceEncoder, clips: list[Tensor], *, trims: bool) -> Tensor:
    """Embed waveforms with the package, with or without its speech detection."""
    vectors = []
    for clip in clips:
        samples = clip.numpy()
        prepared = preprocess_wav(samples) if trims else normalize_volume(samples, -30, increase_only=True)
        vectors.append(torch.from_numpy(peer.embed_utterance(prepared)))
    return torch.stack(vectors)


if __name__ == "__main__":
    run(ResemblyzerBenchmark, main)
