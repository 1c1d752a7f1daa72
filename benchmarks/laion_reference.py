"""The audio half of laion-clap's CLAP: the reference of `networks.AudioTower` in tests and benchmarks.

Of the laion-clap package, only the file of the network is imported, by its path and as part of a package with a private
name. ``import laion_clap`` needs packages that nothing here uses, downloads three tokenizers, and adds a folder to
``sys.path``.
"""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from files import optional_imports
from networks import CLIP_SAMPLE_RATE, CLIP_SAMPLES

PRIVATE_NAME = "_laion_clap_network"


class ReferenceClap(nn.Module):
    """laion-clap's ``HTSAT_Swin_Transformer`` and audio projection, with random weights.

    The names of the state dict are those of LAION's checkpoints.

    Parameters
    ----------
    width : int
        Number of channels after the patch embedding (128 in HTSAT-base).
    depths, heads : sequence of int
        Number of blocks and number of attention heads in each of the four stages.
    dim : int
        Length of an embedding.
    n_classes : int
        Number of outputs of the sound event classifier, which checkpoints hold and embeddings do not use.

    Raises
    ------
    InputError
        laion-clap, or a package that its network needs, is not installed.
    """

    def __init__(
        self, width: int, *, depths: Sequence[int], heads: Sequence[int], dim: int = 512, n_classes: int = 527
    ) -> None:
        super().__init__()
        config = SimpleNamespace(
            sample_rate=CLIP_SAMPLE_RATE, window_size=1024, hop_size=480, fmin=50, fmax=14_000, mel_bins=64
        )
        htsat: Any = _htsat_module()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.meshgrid")
            self.audio_branch = htsat.HTSAT_Swin_Transformer(
                spec_size=256,
                patch_size=4,
                patch_stride=(4, 4),
                num_classes=n_classes,
                embed_dim=width,
                depths=list(depths),
                num_heads=list(heads),
                window_size=8,
                config=config,
            )
        self.audio_projection = nn.Sequential(nn.Linear(8 * width, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.eval()

    def forward(self, clips: Tensor) -> Tensor:
        """Embed clips (batch, CLIP_SAMPLES) at 48 kHz, as ``CLAP.get_audio_embedding`` does: (batch, dim)."""
        features = self.audio_branch({"waveform": clips}, device=clips.device)["embedding"]
        embeddings: Tensor = functional.normalize(self.audio_projection(features), dim=-1)
        return embeddings

    def embed_files(self, paths: Sequence[str | Path]) -> Tensor:
        """Embed files as one batch, with the steps of ``CLAP_Module.get_audio_embedding_from_filelist``: (files, dim).

        librosa decodes and resamples; the samples are quantised to 16 bits, repeated and padded.
        """
        with optional_imports():
            import librosa

        device = next(self.parameters()).device
        waveforms = [librosa.load(path, sr=CLIP_SAMPLE_RATE)[0] for path in paths]
        quantised = [(np.clip(waveform, -1, 1) * 32767).astype(np.int16) / np.float32(32767) for waveform in waveforms]
        clips = torch.stack([repeat_and_pad(torch.from_numpy(waveform)) for waveform in quantised])
        embeddings: Tensor = self(clips.to(device))
        return embeddings


def repeat_and_pad(waveform: Tensor) -> Tensor:
    """Return a clip (CLIP_SAMPLES,): a waveform (samples,) repeated whole times and padded with zeros, or its start.

    This is laion-clap's ``repeatpad``; of long waveforms, laion-clap takes a random part instead of the start.
    """
    waveform = waveform[:CLIP_SAMPLES]
    repeated = waveform.repeat(CLIP_SAMPLES // len(waveform))
    return functional.pad(repeated, (0, CLIP_SAMPLES - len(repeated)))


@cache
def _htsat_module() -> ModuleType:
    with optional_imports():
        found = importlib.util.find_spec("laion_clap")  # finds the folder without running its code
        if found is None or not found.submodule_search_locations:
            raise ModuleNotFoundError("No module named 'laion_clap'", name="laion_clap")
        package = ModuleType(PRIVATE_NAME)
        package.__path__ = [str(Path(found.submodule_search_locations[0]) / "clap_module")]
        sys.modules[PRIVATE_NAME] = package
        return importlib.import_module(f"{PRIVATE_NAME}.htsat")
