"""Provenance of stored rows: compare their settings with a request, find them by content, name their file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from corpora import Indices
from encoders import Encoder, LazyEncoder, Spec, default_spec, spec_differences, spec_digest, warn_of_precision
from features.feature_set import FeatureSet
from features.parts import Block
from features.row_columns import AudioProvenance
from features.set_checks import FeaturesError

# Key of a row: the digest of its file, start and duration (seconds) of the span in it, and the channel, as bytes that
# can be sorted.
CONTENT_KEY = np.dtype("S56")
ContentKeys = NDArray[np.bytes_]


def default_file_name(
    corpus: str,
    encoder: Encoder | LazyEncoder,
    crop: float | None,
    *,
    store_dtype: str = "fp32",
    channel: int | None = None,
) -> str:
    """Return the default name of the features file of a corpus and an encoder.

    Parameters
    ----------
    corpus : str
        Name of the corpus.
    encoder : Encoder or LazyEncoder
        If its options, its weights or the crop are not the defaults, 8 hex digits of their digest are added to the
        name.
    crop : float or None
        Maximum length of the part of each utterance that is read (seconds); None for whole utterances.
    store_dtype : str
        ``fp32`` or ``fp16``; ``fp16`` is added to the name.
    channel : int, optional
        Channel of all recordings, if it is not the mean of all channels; it is added to the name.

    Returns
    -------
    str
        For example ``librispeech_features_audiosep.pt``.
    """
    spec = encoder.spec
    default = default_spec(spec["name"])
    if default is not None and default["weights"] is None:  # they are part of the encoder's code, and change with it
        default = {**default, "weights": spec["weights"]}
    suffix = ""
    if crop != encoder.max_duration or default is None or spec_differences(spec, default):
        suffix = "_" + spec_digest({**spec, "crop": crop})[:8]
    if channel is not None:
        suffix += f"_channel{channel}"
    if store_dtype != "fp32":
        suffix += f"_{store_dtype}"
    return f"{corpus}_features_{spec['name']}{suffix}.pt"


def check_same_origin(
    path: Path,
    stored: FeatureSet | Block,
    spec: Spec,
    *,
    crop: float | None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Refuse stored features as `refuse_other_origin` does, and warn of another precision.

    Raises
    ------
    FeaturesError
        The message lists the differences, and what to do.
    """
    refuse_other_origin(path, stored, spec, crop=crop, dtype=dtype)
    warn_of_precision(
        f"{path}: the features",
        stored.encoder,
        spec,
        advice=" The stored rows are kept. To recompute them, give another --features_path.",
    )


def refuse_other_origin(
    path: Path, stored: FeatureSet | Block, spec: Spec, *, crop: float | None, dtype: torch.dtype
) -> None:
    """Refuse stored features of another encoder, layer, pooling, weights, crop or type.

    Raises
    ------
    FeaturesError
        The message lists the differences, and what to do.
    """
    differences = spec_differences(stored.encoder, spec)
    if stored.audio is None:
        differences = differences or ["the file does not record which audio it was computed from"]
    elif stored.audio.crop != crop:
        differences.append(f"max_duration is {stored.audio.crop!r} there, {crop!r} here")
    if stored.features.dtype != dtype:
        differences.append(f"store_dtype is {stored.features.dtype} there, {dtype} here")
    if differences:
        raise FeaturesError(
            f"{path}: these features cannot be continued with the encoder {spec['name']!r}: {'; '.join(differences)}. "
            "Give another --features_path, the settings of the file, or delete the file."
        )


def merged_precision(specs: Sequence[Spec]) -> str:
    """Return the precisions of rows that were computed in several runs, such as ``fp32`` or ``bf16+fp32``."""
    return "+".join(sorted({part for spec in specs for part in str(spec.get("precision")).split("+")}))


class StoredRows:
    """Index of stored rows by the content that they were computed from.

    Attributes
    ----------
    blocks : list of Block
        Blocks of rows, in the order in which `find` numbers them.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = list(blocks)
        keys = [keys_of(block.audio) for block in self.blocks]
        lengths = [len(block) for block in self.blocks]
        joined = np.concatenate([np.empty(0, CONTENT_KEY), *keys])
        order = np.argsort(joined, kind="stable")
        self._keys = joined[order]
        self._block = np.repeat(np.arange(len(lengths)), lengths)[order]
        self._row = np.concatenate([np.empty(0, np.int64), *map(np.arange, lengths)])[order]

    def find(self, keys: ContentKeys) -> tuple[Indices, Indices]:
        """Return the block of each key, and the row within the block, both (n,); -1 if the key is not stored."""
        if not len(self._keys):
            return np.full(len(keys), -1), np.full(len(keys), -1)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found = self._keys[places] == keys
        return np.where(found, self._block[places], -1), np.where(found, self._row[places], -1)


def content_keys(
    digests: NDArray[np.uint8], starts: NDArray[np.float64], durations: NDArray[np.float64], *, channels: Indices
) -> ContentKeys:
    """Return the key of each row: the digest of its file, the span in the file, and the channel.

    Parameters
    ----------
    digests : ndarray (n, 32)
        uint8, SHA-256 of each file.
    starts, durations : ndarray (n,)
        float64, span in each file (seconds); a NaN duration means to the end of the file.
    channels : ndarray (n,)
        int64, channel of each file; `MEAN_CHANNEL` for the mean of all.
    """
    spans = np.stack([starts, np.nan_to_num(durations, nan=-1.0), channels], axis=1) + 0.0  # turns -0.0 into 0.0
    joined = np.ascontiguousarray(np.concatenate([digests, spans.view(np.uint8).reshape(-1, 24)], axis=1))
    return joined.view(CONTENT_KEY).reshape(-1)


def keys_of(audio: AudioProvenance) -> ContentKeys:
    """Return the keys of rows, from their provenance."""
    digests, starts, durations = audio.digest.numpy(), audio.start.numpy(), audio.duration.numpy()
    return content_keys(digests, starts, durations, channels=audio.channel.numpy())
