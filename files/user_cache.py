"""The project's folder in the user's cache: downloaded weights, and what was computed from files."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from files.errors import InputError


def cache_folder(error_class: type[InputError] = InputError) -> Path:
    """Return this project's folder in the user's cache.

    Raises
    ------
    InputError
        The user has no home folder, and XDG_CACHE_HOME is not set. The error is of the class `error_class`.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voxprobe"
    except RuntimeError as error:
        raise error_class("There is no home folder for the cache; set XDG_CACHE_HOME to a folder.") from error


def remembered(paths: Path | Sequence[Path], topic: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Compute values from files, or return the cached values if paths, sizes and modification times are the same.

    The cache is ``voxprobe/digests.json`` in the user's cache folder. If it cannot be written, the values are computed
    each time.

    Parameters
    ----------
    paths : Path or sequence of Path
        The files.
    topic : str
        Name and version of what is computed.
    compute : callable
        Function that returns the values, a dict that JSON can hold.
    """
    states = []
    for path in [paths] if isinstance(paths, Path) else paths:
        status = path.stat()
        states.append(f"{status.st_size} {status.st_mtime_ns} {path.resolve()}")
    key = " ".join([topic, *states])
    cached = _read_cache().get(key)
    if isinstance(cached, dict) and cached:
        return cached
    computed = compute()
    _write_cache({**_read_cache(), key: computed})
    return computed


def forget(path: Path) -> None:
    """Remove the cached values that were computed from a file, or from files in a folder."""
    _write_cache({key: value for key, value in _read_cache().items() if str(path.resolve()) not in key})


def _cache_path() -> Path:
    return cache_folder() / "digests.json"


def _read_cache() -> dict[str, Any]:
    try:
        content = json.loads(_cache_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent, damaged, or no home folder
        return {}
    return content if isinstance(content, dict) else {}


def _write_cache(content: dict[str, Any]) -> None:
    with suppress(OSError, InputError):  # without a cache, values are computed again
        path = _cache_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
