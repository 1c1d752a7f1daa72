"""The HTSAT network of the laion-clap package, imported without the rest of the package.

``import laion_clap`` downloads three tokenizers, which takes minutes of retries without a network, and adds a folder to
``sys.path``. The network itself is one file that needs neither. It is imported by its path, as part of a package with a
private name, so that the ``__init__`` of laion-clap is never run.
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

from files import InputError

PRIVATE_NAME = "_voxprobe_laion_clap"
# Front end of all checkpoints without fusion that LAION published.
CLIP_SAMPLE_RATE, N_FFT, HOP, N_MELS = 48_000, 1024, 480, 64
CLIP_SAMPLES = 480_000


def build_htsat(width: int, *, depths: Sequence[int], heads: Sequence[int], n_classes: int) -> nn.Module:
    """Build laion-clap's ``HTSAT_Swin_Transformer``, with weights that the caller must load.

    Parameters
    ----------
    width : int
        Number of channels after the patch embedding (128 in HTSAT-base).
    depths, heads : sequence of int
        Number of blocks and number of attention heads in each of the four stages.
    n_classes : int
        Number of outputs of the sound event classifier, which is part of the checkpoints and not used.

    Raises
    ------
    InputError
        The package is not installed.
    """
    config = SimpleNamespace(
        sample_rate=CLIP_SAMPLE_RATE, window_size=N_FFT, hop_size=HOP, fmin=50, fmax=14_000, mel_bins=N_MELS
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
    found = importlib.util.find_spec("laion_clap")  # finds the folder without running its code
    if found is None or not found.submodule_search_locations:
        raise InputError("The package laion-clap is not installed. Run: pip install -r requirements.txt.")
    package = ModuleType(PRIVATE_NAME)
    package.__path__ = [str(Path(found.submodule_search_locations[0]) / "clap_module")]
    sys.modules[PRIVATE_NAME] = package
    htsat = importlib.import_module(f"{PRIVATE_NAME}.htsat")
    # Skip the random initialisation: it takes most of the time, and a checkpoint replaces its values. No other code
    # uses this module.
    htsat.trunc_normal_ = lambda tensor, **_: tensor  # type: ignore[attr-defined]
    return htsat
