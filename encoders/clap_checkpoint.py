"""Read the audio half of a CLAP checkpoint, whichever program saved it."""

import _codecs
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from encoders.base import EncoderError
from encoders.htsat import AudioTower
from encoders.laion_htsat import build_htsat
from encoders.weights import tensors_digest

WHAT = "a CLAP checkpoint of LAION or AudioSep"
BRANCH, PROJECTION = "audio_branch.", "audio_projection."
FIRST = BRANCH + "patch_embed.proj.weight"
# LAION's files hold the numbers of their training as numpy scalars. Besides these, tensors and plain values nothing is
# loaded.
ALLOWED_GLOBALS: list[Any] = [
    np.core.multiarray.scalar,  # type: ignore[attr-defined]
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
    type(np.dtype(np.int64)),
    _codecs.encode,
]
# What the network computes by itself; some files have it, some do not.
DERIVED = re.compile(r"\.(relative_position_index|attn_mask|num_batches_tracked)$")
FUSION = re.compile(r"audio_branch\.(patch_embed\.(fusion_model|mel_conv2d)|fusion_model|mel_conv1d)\b")


def load_audio_tower(path: Path, dtype: torch.dtype = torch.float32) -> tuple[AudioTower, str, int]:
    """Build the audio tower that a checkpoint holds, of whatever size it is.

    Parameters
    ----------
    path : Path
        ``.pt``, ``.ckpt``, ``.bin`` or ``.safetensors``: a bare state dict, or one under ``state_dict``; the names of
        its tensors may have any prefix (``module.``, ``query_encoder.model.``).
    dtype : torch.dtype
        What its matrix products are computed in.

    Returns
    -------
    tower : AudioTower
    digest : str
        SHA-256 of its weights, 64 hex digits.
    dim : int
        Length of its vectors.

    Raises
    ------
    EncoderError
        What is wrong with the file, and what was expected.
    """
    state = _audio_state(path, _read(path))
    network, projection = _matching_network(path, state)
    _load(path, network, state, BRANCH)
    _load(path, projection, state, PROJECTION)
    digest = tensors_digest({name: tensor for name, tensor in state.items() if not DERIVED.search(name)})
    return AudioTower(network, projection, dtype), digest, len(state[PROJECTION + "2.bias"])


def _read(path: Path) -> Mapping[str, Any]:
    """Return the dict that the file holds; no code in it is run."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        with torch.serialization.safe_globals(ALLOWED_GLOBALS):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found:
            raise EncoderError(
                f"{path}: it holds {found[1]}, which is never loaded because it could run code; expected {WHAT}. Save "
                "its state dict alone, or convert it to .safetensors."
            ) from error
        raise EncoderError(
            f"{path}: this is not {WHAT}, or it is cut off; give another, or download it again."
        ) from error
    except OSError as error:
        raise EncoderError(f"{path}: this cannot be read ({error.strerror or error}); expected {WHAT}.") from error
    except Exception as error:  # from damaged bytes the readers raise just about anything
        raise EncoderError(
            f"{path}: this is not {WHAT}, or it is cut off; give another, or download it again."
        ) from error
    if not isinstance(content, dict):
        raise EncoderError(f"{path}: it holds a {type(content).__name__}; expected {WHAT}, a dict of tensors.")
    return content


def _audio_state(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of the audio branch and projection, in float32, under laion-clap's names without a prefix."""
    state = content.get("state_dict", content)
    names = [name for name in state if isinstance(name, str)] if isinstance(state, Mapping) else []
    first = min((name for name in names if name.endswith(FIRST)), key=len, default=None)
    if first is None:
        raise EncoderError(
            f"{path}: it has no {FIRST}, so this is not {WHAT} (checkpoints of transformers and of Microsoft's CLAP "
            f"name their tensors otherwise). Its {len(names)} entries begin with {', '.join(names[:3]) or 'nothing'}."
        )
    prefix = first.removesuffix(FIRST)
    wanted = (prefix + BRANCH, prefix + PROJECTION)
    tensors = {name.removeprefix(prefix): state[name] for name in names if name.startswith(wanted)}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise EncoderError(f"{path}: {name} is a {type(tensor).__name__}; expected a tensor. Download it again.")
        if FUSION.match(name):
            raise EncoderError(
                f"{path}: this is a checkpoint with feature fusion ({name}), which takes a random part of long audio; "
                "use one without, such as 630k-audioset-best.pt."
            )
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _matching_network(path: Path, state: Mapping[str, Tensor]) -> tuple[nn.Module, nn.Sequential]:
    """Build a network and a projection of the size that the tensors have."""

    def size(name: str, axis: int = 0) -> int:
        if name not in state or state[name].ndim <= axis:
            raise EncoderError(f"{path}: {name} is missing or has no axis {axis}, so this is not {WHAT}, whole.")
        return state[name].shape[axis]

    depths, heads = [], []
    for stage in range(4):
        blocks = f"{BRANCH}layers.{stage}.blocks."
        depths.append(len({name.removeprefix(blocks).partition(".")[0] for name in state if name.startswith(blocks)}))
        heads.append(size(f"{blocks}0.attn.relative_position_bias_table", axis=1))
    width, n_classes = size(FIRST), size(f"{BRANCH}tscam_conv.bias")
    dim = size(f"{PROJECTION}2.bias")
    if min(heads) < 1 or any(width * 2**stage % n_heads for stage, n_heads in enumerate(heads)):
        raise EncoderError(f"{path}: no HTSAT network has {width} channels and {heads} heads; expected {WHAT}.")
    try:
        with torch.random.fork_rng(devices=[]):  # the layers draw values that the file's replace
            network = build_htsat(width, depths, heads, n_classes)
            projection = nn.Sequential(nn.Linear(8 * width, dim), nn.ReLU(), nn.Linear(dim, dim))
    except (RuntimeError, ValueError, ZeroDivisionError) as error:
        raise EncoderError(
            f"{path}: no HTSAT network has {width} channels and stages of {depths} blocks; expected {WHAT}."
        ) from error
    return network, projection


def _load(path: Path, module: nn.Module, state: Mapping[str, Tensor], prefix: str) -> None:
    """Load what stands under a prefix, and refuse what is missing, unknown or of another shape, by name."""
    found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    expected = module.state_dict()
    missing = [name for name in expected.keys() - found.keys() if not DERIVED.search(name)]
    unknown = list(found.keys() - expected.keys())
    shapes = [name for name in expected.keys() & found.keys() if expected[name].shape != found[name].shape]
    for names, problem in ((missing, "is missing"), (unknown, "is not part of the network")):
        if names:
            others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise EncoderError(f"{path}: {prefix}{min(names)}{others} {problem}; expected {WHAT}, whole and unchanged.")
    if shapes:
        name = min(shapes)
        raise EncoderError(
            f"{path}: {prefix}{name} has the shape {tuple(found[name].shape)}; expected {tuple(expected[name].shape)}, "
            "by the sizes of the others. The file mixes networks of two sizes, or was made with another front end."
        )
    module.load_state_dict({**expected, **found})
