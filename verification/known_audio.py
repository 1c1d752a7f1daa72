"""Find recordings that a store has already in other bytes, such as a FLAC file of a recording that was a WAV file."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from embedding import Row
from features import SAME_LENGTH, AudioIndex, number_vectors
from verification.enrolment import Recording, recording_name
from verification.store_rows import StoreRows

# Maximum number of recordings that are named in the warning that they are enrolled.
SHOWN = 10

logger = logging.getLogger(__name__)


def with_known_digests(rows: StoreRows, recordings: Sequence[Recording]) -> list[Recording]:
    """Return recordings; those of the same audio as a stored or an earlier recording have its digest.

    Two recordings are of the same audio if their lengths are equal, and their vectors are equal except for rounding.
    The caller must have opened a transaction.

    Raises
    ------
    StoreError
        A stored vector is damaged.
    """
    if not recordings or any(each.vector.shape != recordings[0].vector.shape for each in recordings):
        return list(recordings)
    vectors = torch.stack([each.vector.float() for each in recordings])
    lengths = torch.tensor([each.seconds for each in recordings])
    numbers = number_vectors(vectors, lengths)
    first = np.unique(numbers, return_index=True)[1]
    index = AudioIndex(vectors[first], lengths[first])
    digests: dict[int, bytes] = {}
    for number, digest in _stored(rows, index, lengths):
        digests.setdefault(number, digest)
    return [
        each if rows.owner(each.digest) is not None else replace(each, digest=digests.setdefault(number, each.digest))
        for each, number in zip(recordings, numbers.tolist(), strict=True)
    ]


def warn_of_enrolled(rows: StoreRows, names: Sequence[str], vectors: Tensor, *, lengths: Tensor) -> None:
    """Log which recordings a speaker is enrolled with: their scores are no evidence about the speaker.

    The caller must have opened a transaction.

    Parameters
    ----------
    rows : StoreRows
    names : sequence of str
        Names of the recordings to identify.
    vectors : Tensor (n, D)
    lengths : Tensor (n,)
        Seconds; 0 or NaN if not known.
    """
    found: dict[int, str] = {}
    for number, digest in _stored(rows, AudioIndex(vectors, lengths), lengths):
        if owner := rows.owner(digest):  # a background recording has no owner
            found.setdefault(number, owner)
    for number in sorted(found)[:SHOWN]:
        logger.warning(
            "%s: the same audio: %s is enrolled with this recording, so the result is no evidence about the speaker.",
            names[number], found[number],
        )  # fmt: skip
    if len(found) > SHOWN:
        logger.warning("%d more recordings are of the same audio as an enrolled one.", len(found) - SHOWN)


def warn_of_enrolled_rows(rows: StoreRows, embedded: Sequence[Row]) -> None:
    """Log which recordings a speaker is enrolled with, as `warn_of_enrolled` does; those without a vector are ignored.

    The caller must have opened a transaction.
    """
    found = [(recording_name(row.utterance), row.vector, row.seconds) for row in embedded if row.vector is not None]
    if found:
        names, vectors, seconds = zip(*found, strict=True)
        warn_of_enrolled(rows, names, torch.stack(vectors), lengths=torch.tensor(seconds))


def _stored(rows: StoreRows, index: AudioIndex, lengths: Tensor) -> Iterator[tuple[int, bytes]]:
    """Yield rows of an index, of recordings of some lengths (n,), with the digests of stored recordings they equal."""
    known = lengths.nan_to_num()
    shortest, longest = float(known.min()) - 2 * SAME_LENGTH, float(known.max()) + 2 * SAME_LENGTH
    for digests, seconds, vectors in rows.of_lengths(shortest, longest):
        for row, number in zip(*index.pairs(vectors, seconds), strict=True):
            yield int(number), digests[row]
