"""What is kept of the recordings that a speaker is enrolled by."""

import hashlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audio import InputError
from features import FeatureSet, Row, file_digest
from verification.verifier import SHORTEST

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Recording:
    """What is kept of a recording: never the audio.

    Attributes
    ----------
    path : str
        Where it was.
    digest : bytes
        SHA-256 of what was heard, by which no recording is enrolled twice.
    seconds : float
        Of audio that was heard (0 where unknown).
    vector : Tensor (D,)
        float32, as the encoder gave it.
    """

    path: str
    digest: bytes
    seconds: float
    vector: Tensor

    @classmethod
    def of(cls, row: Row) -> "Recording":
        """Make it of a whole file that was heard.

        Raises
        ------
        InputError
            It was not heard, or is gone since.
        """
        path = row.utterance.path
        if row.vector is None:
            raise InputError(f"{path}: {row.error}")
        try:
            status = path.stat()
            digest = file_digest(path, status.st_size, status.st_mtime_ns)
        except OSError as error:
            raise InputError(f"{path}: cannot be read again ({error.strerror}). Nobody was enrolled.") from error
        return cls(str(path), digest, row.seconds, row.vector)


@dataclass(frozen=True)
class Enrolled:
    """A speaker in the store.

    Attributes
    ----------
    name : str
    n_recordings : int
    seconds : float
        Of audio in these (0 where unknown).
    changed : str
        When the speaker was last enrolled, UTC.
    """

    name: str
    n_recordings: int
    seconds: float
    changed: str


def recordings_of(features: FeatureSet) -> Iterator[tuple[str, list[Recording]]]:
    """Yield each speaker of a set of features (N, D), with all recordings that are long enough."""
    short = features.durations < SHORTEST - 1e-3
    if bool(short.any()):
        logger.warning("%d recordings of less than %g s are left out.", int(short.sum()), SHORTEST)
        features = features.select(~short.numpy())
    order = torch.argsort(features.labels, stable=True)
    speakers, sizes = torch.unique_consecutive(features.labels[order], return_counts=True)
    for speaker, rows in zip(speakers.tolist(), torch.split(order, sizes.tolist()), strict=True):
        yield features.speakers[speaker], [_recording(features, row) for row in rows.tolist()]


def _recording(features: FeatureSet, row: int) -> Recording:
    audio, vector = features.audio, features.features[row]
    if audio is None:
        digest = hashlib.sha256(vector.float().numpy().astype("<f4").tobytes()).digest()
    else:
        digest = audio.digest[row].numpy().tobytes()
        start, duration = float(audio.start[row]), float(audio.duration[row])
        if start or not math.isnan(duration):  # a part of a file
            digest = hashlib.sha256(digest + np.array([start, duration], "<f8").tobytes()).digest()
    seconds = float(features.durations[row])
    return Recording(features.ids[row], digest, 0.0 if math.isnan(seconds) else seconds, vector)
