"""Files of numpy arrays, in the format of `numpy.savez`: nothing that is loaded can run code."""

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from files.errors import InputError
from files.paths import PathLike
from files.writing import write_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Name of the array that holds all values that are no arrays, as a text in JSON.
ABOUT = "about"
EXPECTED = "Expected an .npz file of numbers and strings, as numpy.savez writes it."


def write_arrays(path: PathLike, content: dict[str, Any]) -> Path:
    """Write a dict of tensors, lists of names and plain values as an ``.npz`` file, atomically; return the path.

    Each tensor, and each list of names, becomes an array. A dict that holds tensors becomes several arrays, named
    ``key.name``. The other values become one text in JSON, named ``about``.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    import numpy as np

    arrays: dict[str, Any] = {}
    arrays[ABOUT] = np.array(json.dumps(_take_arrays(content, arrays, "")))
    return write_atomically(path, lambda file: np.savez(file, **arrays))


def load_arrays(path: Path, kind: str, error_class: type[InputError]) -> dict[str, Any]:
    """Load an ``.npz`` file of `write_arrays`, or of another program, as a dict.

    Numbers are returned as tensors, and names as lists of strings. Arrays of Python objects are refused, because
    loading them could run code.

    Parameters
    ----------
    path, kind, error_class
        As in `load_tensors`.

    Raises
    ------
    InputError
        The file does not exist, or it is of another kind.
    """
    import numpy as np

    if not path.is_file():
        raise error_class(f"{path}: {'this is a folder' if path.is_dir() else 'no such file'}. Expected {kind}.")
    if not zipfile.is_zipfile(path):
        raise error_class(f"{path}: this is not {kind}, or it is cut off. {EXPECTED}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        content: dict[str, Any] = json.loads(str(arrays.pop(ABOUT, "{}")))
        for name, values in arrays.items():
            *outer, last = name.split(".")
            target = content
            for key in outer:
                target = target.setdefault(key, {})
            target[last] = _loaded(values)
    except PermissionError as error:
        raise error_class(f"{path}: this cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # on arbitrary bytes, numpy can raise any error
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        if "allow_pickle" in str(error):
            reason = "it holds Python objects, which are never loaded, because they could run code"
        raise error_class(f"{path}: this is not {kind}, or it is damaged ({reason}). {EXPECTED}") from error
    return content


def _take_arrays(content: dict[str, Any], arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Add the tensors and the names in a dict to the arrays, and return the other values."""
    import numpy as np
    import torch

    rest: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, torch.Tensor):
            arrays[prefix + key] = value.numpy()
        elif isinstance(value, list) and value and all(isinstance(name, str) for name in value):
            arrays[prefix + key] = np.array(value)
        elif isinstance(value, dict) and any(isinstance(part, torch.Tensor) for part in value.values()):
            rest[key] = _take_arrays(value, arrays, f"{prefix}{key}.")
        else:
            rest[key] = value
    return rest


def _loaded(values: "NDArray[Any]") -> Any:
    """Return an array as a tensor, or as a list of strings."""
    import numpy as np
    import torch

    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    if values.dtype.kind == "U":
        return values.tolist()
    return torch.from_numpy(np.ascontiguousarray(values, values.dtype.newbyteorder("=")))
