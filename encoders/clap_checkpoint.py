"""Load the audio tower of a CLAP checkpoint, in the formats of several programs."""

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
from encoders.weights import tensors_digest
from networks import AudioTower, build_htsat

FILE_KIND = "a CLAP checkpoint of LAION or AudioSep"
BRANCH, PROJECTION = "audio_branch.", "audio_projection."
FIRST_WEIGHT = BRANCH + "patch_embed.proj.weight"
# LAION's files hold statistics of their training as numpy scalars. Only these, tensors and plain values are loaded.
ALLOWED_GLOBALS: list[Any] = [
    np.core.multiarray.scalar,  # type: ignore[attr-defined]
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
    type(np.dtype(np.int64)),
    _codecs.encode,
]
# Buffers that the network computes; some files contain them.
DERIVED = re.compile(r"\.(relative_position_index|attn_mask|num_batches_tracked)$")
FUSION = re.compile(r"audio_branch\.(patch_embed\.(fusion_model|mel_conv2d)|fusion_model|mel_conv1d)\b")


def load_audio_tower(path: Path, dtype: torch.dtype = torch.float32) -> tuple[AudioTower, str, int]:
    """Build the audio tower of a checkpoint; its size is read from the shapes of the tensors.

    Parameters
    ----------
    path : Path
        ``.pt``, ``.ckpt``, ``.bin`` or ``.safetensors`` file that holds a state dict, at the top level or under
        ``state_dict``. The names of the tensors may have any prefix (``module.``, ``query_encoder.model.``).
    dtype : torch.dtype
        Precision of the matrix products.

    Returns
    -------
    tower : AudioTower
    digest : str
        SHA-256 of its weights (64 hex digits).
    dim : int
        Length of its vectors.

    Raises
    ------
    EncoderError
        The file cannot be read, or is not a CLAP checkpoint that this project supports.
    """
    state = _audio_state(path, _read(path))
    network, projection = _matching_network(path, state)
    _load(path, network, state, prefix=BRANCH)
    _load(path, projection, state, prefix=PROJECTION)
    digest = tensors_digest({name: tensor for name, tensor in state.items() if not DERIVED.search(name)})
    return AudioTower(network, projection, dtype), digest, len(state[PROJECTION + "2.bias"])


def _read(path: Path) -> Mapping[str, Any]:
    """Return the dict in a file, without running code from the file."""
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
                f"{path}: it holds {found[1]}, which is never loaded because it could run code; expected {FILE_KIND}. "
                "Save its state dict alone, or convert it to .safetensors."
            ) from error
        raise EncoderError(
            f"{path}: this is not {FILE_KIND}, or it is cut off; give another file, or download it again."
        ) from error
    except OSError as error:
        raise EncoderError(f"{path}: this cannot be read ({error.strerror or error}); expected {FILE_KIND}.") from error
    except Exception as error:  # for damaged bytes, the readers raise errors of any type
        raise EncoderError(
            f"{path}: this is not {FILE_KIND}, or it is cut off; give another file, or download it again."
        ) from error
    if not isinstance(content, dict):
        raise EncoderError(f"{path}: it holds a {type(content).__name__}; expected {FILE_KIND}, a dict of tensors.")
    return content


def _audio_state(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of the audio branch and the projection, in float32, with laion-clap's names and no prefix."""
    state = content.get("state_dict", content)
    names = [name for name in state if isinstance(name, str)] if isinstance(state, Mapping) else []
    first = min((name for name in names if name.endswith(FIRST_WEIGHT)), key=len, default=None)
    if first is None:
        raise EncoderError(
            f"{path}: it has no {FIRST_WEIGHT}, so this is not {FILE_KIND} (checkpoints of transformers and of "
            f"Microsoft's CLAP have other names). Its first names are: {', '.join(names[:3]) or 'none'}."
        )
    prefix = first.removesuffix(FIRST_WEIGHT)
    wanted = (prefix + BRANCH, prefix + PROJECTION)
    tensors = {name.removeprefix(prefix): state[name] for name in names if name.startswith(wanted)}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise EncoderError(f"{path}: {name} is a {type(tensor).__name__}; expected a tensor. Download it again.")
        if FUSION.match(name):
            raise EncoderError(
                f"{path}: this is a checkpoint with feature fusion ({name}), which crops long audio at random; use one "
                "without feature fusion, such as 630k-audioset-best.pt."
            )
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _matching_network(path: Path, state: Mapping[str, Tensor]) -> tuple[nn.Module, nn.Sequential]:
    """Build a network and a projection that fit the shapes of the tensors."""

    def size(name: str, axis: int = 0) -> int:
        if name not in state or state[name].ndim <= axis:
            raise EncoderError(
                f"{path}: {name} is missing or has no axis {axis}; expected {FILE_KIND}, whole and unchanged."
            )
        return state[name].shape[axis]

    depths, heads = [], []
    for stage in range(4):
        blocks = f"{BRANCH}layers.{stage}.blocks."
        depths.append(len({name.removeprefix(blocks).partition(".")[0] for name in state if name.startswith(blocks)}))
        heads.append(size(f"{blocks}0.attn.relative_position_bias_table", axis=1))
    width, n_classes = size(FIRST_WEIGHT), size(f"{BRANCH}tscam_conv.bias")
    dim = size(f"{PROJECTION}2.bias")
    if min(heads) < 1 or any(width * 2**stage % n_heads for stage, n_heads in enumerate(heads)):
        raise EncoderError(f"{path}: no HTSAT network has {width} channels and {heads} heads; expected {FILE_KIND}.")
    try:
        with torch.random.fork_rng(devices=[]):  # the random initial values are replaced by the file's
            network = build_htsat(width, depths=depths, heads=heads, n_classes=n_classes)
            projection = nn.Sequential(nn.Linear(8 * width, dim), nn.ReLU(), nn.Linear(dim, dim))
    except (RuntimeError, ValueError, ZeroDivisionError) as error:
        raise EncoderError(
            f"{path}: no HTSAT network has {width} channels and stages of {depths} blocks; expected {FILE_KIND}."
        ) from error
    return network, projection


def _load(path: Path, module: nn.Module, state: Mapping[str, Tensor], *, prefix: str) -> None:
    """Load the tensors with a prefix; refuse the file if one is missing, unknown or of another shape."""
    found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    expected = module.state_dict()
    missing = [name for name in expected.keys() - found.keys() if not DERIVED.search(name)]
    unknown = list(found.keys() - expected.keys())
    shapes = [name for name in expected.keys() & found.keys() if expected[name].shape != found[name].shape]
    for names, problem in ((missing, "is missing"), (unknown, "is not part of the network")):
        if names:
            others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise EncoderError(
                f"{path}: {prefix}{min(names)}{others} {problem}; expected {FILE_KIND}, whole and unchanged."
            )
    if shapes:
        name = min(shapes)
        raise EncoderError(
            f"{path}: {prefix}{name} has the shape {tuple(found[name].shape)}; expected {tuple(expected[name].shape)}, "
            "as the other tensors require. The file mixes networks of two sizes, or has another front end."
        )
    module.load_state_dict({**expected, **found})
