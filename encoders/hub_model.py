"""Models in the format of the Hugging Face hub: find their folder, download them, read their settings."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from encoders.base import EncoderError
from encoders.weights import connection_problem
from files import CLONE, PRETRAINED_FOLDER, PROBE_SECONDS, describe_file, first_line

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
# Files that may hold the weights; an index lists the files of a large model.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

ADVICE = "give another folder that holds them with --encoder_weights. The encoder 'spectral' needs no weights."


def find_model(weights: str | Path, download: bool, advice: str = ADVICE) -> str | Path | None:
    """Find a model that is given as a folder or as an id, and download it if necessary.

    Parameters
    ----------
    weights : path-like
        A folder, or an id such as ``facebook/wav2vec2-base``.
    download : bool
        Whether to download a model that is not on this machine.
    advice : str
        What the user can do instead, if the model cannot be downloaded, for the error message.

    Returns
    -------
    path-like or None
        `weights` itself, whose folder `model_folder` returns; None if the model is not on this machine and `download`
        is false.

    Raises
    ------
    EncoderError
        There is no such folder, or the model cannot be downloaded. It is raised within 10 s if the hub does not answer;
        the message lists which files to put where.
    """
    if Path(weights).is_dir():
        return weights
    if Path(weights).is_file():
        raise EncoderError(
            f"{weights}: this is {describe_file(Path(weights)) or 'a file'}. Give a folder that holds {CONFIG} and the "
            "weights, or an id of the Hugging Face hub, such as facebook/wav2vec2-base."
        )
    folder = _local_folder(str(weights))
    if folder is not None:
        if download and not (folder / PREPROCESSOR).is_file():
            _download_preprocessor(str(weights))
        return weights
    if not is_hub_id(str(weights)):
        raise EncoderError(
            f"{weights}: no such folder. Give a folder that holds {CONFIG} and the weights, or an id of the Hugging "
            "Face hub, such as facebook/wav2vec2-base."
        )
    if not download:
        return None
    reason = _download(str(weights))
    if reason is not None:
        raise EncoderError(
            f"{weights}: this model is neither in {PRETRAINED_FOLDER}/ nor in {_cache()}, and cannot be downloaded "
            f"({reason}). Put its {CONFIG}, {PREPROCESSOR} and {WEIGHT_FILES[0]} into "
            f"{PRETRAINED_FOLDER}/{weights}/, or {advice}"
        )
    return weights


def find_on_hub(model_id: str) -> Path:
    """Return the folder of a model in the hub's cache; download it if necessary.

    Raises
    ------
    EncoderError
        It is not there, and cannot be downloaded.
    """
    folder = _cached_folder(model_id)
    if folder is None:
        reason = _download(model_id)
        folder = _cached_folder(model_id)
        if folder is None:
            raise EncoderError(f"{model_id}: it is not in {_cache()}, and cannot be downloaded ({reason}).")
    return folder


def model_folder(weights: str | Path) -> Path:
    """Return the folder of a model that `find_model` found."""
    if Path(weights).is_dir():
        return Path(weights)
    folder = _local_folder(str(weights))
    if folder is None:
        raise EncoderError(f"{weights}: this model is no longer on this machine; run the command again.")
    return folder


def _local_folder(model_id: str) -> Path | None:
    """Search for an id in ``pretrained_models/``, as ``owner/name`` and as ``name``, then in the hub's cache."""
    if not is_hub_id(model_id):
        return None
    for place in (Path(PRETRAINED_FOLDER), CLONE / PRETRAINED_FOLDER):
        for name in (model_id, model_id.partition("/")[2]):
            if (place / name / CONFIG).is_file():
                return place / name
    return _cached_folder(model_id)


def _cached_folder(model_id: str) -> Path | None:
    """Search for an id in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model_id, CONFIG)
    if not isinstance(cached, str):
        return None
    with suppress(EncoderError):  # an interrupted download is not complete: download it again
        weight_paths(Path(cached).parent)
        return Path(cached).parent
    return None


def _cache() -> str:
    from huggingface_hub import constants

    return f"the Hugging Face cache ({constants.HF_HUB_CACHE})"


def is_hub_id(text: str) -> bool:
    """Return whether a text has the form of an id of the hub: ``owner/name``."""
    from huggingface_hub import utils

    client: Any = utils
    try:
        client.validate_repo_id(text)
    except ValueError:
        return False
    return HUB_ID.fullmatch(text) is not None


def _download_preprocessor(model_id: str) -> None:
    """Download the settings of a model's preprocessor, if they exist; other programs do not download them."""
    from huggingface_hub import constants, hf_hub_download, hf_hub_url, try_to_load_from_cache

    known_absent = try_to_load_from_cache(model_id, PREPROCESSOR) is not None
    if known_absent or constants.HF_HUB_OFFLINE or connection_problem(hf_hub_url(model_id, CONFIG)) is not None:
        return
    with suppress(Exception):  # the file is optional
        hf_hub_download(model_id, PREPROCESSOR, etag_timeout=PROBE_SECONDS)


def _download(model_id: str) -> str | None:
    """Download a model; return why it cannot be downloaded, or None if it was."""
    from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download

    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else connection_problem(hf_hub_url(model_id, CONFIG))
    if reason is None:
        try:
            files = set(HfApi().list_repo_files(model_id))
            weights = next((name for name in WEIGHT_FILES if name in files), None)
            if weights is None:
                raise EncoderError(f"{model_id}: this model has no weights for PyTorch on the hub; give another model.")
            reason = connection_problem(hf_hub_url(model_id, weights))
            if reason is not None:
                raise ConnectionError(reason)
            stem, suffix = weights.removesuffix(".index.json").split(".")
            parts = [f"{stem}-*.{suffix}"] if weights.endswith(".index.json") else []
            snapshot_download(
                model_id, allow_patterns=[CONFIG, PREPROCESSOR, weights, *parts], etag_timeout=PROBE_SECONDS
            )
        except EncoderError:
            raise
        except Exception as error:  # the network, the disk and the hub's client raise errors of many types
            reason = first_line(error)
    return reason


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    EncoderError
        The file is missing, cannot be read, or does not hold an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EncoderError(f"{path.parent}: this folder has no {path.name}; expected the folder of a model.") from error
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path}: this cannot be read ({first_line(error)}); download it again.") from error
    if not isinstance(content, dict):
        raise EncoderError(f"{path}: it holds a {type(content).__name__}; expected a dict. Download it again.")
    return content


def weight_paths(folder: Path) -> list[Path]:
    """Return the paths of the files in a model's folder that hold its weights.

    Raises
    ------
    EncoderError
        The folder has no weights, or some of their files are missing.
    """
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            if not name.endswith(".index.json"):
                return [folder / name]
            listed = read_json(folder / name).get("weight_map")
            parts = sorted(set(map(str, listed.values()))) if isinstance(listed, dict) else []
            absent = [part for part in parts if not (folder / part).is_file()]
            if not parts:
                raise EncoderError(f"{folder / name}: it lists no files of weights; download it again.")
            if absent:
                raise EncoderError(
                    f"{folder / name}: files that it lists are missing: {', '.join(absent)}. Download the model again."
                )
            return [folder / name, *(folder / part for part in parts)]
    raise EncoderError(f"{folder}: this folder has no weights; expected one of {', '.join(WEIGHT_FILES)}.")
