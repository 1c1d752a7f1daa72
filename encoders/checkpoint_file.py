"""Checkpoints of speaker networks: find the file, read it, and check its tensors. No code in a file is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.base import EncoderError
from encoders.weights import check_kind

# Types of the numbers that checkpoints hold.
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def require_file(weights: str | Path, advice: str) -> Path:
    """Return the path of a file that exists.

    Parameters
    ----------
    weights : path-like
        Path that was given.
    advice : str
        A sentence that says what to give, for the error message.

    Raises
    ------
    EncoderError
        There is no such file, or it is a folder.
    """
    path = Path(weights)
    if not path.is_file():
        raise EncoderError(f"{path}: {'this is a folder' if path.is_dir() else 'no such file'}. {advice}")
    return path


def load_checkpoint(path: Path, encoder: str, *, kind: str, needs: str) -> dict[Any, Any]:
    """Read a checkpoint, which is a dict.

    Parameters
    ----------
    path : Path
        The file.
    encoder : str
        Name of the encoder.
    kind : str
        Expected kind of file, for error messages.
    needs : str
        A key that every checkpoint of this kind has.

    Raises
    ------
    EncoderError
        The file is of another kind, or damaged.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # files of other kinds raise errors of any type
        check_kind(path, encoder, kind)
        raise EncoderError(
            f"{path}: this is not {kind}, or it is cut off. Give another file, or download it again."
        ) from error
    if not isinstance(content, dict) or needs not in content:
        check_kind(path, encoder, kind)
        names = ", ".join(map(str, list(content)[:3])) if isinstance(content, dict) else type(content).__name__
        raise EncoderError(f"{path}: it has no {needs}, so it is not {kind}. It holds: {names or 'nothing'}.")
    return content


def check_tensors(path: Path, content: Mapping[Any, Any]) -> None:
    """Refuse the content of a checkpoint that is not a state dict of finite numbers.

    Raises
    ------
    EncoderError
        A name is not text, or a value is not a plain tensor, not finite in fp32, or a negative variance.
    """
    for name, tensor in content.items():
        if not (isinstance(name, str) and isinstance(tensor, Tensor) and _is_plain(tensor) and is_finite(tensor)):
            raise EncoderError(f"{path}: {name} is not a tensor of finite numbers; download the file again.")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise EncoderError(f"{path}: {name} has negative variances; download the file again.")


def _is_plain(tensor: Tensor) -> bool:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        return False
    # A small file can declare an expanded tensor of any size, and other types have few operations.
    is_whole = tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    return is_whole and (tensor.dtype in FLOATS or not (tensor.is_floating_point() or tensor.is_complex()))


def is_finite(tensor: Tensor) -> bool:
    """Return whether the numbers of a tensor are finite in fp32, in which encoders compute."""
    return bool(torch.isfinite(tensor.float()).all())
