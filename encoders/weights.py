"""Where an encoder's weights are, and what is remembered of the files."""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import torch
from torch import Tensor

from encoders.base import EncoderError

# Folders that are searched for weights: beside the user's work, and in the clone.
FOLDER = "pretrained_models"
CLONE = Path(__file__).parents[1]
# Seconds until the hub counts as out of reach. Its own client retries for half a minute.
PROBE_SECONDS = 5.0


@dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face hub."""

    repo: str
    name: str
    size: str

    @property
    def url(self) -> str:
        """Where it can be had."""
        from huggingface_hub import hf_hub_url

        return str(hf_hub_url(self.repo, self.name))


def find_weights_file(names: Sequence[str], hub_file: HubFile, download: bool) -> Path | None:
    """Find the weights that nobody named.

    Parameters
    ----------
    names : sequence of str
        File names that are looked for in ``pretrained_models/``, in the working folder and in the clone.
    hub_file : HubFile
        What is looked for in the Hugging Face cache, and downloaded.
    download : bool
        Whether to download it if it is in none of these places, with a progress bar.

    Returns
    -------
    Path or None
        None if it is not on this machine and is not to be downloaded.

    Raises
    ------
    EncoderError
        It is not on this machine and the hub does not answer, within 10 s; the sentence says what to put where.
    """
    for name in names:
        for folder in (Path(FOLDER), CLONE / FOLDER):
            if (folder / name).is_file():
                return folder / name
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(hub_file.repo, hub_file.name)
    if isinstance(cached, str):
        return Path(cached)
    return _download(hub_file) if download else None


def _download(hub_file: HubFile) -> Path:
    from huggingface_hub import constants, hf_hub_download

    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else unreachable(hub_file.url)
    if reason is None:
        try:
            return Path(hf_hub_download(hub_file.repo, hub_file.name, etag_timeout=PROBE_SECONDS))
        except Exception as error:  # of the network, the disk, or the hub's client: the file is not here
            reason = first_line(error)
    raise EncoderError(
        f"The encoder's weights, {hub_file.name} ({hub_file.size}), are not on this machine and cannot be downloaded "
        f"({reason}). Get them from {hub_file.url} and put them into the folder {FOLDER}/, or name their place with "
        "--encoder_weights. The encoder 'spectral' needs none."
    )


def unreachable(url: str) -> str | None:
    """Say why a file cannot be had from the hub, soon; None if it can."""
    from huggingface_hub import utils

    client: Any = utils
    answer: list[str | None] = [f"the hub did not answer within {PROBE_SECONDS:g} s"]

    def probe() -> None:
        try:
            # The first byte itself: the hub may answer while the server that it sends one on to does not.
            request = Request(url, headers={**client.build_hf_headers(), "Range": "bytes=0-0"})
            with urlopen(request, timeout=PROBE_SECONDS) as response:
                response.read(1)
            answer[0] = None
        except Exception as error:  # whatever it is, the file cannot be had
            answer[0] = first_line(error)

    # A thread of its own: the look-up of a host's name heeds no time-out.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS + 1)
    return answer[0]


def first_line(error: Exception) -> str:
    """Return the beginning of what an error of another library says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, 64 hex digits, of names, shapes and values: the same for the same weights in any kind of file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def remembered(paths: Path | Sequence[Path], topic: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what was computed of files before, while their paths, sizes and times of change are the same.

    It is kept in ``voxprobe/digests.json`` in the user's cache folder; without one that can be written, it is computed
    each time.

    Parameters
    ----------
    paths : Path or sequence of Path
        The files.
    topic : str
        What is computed, and its version.
    compute : callable
        Returns a dict that JSON can hold.
    """
    marks = []
    for path in [paths] if isinstance(paths, Path) else paths:
        status = path.stat()
        marks.append(f"{status.st_size} {status.st_mtime_ns} {path.resolve()}")
    key = " ".join([topic, *marks])
    known = _read_memory().get(key)
    if isinstance(known, dict) and known:
        return known
    computed = compute()
    _write_memory({**_read_memory(), key: computed})
    return computed


def check_digest(path: Path, digest: str, expected: str) -> None:
    """Refuse weights that are not those that were described.

    Raises
    ------
    EncoderError
        The file was replaced meanwhile, or in such a way that its size and time of change stayed.
    """
    if digest != expected:
        # What is remembered may be wrong, of this file or of the files in this folder.
        _write_memory({key: value for key, value in _read_memory().items() if str(path.resolve()) not in key})
        raise EncoderError(f"{path}: these weights were changed since they were last read; run the command again.")


def _memory_path() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voxprobe" / "digests.json"


def _read_memory() -> dict[str, Any]:
    try:
        content = json.loads(_memory_path().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # absent, damaged, or no home folder
        return {}
    return content if isinstance(content, dict) else {}


def _write_memory(content: dict[str, Any]) -> None:
    with suppress(OSError, RuntimeError):  # a memory that cannot be written costs time, no more
        path = _memory_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
