"""Where a model in the form of the Hugging Face hub is: a folder, or an id of the hub."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from encoders.base import EncoderError
from encoders.weights import CLONE, FOLDER, PROBE_SECONDS, first_line, unreachable

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
# One of these holds the weights; an index names the parts of large ones.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def find_model(weights: str | Path, download: bool) -> str | Path | None:
    """Find a model that is given as a folder or as an id, and download it if need be.

    Parameters
    ----------
    weights : path-like
        A folder, or an id such as ``facebook/wav2vec2-base``.
    download : bool
        Whether an id that is not on this machine is to be downloaded.

    Returns
    -------
    path-like or None
        What was given; `model_folder` now finds its folder. None if it is not here and is not to be downloaded.

    Raises
    ------
    EncoderError
        There is no such folder, or the hub does not answer, within 10 s; the sentence says what to put where.
    """
    if Path(weights).is_dir():
        return weights
    folder = _local_folder(str(weights))
    if folder is not None:
        if download and not (folder / PREPROCESSOR).is_file():
            _complete(str(weights))
        return weights
    if not _is_id(str(weights)):
        raise EncoderError(
            f"{weights}: no such folder. Give a folder that holds {CONFIG} and the weights, or an id of the Hugging "
            "Face hub such as facebook/wav2vec2-base."
        )
    if not download:
        return None
    _download(str(weights))
    return weights


def model_folder(weights: str | Path) -> Path:
    """Return the folder of a model that `find_model` has found."""
    if Path(weights).is_dir():
        return Path(weights)
    folder = _local_folder(str(weights))
    if folder is None:
        raise EncoderError(f"{weights}: this model is not on this machine any more; run the command again.")
    return folder


def _local_folder(model_id: str) -> Path | None:
    """Look for an id in ``pretrained_models/``, under its whole and its last name, then in the hub's cache."""
    if not _is_id(model_id):
        return None
    for place in (Path(FOLDER), CLONE / FOLDER):
        for name in (model_id, model_id.partition("/")[2]):
            if (place / name / CONFIG).is_file():
                return place / name
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model_id, CONFIG)
    if not isinstance(cached, str):
        return None
    with suppress(EncoderError):  # a download that was interrupted is begun again
        weight_paths(Path(cached).parent)
        return Path(cached).parent
    return None


def _is_id(text: str) -> bool:
    """Tell whether a text can be an id of the hub, with its owner."""
    from huggingface_hub import utils

    client: Any = utils
    try:
        client.validate_repo_id(text)
    except ValueError:
        return False
    return HUB_ID.fullmatch(text) is not None


def _complete(model_id: str) -> None:
    """Fetch the preprocessor's settings, which other programs leave out of the hub's cache, if they can be had."""
    from huggingface_hub import constants, hf_hub_download, hf_hub_url, try_to_load_from_cache

    known_absent = try_to_load_from_cache(model_id, PREPROCESSOR) is not None
    if not known_absent and not constants.HF_HUB_OFFLINE and unreachable(hf_hub_url(model_id, CONFIG)) is None:
        with suppress(Exception):  # it need not exist
            hf_hub_download(model_id, PREPROCESSOR, etag_timeout=PROBE_SECONDS)


def _download(model_id: str) -> None:
    from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download

    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else unreachable(hf_hub_url(model_id, CONFIG))
    if reason is None:
        try:
            files = set(HfApi().list_repo_files(model_id))
            weights = next((name for name in WEIGHT_FILES if name in files), None)
            if weights is None:
                raise EncoderError(f"{model_id}: this model has no weights for PyTorch on the hub; choose another.")
            reason = unreachable(hf_hub_url(model_id, weights))
            if reason is not None:
                raise ConnectionError(reason)
            stem, suffix = weights.removesuffix(".index.json").split(".")
            parts = [f"{stem}-*.{suffix}"] if weights.endswith(".index.json") else []
            snapshot_download(
                model_id, allow_patterns=[CONFIG, PREPROCESSOR, weights, *parts], etag_timeout=PROBE_SECONDS
            )
        except EncoderError:
            raise
        except Exception as error:  # of the network, the disk, or the hub's client: the files are not here
            reason = first_line(error)
        else:
            return
    raise EncoderError(
        f"{model_id}: this model is neither in {FOLDER}/ nor in the Hugging Face cache ({constants.HF_HUB_CACHE}), and "
        f"cannot be downloaded ({reason}). Put its {CONFIG}, {PREPROCESSOR} and {WEIGHT_FILES[0]} into "
        f"{FOLDER}/{model_id}/, or give another folder that holds them as --encoder_weights. The baseline, --encoder "
        "spectral, needs none."
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    EncoderError
        It is absent or something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EncoderError(f"{path.parent}: this folder has no {path.name}, so it is no model of the hub.") from error
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path}: this cannot be read ({first_line(error)}); download it again.") from error
    if not isinstance(content, dict):
        raise EncoderError(f"{path}: it holds a {type(content).__name__}, expected settings; download it again.")
    return content


def weight_paths(folder: Path) -> list[Path]:
    """Return the files of the weights in a model's folder.

    Raises
    ------
    EncoderError
        There are none.
    """
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            if not name.endswith(".index.json"):
                return [folder / name]
            listed = read_json(folder / name).get("weight_map")
            parts = sorted(set(map(str, listed.values()))) if isinstance(listed, dict) else []
            absent = [part for part in parts if not (folder / part).is_file()]
            if absent or not parts:
                raise EncoderError(f"{folder / name}: it names {absent or 'no weights'}, which are not in the folder.")
            return [folder / name, *(folder / part for part in parts)]
    raise EncoderError(f"{folder}: this folder has no weights; expected one of {', '.join(WEIGHT_FILES)} in it.")
