"""May stored vectors serve as those that are asked for, and under which name are they stored?"""

import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from corpora import Utterance
from encoders import Spec, spec_differences, spec_digest
from features.feature_set import FeaturesError, FeatureSet

logger = logging.getLogger(__name__)

# Digest of a file, start and duration (seconds) of the span in it.
Content = tuple[bytes, float, float | None]


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
    path: Path, stored: FeatureSet, spec: Spec, crop: float | None, dtype: torch.dtype = torch.float32
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
    """Finds a stored row by the content that it was computed from."""

    def __init__(self, sets: Sequence[FeatureSet]) -> None:
        self._sets = sets
        self._rows: dict[Content, tuple[int, int]] = {}
        self._digests: dict[str, tuple[int, int, bytes]] = {}
        for number, stored in enumerate(sets):
            audio = stored.audio
            assert audio is not None, "check_same_origin has refused sets without"
            marks = zip(stored.ids, audio.size.tolist(), audio.mtime_ns.tolist(), strict=True)
            for row, (key, (utterance_id, size, mtime_ns)) in enumerate(zip(content_keys(stored), marks, strict=True)):
                self._rows[key] = number, row
                self._digests[utterance_id] = size, mtime_ns, key[0]

    def digest(self, utterance_id: str, size: int, mtime_ns: int) -> bytes | None:
        """Return the digest of an utterance's file while its size and time of change are those that were stored."""
        stored = self._digests.get(utterance_id)
        return stored[2] if stored and stored[:2] == (size, mtime_ns) else None

    def vector(self, digest: bytes, utterance: Utterance) -> tuple[torch.Tensor, float] | None:
        """Return the vector and the seconds of audio of a span of the file with this digest, if they are stored."""
        found = self._rows.get((digest, utterance.start, utterance.duration))
        if found is None:
            return None
        stored = self._sets[found[0]]
        return stored.features[found[1]], float(stored.durations[found[1]])

    def unused(self, features: FeatureSet) -> list[list[int]]:
        """Return, for each of the sets, the rows whose content is neither in `features` nor in a set before it."""
        taken = set(content_keys(features))
        unused = []
        for stored in self._sets:
            keys = content_keys(stored)
            unused.append([row for row, key in enumerate(keys) if key not in taken])
            taken.update(keys)
        return unused


def content_keys(stored: FeatureSet) -> list[Content]:
    """Return what each row was computed from: the digest of its file, and the span."""
    audio = stored.audio
    assert audio is not None, "check_same_origin has refused sets without"
    digests = audio.digest.numpy().tobytes()
    spans = zip(audio.start.tolist(), audio.duration.tolist(), strict=True)
    return [
        (digests[32 * row : 32 * row + 32], start, None if duration != duration else duration)
        for row, (start, duration) in enumerate(spans)
    ]
