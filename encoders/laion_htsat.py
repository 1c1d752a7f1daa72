"""The HTSAT network of the laion-clap package, and nothing else of it.

``import laion_clap`` fetches three tokenizers, which takes minutes of retries without a network, and puts a folder of
its own on ``sys.path``; ``laion_clap.clap_module`` builds on both. The network itself is one file without any of that.
It is imported here by its place, as part of a package under a private name whose ``__init__`` is never run.
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

from torch import nn

from encoders.base import EncoderError

PRIVATE_NAME = "_voxprobe_laion_clap"
# The front end of every checkpoint that LAION published without fusion.
SAMPLE_RATE, N_FFT, HOP, N_MELS = 48_000, 1024, 480, 64
CLIP_SAMPLES = 480_000


def build_htsat(width: int, depths: Sequence[int], heads: Sequence[int], n_classes: int) -> nn.Module:
    """Build laion-clap's ``HTSAT_Swin_Transformer`` with weights that mean nothing yet.

    Parameters
    ----------
    width : int
        Channels after the patch embedding (128 in HTSAT-base).
    depths, heads : sequence of int
        Blocks, and attention heads, of each of the four stages.
    n_classes : int
        Outputs of the classifier of sound events, which is part of the checkpoints and not used.

    Raises
    ------
    EncoderError
        The package is not installed.
    """
    config = SimpleNamespace(
        sample_rate=SAMPLE_RATE, window_size=N_FFT, hop_size=HOP, fmin=50, fmax=14_000, mel_bins=N_MELS
    )
    htsat: Any = _htsat_module()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.meshgrid")
        network: nn.Module = htsat.HTSAT_Swin_Transformer(
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
    return network.eval()


@cache
def _htsat_module() -> ModuleType:
    found = importlib.util.find_spec("laion_clap")  # finds the folder, and runs nothing in it
    if found is None or not found.submodule_search_locations:
        raise EncoderError("The package laion-clap is missing; pip install -r requirements.txt brings it.")
    package = ModuleType(PRIVATE_NAME)
    package.__path__ = [str(Path(found.submodule_search_locations[0]) / "clap_module")]
    sys.modules[PRIVATE_NAME] = package
    htsat = importlib.import_module(f"{PRIVATE_NAME}.htsat")
    # Random values that the checkpoint's replace at once take most of the time of building; the module is ours alone.
    htsat.trunc_normal_ = lambda tensor, **_: tensor  # type: ignore[attr-defined]
    return htsat
