"""Find recordings that a store has already in other bytes, such as a FLAC file of a recording that was a WAV file."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from features import SAME_LENGTH, AudioIndex, number_vectors
from verification.enrolment import Recording
from verification.store_rows import StoreRows


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
    shortest, longest = float(lengths.min()) - 2 * SAME_LENGTH, float(lengths.max()) + 2 * SAME_LENGTH
    for stored, seconds, known in rows.of_lengths(shortest, longest):
        for row, number in zip(*index.pairs(known, seconds), strict=True):
            digests.setdefault(int(number), stored[row])
    return [
        each if rows.owner(each.digest) is not None else replace(each, digest=digests.setdefault(number, each.digest))
        for each, number in zip(recordings, numbers.tolist(), strict=True)
    ]
