"""Recordings that a speaker is enrolled with, and the entries of the list of enrolled speakers."""

import hashlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from corpora import Utterance
from embedding import Row
from features import MEAN_CHANNEL, FeatureSet
from files import InputError, count_of, fields_repr, file_digest, normal_form
from verification.verifier import MIN_SECONDS

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Recording:
    """A recording that a speaker is enrolled with. The audio is not kept.

    Attributes
    ----------
    path : str
        Path of the file when it was enrolled, plus ``#start-duration`` for a segment and ``#channelN`` for a channel.
    digest : bytes
        SHA-256 digest of the content, for a part of a file with its times and channel, which prevents enrolling a
        recording twice.
    seconds : float
        Length of the audio that was embedded (seconds); 0 if not known.
    vector : Tensor (D,)
        float32, embedding from the encoder.
    """

    path: str
    digest: bytes
    seconds: float
    vector: Tensor

    __repr__ = fields_repr

    @classmethod
    def of(cls, row: Row) -> "Recording":
        """Make a recording from the row of a file, or of a segment of a file.

        Raises
        ------
        InputError
            The file has no embedding, or cannot be read again.
        """
        utterance, path = row.utterance, row.utterance.path
        if row.vector is None:
            raise InputError(f"{path}: {row.error}")
        try:
            status = path.stat()
            digest = file_digest(path, status.st_size, status.st_mtime_ns)
        except OSError as error:
            raise InputError(
                f"{path}: the file was embedded, but can no longer be read ({error.strerror}). No speaker was enrolled."
            ) from error
        digest = _digest_of_part(digest, utterance.start, utterance.duration, channel=utterance.channel)
        return cls(path=recording_name(utterance), digest=digest, seconds=row.seconds, vector=row.vector)


@dataclass(frozen=True)
class Enrolled:
    """A speaker in the store.

    Attributes
    ----------
    name : str
    n_recordings : int
    seconds : float
        Total length of the recordings (seconds); recordings of unknown length count as 0.
    changed : str
        Time of the last enrolment (UTC).
    """

    name: str
    n_recordings: int
    seconds: float
    changed: str


def recording_name(utterance: Utterance) -> str:
    """Return the path of an utterance as it was given, with what its id has for a segment or a channel."""
    return str(utterance.path.parent / replace(utterance, root=utterance.path.parent).id)


def is_too_short(features: FeatureSet) -> Tensor:
    """Return a bool mask (N,) of the recordings that are too short to enrol a speaker with."""
    return features.durations < MIN_SECONDS - 1e-3  # resampling rounds the length


def recordings_of(features: FeatureSet) -> Iterator[tuple[str, list[Recording]]]:
    """Yield each speaker of a set of features (N, D) with the recordings; skip recordings that are too short."""
    short = is_too_short(features)
    if bool(short.any()):
        logger.warning("Skipped %s shorter than %g s.", count_of(int(short.sum()), "recording"), MIN_SECONDS)
        features = features.select(~short.numpy())
    order = torch.argsort(features.labels, stable=True)
    speakers, sizes = torch.unique_consecutive(features.labels[order], return_counts=True)
    for speaker, rows in zip(speakers.tolist(), torch.split(order, sizes.tolist()), strict=True):
        yield normal_form(features.speakers[speaker]), [_recording(features, row) for row in rows.tolist()]


def _recording(features: FeatureSet, row: int) -> Recording:
    """Make a recording from a row of a set of features."""
    audio, vector = features.audio, features.features[row]
    if audio is None:
        digest = hashlib.sha256(vector.float().numpy().astype("<f4").tobytes()).digest()
    else:
        digest = audio.digest[row].numpy().tobytes()
        length, channel = float(audio.duration[row]), int(audio.channel[row])
        digest = _digest_of_part(
            digest,
            float(audio.start[row]),
            None if math.isnan(length) else length,
            channel=None if channel == MEAN_CHANNEL else channel,
        )
    seconds = float(features.durations[row])
    known = 0.0 if math.isnan(seconds) else seconds
    return Recording(path=features.ids[row], digest=digest, seconds=known, vector=vector)


def _digest_of_part(digest: bytes, start: float, duration: float | None, *, channel: int | None) -> bytes:
    """Return the digest of a segment or a channel of a file, given that of the file; of all of it, that is returned."""
    if start or duration is not None:
        times = np.array([start, math.nan if duration is None else duration], "<f8")
        digest = hashlib.sha256(digest + times.tobytes()).digest()
    return digest if channel is None else hashlib.sha256(digest + f"channel {channel}".encode()).digest()
