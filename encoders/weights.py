"""Files of weights: find them, download them, digest them, and cache what was computed from them."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import torch
from torch import Tensor

from encoders.base import EncoderError
from files import WEIGHTS, describe_file

# This folder is searched for weights, in the working folder and in the clone.
FOLDER = "pretrained_models"
CLONE = Path(__file__).parents[1]
# Time limit for an answer of the hub (seconds). The hub's own client retries for half a minute.
PROBE_SECONDS = 5.0


@dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face hub: repository, name, and size in words."""

    repo: str
    name: str
    size: str

    @property
    def url(self) -> str:
        """Address of the file."""
        from huggingface_hub import hf_hub_url

        return str(hf_hub_url(self.repo, self.name))


def find_weights_file(names: Sequence[str], hub_file: HubFile, download: bool) -> Path | None:
    """Find an encoder's default weights.

    Parameters
    ----------
    names : sequence of str
        File names to search for in ``pretrained_models/``, in the working folder and in the clone; an error names the
        first.
    hub_file : HubFile
        File to search for in the Hugging Face cache, and to download.
    download : bool
        Whether to download the file if it is in none of these places; this shows a progress bar.

    Returns
    -------
    Path or None
        None if the weights are not on this machine and `download` is false.

    Raises
    ------
    EncoderError
        The weights are not on this machine and cannot be downloaded. It is raised within 10 s if the hub does not
        answer; the message lists which file to put where.
    """
    for name in names:
        for folder in (Path(FOLDER), CLONE / FOLDER):
            if (folder / name).is_file():
                return folder / name
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(hub_file.repo, hub_file.name)
    if isinstance(cached, str):
        return Path(cached)
    return _download(hub_file, names[0]) if download else None


def _download(hub_file: HubFile, place: str) -> Path:
    from huggingface_hub import constants, hf_hub_download

    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else connection_problem(hub_file.url)
    if reason is None:
        try:
            return Path(hf_hub_download(hub_file.repo, hub_file.name, etag_timeout=PROBE_SECONDS))
        except Exception as error:  # the network, the disk and the hub's client raise errors of many types
            reason = first_line(error)
    raise EncoderError(
        f"The encoder's weights, {hub_file.name} ({hub_file.size}), are not on this machine and cannot be downloaded "
        f"({reason}). Download them from {hub_file.url} and put them into the folder {(Path(FOLDER) / place).parent}/, "
        "or give their path with --encoder_weights. The encoder 'spectral' needs no weights."
    )


def connection_problem(url: str) -> str | None:
    """Return why a file cannot be downloaded from the hub, or None if it can; it takes a few seconds at most."""
    from huggingface_hub import utils

    client: Any = utils
    return probe(url, client.build_hf_headers())()


def probe(url: str, headers: Mapping[str, str] | None = None) -> Callable[[], str | None]:
    """Start to read a URL in the background.

    Returns
    -------
    callable
        Function that waits for the result, a few seconds at most: why the URL cannot be read, or None if it can.
    """
    problem: list[str | None] = [f"no answer within {PROBE_SECONDS:g} s"]

    def read() -> None:
        try:
            # Read the first byte: the server may answer while the server that it redirects to does not.
            request = Request(url, headers={**(headers or {}), "Range": "bytes=0-0"})
            with urlopen(request, timeout=PROBE_SECONDS) as response:
                response.read(1)
            problem[0] = None
        except Exception as error:  # after any error, the file cannot be downloaded
            problem[0] = first_line(error)

    # In a thread, because the look-up of a host name has no time-out.
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    started = time.monotonic()

    def wait() -> str | None:
        thread.join(max(started + PROBE_SECONDS + 1 - time.monotonic(), 0))
        return problem[0]

    return wait


def first_line(error: Exception) -> str:
    """Return the first line of the message of another library's error, at most 200 characters."""
    message = getattr(error, "reason", None) or error  # urllib describes errors of the network in `reason`
    return (str(message).strip() or type(error).__name__).splitlines()[0][:200]


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (64 hex digits) of names, shapes and values; it does not depend on the format of the file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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


def check_kind(path: Path, encoder: str, kind: str) -> None:
    """Refuse a file that is known to be no checkpoint, or one of another encoder; called if it cannot be used.

    Parameters
    ----------
    path : Path
        File that was given as the weights.
    encoder : str
        Name of the encoder.
    kind : str
        Expected kind of file, for the error message.

    Raises
    ------
    EncoderError
        The message says what the file is.
    """
    found = describe_file(path)
    if found not in (None, WEIGHTS) and f"--encoder {encoder} " not in str(found):
        raise EncoderError(f"{path}: this is not {kind}; it is {found}.")


def check_digest(path: Path, digest: str, expected: str) -> None:
    """Refuse weights whose digest is not the one in the encoder's spec.

    Parameters
    ----------
    path : Path
        File or folder of the weights.
    digest : str
        Digest of the weights in it.
    expected : str
        Digest in the spec.

    Raises
    ------
    EncoderError
        The weights were replaced after the spec was made, or earlier with the same size and modification time.
    """
    if digest != expected:
        # The cached values of this file, or of files in this folder, may be wrong.
        _write_cache({key: value for key, value in _read_cache().items() if str(path.resolve()) not in key})
        raise EncoderError(f"{path}: these weights have changed since they were last read; run the command again.")


def cache_folder() -> Path:
    """Return this project's folder in the user's cache.

    Raises
    ------
    EncoderError
        The user has no home folder, and XDG_CACHE_HOME is not set.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voxprobe"
    except RuntimeError as error:
        raise EncoderError("There is no home folder for the cache; set XDG_CACHE_HOME to a folder.") from error


def _cache_path() -> Path:
    return cache_folder() / "digests.json"


def _read_cache() -> dict[str, Any]:
    try:
        content = json.loads(_cache_path().read_text(encoding="utf-8"))
    except (OSError, ValueError, EncoderError):  # absent, damaged, or no home folder
        return {}
    return content if isinstance(content, dict) else {}


def _write_cache(content: dict[str, Any]) -> None:
    with suppress(OSError, EncoderError):  # without a cache, values are computed again
        path = _cache_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
