"""May stored vectors serve as those that are asked for, and under which name are they stored?"""

import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoders import Spec, spec_differences, spec_digest
from features.feature_set import AudioProvenance, FeaturesError, FeatureSet
from features.parts import Block

logger = logging.getLogger(__name__)

# Digest of a file, start and duration (seconds) of the span in it, as bytes that can be sorted.
CONTENT = np.dtype("S48")
Contents = NDArray[np.bytes_]
Numbers = NDArray[np.int64]


@lru_cache(maxsize=1024)
def file_digest(path: Path, size: int, mtime_ns: int) -> bytes:
    """SHA-256 of a file's bytes; remembered while size and time of change stay, for files of many utterances."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def default_file_name(
    corpus: str,
    spec: Spec,
    crop: float | None,
    default_spec: Spec | None,
    default_crop: float | None,
    store_dtype: str = "fp32",
) -> str:
    """Name the features file of a corpus and an encoder.

    Parameters
    ----------
    corpus : str
        Name of the corpus.
    spec, crop
        The encoder's spec and ``max_duration`` (seconds).
    default_spec, default_crop
        What they are when nothing is chosen (a spec of None is not known, so `spec` is not it); any others add 8 hex
        digits of their digest to the name.
    store_dtype : str
        Any other than fp32 is added to the name.

    Returns
    -------
    str
        For example ``librispeech_features_audiosep.pt``.
    """
    suffix = ""
    if crop != default_crop or default_spec is None or spec_differences(spec, default_spec):
        suffix = "_" + spec_digest({**spec, "crop": crop})[:8]
    if store_dtype != "fp32":
        suffix += f"_{store_dtype}"
    return f"{corpus}_features_{spec['name']}{suffix}.pt"


def check_same_origin(
    path: Path, stored: FeatureSet | Block, spec: Spec, crop: float | None, dtype: torch.dtype = torch.float32
) -> None:
    """Refuse stored features of another encoder, layer, pooling, weights, crop or type, by name.

    Raises
    ------
    FeaturesError
        What the file has, what was asked, and how to go on.
    """
    differences = spec_differences(stored.encoder, spec)
    if stored.audio is None:
        differences = differences or ["it does not say which audio it was made from"]
    elif stored.audio.crop != crop:
        differences.append(f"max_duration is {stored.audio.crop!r} there, {crop!r} here")
    if stored.features.dtype != dtype:
        differences.append(f"store_dtype is {stored.features.dtype} there, {dtype} here")
    if differences:
        raise FeaturesError(
            f"{path}: these features cannot be continued with the encoder {spec['name']!r}: {'; '.join(differences)}. "
            "Give another --features_path, the settings of the file, or delete the file."
        )
    advice = " Those that are stored are kept; to compute all of them anew, give another --features_path."
    warn_of_precision(f"{path}: the features", stored.encoder, spec, advice)


def warn_of_precision(what: str, there: Spec, here: Spec, advice: str = "") -> None:
    """Tell that vectors were computed in another precision: they differ a little, and no more."""
    if there.get("precision") != here.get("precision"):
        found, wanted = there.get("precision"), here.get("precision")
        logger.warning(
            "%s were computed in %s, now it is %s; such vectors differ a little.%s", what, found, wanted, advice
        )


def merged_precision(specs: Sequence[Spec]) -> str:
    """Name the precisions of rows that were computed at several times: ``fp32``, or ``bf16+fp32``."""
    return "+".join(sorted({part for spec in specs for part in str(spec.get("precision")).split("+")}))


class StoredRows:
    """Finds stored rows by the content that they were computed from.

    Attributes
    ----------
    blocks : list of Block
        Where rows are; `find` gives numbers into it.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = list(blocks)
        keys = [keys_of(block.audio) for block in self.blocks]
        lengths = [len(block) for block in self.blocks]
        everything = np.concatenate([np.empty(0, CONTENT), *keys])
        order = np.argsort(everything, kind="stable")
        self._keys = everything[order]
        self._block = np.repeat(np.arange(len(lengths)), lengths)[order]
        self._row = np.concatenate([np.empty(0, np.int64), *map(np.arange, lengths)])[order]

    def find(self, keys: Contents) -> tuple[Numbers, Numbers]:
        """Return the block of each key and the row within it, both (n,), -1 where there is none."""
        if not len(self._keys):
            return np.full(len(keys), -1), np.full(len(keys), -1)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found = self._keys[places] == keys
        return np.where(found, self._block[places], -1), np.where(found, self._row[places], -1)


def content_keys(digests: NDArray[np.uint8], starts: NDArray[np.float64], durations: NDArray[np.float64]) -> Contents:
    """Join the digest of each file (n, 32) with the span in it (seconds, (n,); NaN is to its end) into a key."""
    spans = np.stack([starts, np.nan_to_num(durations, nan=-1.0)], axis=1) + 0.0  # no negative zeros
    joined = np.ascontiguousarray(np.concatenate([digests, spans.view(np.uint8).reshape(-1, 16)], axis=1))
    return joined.view(CONTENT).reshape(-1)


def keys_of(audio: AudioProvenance) -> Contents:
    """Return the keys of rows."""
    return content_keys(audio.digest.numpy(), audio.start.numpy(), audio.duration.numpy())
