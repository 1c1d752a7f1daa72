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
from torch import Tensor

from encoders.base import EncoderError
from encoders.weights import check_kind, tensors_digest
from files import is_utf8
from networks import AudioTower

FILE_KIND = "a CLAP checkpoint of LAION or AudioSep"
BRANCH, PROJECTION = "audio_branch.", "audio_projection."
FIRST_WEIGHT = BRANCH + "patch_embed.proj.weight"
NUMPY_SCALAR = np.float64(0).__reduce__()[0]
# LAION's files hold statistics of their training as numpy scalars. Only these, tensors and plain values are loaded.
ALLOWED_GLOBALS: list[Any] = [
    (NUMPY_SCALAR, "numpy.core.multiarray.scalar"),  # its name in files that numpy 1 wrote
    (NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
    type(np.dtype(np.int64)),
    _codecs.encode,
]
# Buffers that the network computes; some files contain them.
DERIVED = re.compile(
    r"audio_branch\.(layers\.\d\.blocks\.\d+\.(attn\.relative_position_index|attn_mask)|bn0\.num_batches_tracked)$"
)
# The convolution that computes spectrograms in laion-clap, and the sound event classifier.
UNUSED = re.compile(r"audio_branch\.(spectrogram_extractor|tscam_conv|head)\.")
SPECTROGRAM = {f"{BRANCH}spectrogram_extractor.stft.conv_{part}.weight": (513, 1, 1024) for part in ("real", "imag")}
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
    try:
        state = _audio_state(path, _read(path))
    except EncoderError:
        check_kind(path, "audiosep", FILE_KIND)
        raise
    try:
        tower = _matching_tower(path, state, dtype)
        _load(path, tower, state)
    except RuntimeError as error:  # tensors of an absurd size, or of a kind that cannot be copied
        reason = str(error).partition("\n")[0]
        raise EncoderError(f"{path}: its tensors cannot be loaded ({reason}); expected {FILE_KIND}.") from error
    digest = tensors_digest({name: tensor for name, tensor in state.items() if not DERIVED.search(name)})
    return tower, digest, len(state[PROJECTION + "2.bias"])


def _read(path: Path) -> Mapping[str, Any]:
    """Return the dict in a file, without running code from the file."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        with torch.serialization.safe_globals(ALLOWED_GLOBALS):
            is_mapped = zipfile.is_zipfile(path) and is_utf8(path)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
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


def _matching_tower(path: Path, state: Mapping[str, Tensor], dtype: torch.dtype) -> AudioTower:
    """Build a tower that fits the shapes of the tensors."""

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
    width, dim = size(FIRST_WEIGHT), size(f"{PROJECTION}2.bias")
    if min(width, dim, *heads) < 1 or any(width * 2**stage % n_heads for stage, n_heads in enumerate(heads)):
        raise EncoderError(
            f"{path}: no HTSAT network has {width} channels, {heads} heads and {dim} outputs; expected {FILE_KIND}."
        )
    # The allocation is bounded by tensors that the file holds.
    first, expected = state.get(f"{PROJECTION}0.weight"), (dim, 8 * width)
    if first is None or first.shape != expected:
        found = "missing" if first is None else f"of shape {tuple(first.shape)}"
        raise EncoderError(
            f"{path}: {PROJECTION}0.weight is {found}; expected {expected}, as the other tensors require. The file "
            "mixes networks of two sizes."
        )
    return AudioTower(width, depths=depths, heads=heads, dim=dim, dtype=dtype).eval()


def _load(path: Path, tower: AudioTower, state: Mapping[str, Tensor]) -> None:
    """Load the tensors; refuse the file if one is missing, unknown or of another shape."""
    expected = tower.state_dict()
    wanted = {name: tuple(tensor.shape) for name, tensor in expected.items()} | SPECTROGRAM
    missing = [name for name in expected.keys() - state.keys() if not DERIVED.search(name)]
    unknown = [name for name in state.keys() - expected.keys() if not DERIVED.search(name) and not UNUSED.match(name)]
    shapes = [name for name in wanted.keys() & state.keys() if wanted[name] != tuple(state[name].shape)]
    for names, problem in ((missing, "is missing"), (unknown, "is not part of the network")):
        if names:
            others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise EncoderError(f"{path}: {min(names)}{others} {problem}; expected {FILE_KIND}, whole and unchanged.")
    if shapes:
        name = min(shapes)
        raise EncoderError(
            f"{path}: {name} has the shape {tuple(state[name].shape)}; expected {wanted[name]}, "
            "as the other tensors require. The file mixes networks of two sizes, or has another front end."
        )
    tower.load_state_dict({name: state.get(name, tensor) for name, tensor in expected.items()})
