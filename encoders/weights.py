"""Files of weights: find them, download them from the hub, digest them, and check what they are."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.base import EncoderError
from files import (
    CLONE,
    PRETRAINED_FOLDER,
    PROBE_SECONDS,
    WEIGHTS,
    describe_file,
    first_line,
    forget,
    probe,
)


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
        for folder in (Path(PRETRAINED_FOLDER), CLONE / PRETRAINED_FOLDER):
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
        f"({reason}). Download them from {hub_file.url} and put them into the folder "
        f"{(Path(PRETRAINED_FOLDER) / place).parent}/, or give their path with --encoder_weights. The encoder "
        "'spectral' needs no weights."
    )


def connection_problem(url: str) -> str | None:
    """Return why a file cannot be downloaded from the hub, or None if it can; it takes a few seconds at most."""
    from huggingface_hub import utils

    client: Any = utils
    return probe(url, client.build_hf_headers())()


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (64 hex digits) of names, shapes and values; it does not depend on the format of the file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
        forget(path)
        raise EncoderError(f"{path}: these weights have changed since they were last read; run the command again.")
