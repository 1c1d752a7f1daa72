"""Compare means that can be removed from the windows of a recording with a DC offset: their own, and the recording's.

python benchmarks/window_offsets.py --data_dir CORPUS --scratch_weights CHECKPOINT
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor

from audio import read_audio, window_starts
from command_line import EXIT_DONE, run
from config import Layout, LogLevel, ScriptConfig
from corpora import load_corpus
from embedding.worker import remove_offset
from encoders import Encoder, load_encoder
from files import format_table
from heads import create_scaler
from metrics import equal_error_rate

ENCODERS = ("scratch", "spectral")
RATE = 16_000
# Length of the windows, half of which overlap, and of the part of each recording that is used (seconds).
WINDOWS = (0.5, 2.0)
SECONDS = 10.0
GAIN, OFFSET = 0.4, 0.02


@dataclass(frozen=True, kw_only=True)
class WindowOffsetBenchmark(ScriptConfig):
    """Settings of the comparison."""

    data_dir: Path
    """Folder of the corpus."""
    scratch_weights: Path
    """Checkpoint for the encoder scratch."""
    layout: Layout = "auto"
    """Layout of the corpus."""
    max_utterances: int = 200
    """Number of utterances, which are drawn at random."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def main(config: WindowOffsetBenchmark) -> int:
    """Print the table."""
    corpus = load_corpus(config.data_dir, config.layout)
    drawn = np.sort(np.random.default_rng(0).permutation(len(corpus))[: config.max_utterances])
    utterances = [corpus.utterances[number] for number in drawn.tolist()]
    speakers = np.array([utterance.speaker for utterance in utterances])
    waveforms = [read_audio(utterance.path, RATE, max_duration=SECONDS) for utterance in utterances]
    shifted = [GAIN * waveform + OFFSET for waveform in waveforms]
    first, second = np.triu_indices(len(speakers), 1)
    same = (speakers[first] == speakers[second]).astype(np.int64)
    lines = []
    for name in ENCODERS:
        encoder = load_encoder(name, config.scratch_weights if name == "scratch" else None, device="cpu")
        for seconds in WINDOWS:
            for mean, embed in (("none", embed_as_is), ("the recording's", embed_whole), ("each window's", embed_each)):
                plain, other = (
                    torch.stack([embed(encoder, each.clone(), seconds) for each in given])
                    for given in (waveforms, shifted)
                )
                scaler = create_scaler("standard").fit(plain, torch.zeros(len(plain), dtype=torch.int64))
                one, two = (torch.nn.functional.normalize(scaler.transform(each), dim=1) for each in (plain, other))
                rates = [equal_error_rate(same, (one @ each.T).numpy()[first, second]) for each in (one, two)]
                lines.append([name, f"{seconds:g} s", mean, *(f"{100 * rate:.2f}" for rate in rates)])
    print(f"{len(set(speakers))} speakers, {len(speakers)} utterances; EER in percent:")
    print(format_table(["encoder", "windows", "mean removed", "plain", "plain - with offset"], lines, "<<<>>"))
    return EXIT_DONE


def embed_as_is(encoder: Encoder, waveform: Tensor, seconds: float) -> Tensor:
    """Return the mean vector (D,) of the windows."""
    return encoder.encode(windows_of(waveform, seconds)).mean(0)


def embed_whole(encoder: Encoder, waveform: Tensor, seconds: float) -> Tensor:
    """Return the mean vector (D,) of the windows of the recording without its offset."""
    remove_offset(waveform)
    return embed_as_is(encoder, waveform, seconds)


def embed_each(encoder: Encoder, waveform: Tensor, seconds: float) -> Tensor:
    """Return the mean vector (D,) of the windows, each without its own offset."""
    windows = [window.clone() for window in windows_of(waveform, seconds)]
    for window in windows:
        remove_offset(window)
    return encoder.encode(windows).mean(0)


def windows_of(waveform: Tensor, seconds: float) -> list[Tensor]:
    """Return the windows of a waveform."""
    size = round(seconds * RATE)
    return [waveform[start : start + size] for start in window_starts(len(waveform), size, size // 2)]


if __name__ == "__main__":
    run(WindowOffsetBenchmark, main)
