"""Find rows of the same audio, also if it is stored in other bytes, such as a WAV and a FLAC file of a recording."""

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from corpora import Indices
from features.feature_set import FeatureSet
from features.provenance import keys_of

# Maximum distance of two vectors of the same audio, as a share of the norm; of two numbers in vectors whose columns are
# not standardised, as a share of the number and of the median number. WAV and FLAC of a recording have equal
# vectors; another batch changes them by about 1e-6, half precision by at most 2**-11 = 4.9e-4. On LibriSpeech
# dev-clean, the closest two utterances of one speaker are 0.17 apart with campplus, 0.05 with spectral and 0.14 with
# scratch. Copies in MP3, Vorbis or Opus are 0.001 to 1.2 from their originals, so no bound separates them from other
# utterances, and they are not found.
SAME_AUDIO = 1e-3
# Maximum difference in length of the same audio (seconds): that of rounding.
SAME_LENGTH = 1e-3
# Number of projections in which vectors are searched, and maximum number of candidates for each.
N_PROJECTIONS, N_CANDIDATES = 8, 8
# Number of rows that are read at a time.
BLOCK = 8_192
# Number of rows that give the scales of the columns; and the smallest scale, as a share of the column's values.
SAMPLED_ROWS, MIN_SCALE = 10_000, 1e-5


class AudioIndex:
    """Vectors in which those of the same audio as other vectors are searched.

    Equal vectors have equal projections, so a tree of a few projections gives the candidates. The time grows with the
    number of vectors, not with the number of pairs.

    Parameters
    ----------
    vectors : Tensor (n, D)
    lengths : Tensor (n,)
        Seconds; 0 or NaN if not known. Vectors without lengths are of the same audio only if they are exactly equal.
    is_standardised : bool
        Whether the columns are on one scale, so that the distance of two vectors is enough to compare them.
    """

    def __init__(self, vectors: Tensor, lengths: Tensor, *, is_standardised: bool = False) -> None:
        self._vectors, self._lengths, self._is_standardised = vectors, lengths.nan_to_num(), is_standardised
        self._tree = cKDTree(np.concatenate([_project(block) for block in torch.split(vectors, BLOCK)]))

    def pairs(self, vectors: Tensor, lengths: Tensor) -> tuple[Indices, Indices]:
        """Return pairs of the same audio: rows of `vectors` (m, D) and rows of the index, each (n_pairs,)."""
        pairs = []
        for start in range(0, len(vectors), BLOCK):
            own, other = self._pairs(vectors[start : start + BLOCK], lengths[start : start + BLOCK])
            pairs.append(np.stack([start + own, other]))
        own, other = np.concatenate(pairs, axis=1)
        return own, other

    def _pairs(self, vectors: Tensor, lengths: Tensor) -> tuple[Indices, Indices]:
        bounds = np.where(is_of_audio(vectors).numpy(), SAME_AUDIO * vectors.double().norm(dim=1).numpy(), -1.0)
        count = min(N_CANDIDATES, self._tree.n)
        farthest = 1.001 * max(bounds.max(), 0.0) + 1e-12  # the bound of the search is not included
        apart, near = self._tree.query(_project(vectors), count, distance_upper_bound=farthest)
        own, rank = np.isfinite(apart.reshape(-1, count)).nonzero()
        other = near.reshape(-1, count)[own, rank].astype(np.int64)
        one, two = vectors[own].double(), self._vectors[other].double()
        distances = (one - two).norm(dim=1).numpy()
        known, of_index = lengths.nan_to_num()[own], self._lengths[other]
        same = (distances <= bounds[own]) & ((known - of_index).abs() <= SAME_LENGTH).numpy()
        same &= (distances == 0) | ((known > 0) & (of_index > 0)).numpy()
        if not self._is_standardised:
            same &= _differ_by_rounding(one, two).numpy()
        return own[same].astype(np.int64), other[same]


def is_of_audio(vectors: Tensor) -> Tensor:
    """Return a bool mask (n,) of the vectors (n, D) that stand for audio: those without NaN or infinity that vary.

    Zeros, for example, stand for a recording that could not be embedded.
    """
    return torch.isfinite(vectors).all(dim=1) & (vectors != vectors[:, :1]).any(dim=1)


def has_same_audio(vector: Tensor, others: Tensor) -> bool:
    """Return whether an embedding (D,) is that of the same audio as one of the embeddings (n, D).

    A lossless copy of the audio has the same embedding, except for rounding. Two recordings of a voice do not.
    """
    return bool(_differ_by_rounding(vector.double(), others.double()).any())


def _differ_by_rounding(one: Tensor, other: Tensor) -> Tensor:
    """Return a bool mask (n,) of the vectors (n, D) whose numbers each differ by rounding only.

    Each number has a bound of its own. The norm would be that of the largest numbers, such as a column that is nearly
    constant, and hide the differences in all others.
    """
    size = one.abs()
    bounds = SAME_AUDIO * (size + size.median(dim=-1, keepdim=True).values)
    return ((one - other).abs() <= bounds).all(dim=-1)


def audio_numbers(*sets: FeatureSet) -> tuple[Indices, ...]:
    """Return a number for each row of some sets, each (N,); rows of the same audio have the same number, in all sets.

    Two rows are of the same audio if their files have the same bytes, span and channel, or if their lengths are equal
    and their vectors are equal except for rounding. Vectors whose lengths are not known have to be exactly equal. The
    columns of the vectors are standardised before, so that a column of large numbers does not hide the differences in
    others. With several layers, the last is compared.

    Parameters
    ----------
    *sets : FeatureSet
        Sets of the same encoder.
    """
    vectors = torch.cat([each.features if each.features.ndim == 2 else each.features[:, -1] for each in sets])
    lengths = torch.cat([each.durations for each in sets]).nan_to_num()
    own, other = _same_vectors(vectors, lengths, standardised=True)
    links = [(own, other)]
    provenance = [each.audio for each in sets if each.audio is not None]
    if len(provenance) == len(sets):
        numbers, first = _number_equal(np.concatenate([keys_of(audio) for audio in provenance]))
        links.append((np.arange(len(vectors)), first[numbers]))
    own, other = (np.concatenate(side) for side in zip(*links, strict=True))
    joined = _join(len(vectors), own, other)
    return tuple(np.split(joined, np.cumsum([len(each) for each in sets])[:-1]))


def without_copies(features: FeatureSet) -> FeatureSet:
    """Return the first row of each audio."""
    first = np.unique(audio_numbers(features)[0], return_index=True)[1]
    return features if len(first) == len(features) else features.select(np.sort(first))


def number_vectors(vectors: Tensor, lengths: Tensor) -> Indices:
    """Return a number for each vector (n, D) of lengths (n,), as `audio_numbers`, but without standardised columns."""
    return _join(len(vectors), *_same_vectors(vectors, lengths.nan_to_num(), standardised=False))


def _same_vectors(vectors: Tensor, lengths: Tensor, *, standardised: bool) -> tuple[Indices, Indices]:
    """Return pairs of rows (n_pairs,) whose lengths are equal, and whose vectors are equal except for rounding."""
    usable = is_of_audio(vectors).numpy().nonzero()[0]
    # Equal rows are joined first: the search for the others is limited to a few candidates.
    numbers, first = _number_equal(_row_digests(vectors[usable], lengths[usable]))
    equal, first = usable[first][numbers], usable[first]
    if not len(first):
        return first, first
    kept, of_kept = vectors[first], lengths[first]
    kept = _standardise(kept) if standardised else kept
    own, other = AudioIndex(kept, of_kept, is_standardised=standardised).pairs(kept, of_kept)
    return np.concatenate([usable, first[own]]), np.concatenate([equal, first[other]])


def _standardise(vectors: Tensor) -> Tensor:
    """Return vectors (n, D) with columns of mean 0 and deviation 1, except for columns that vary by rounding only."""
    sample = vectors[:: -(-len(vectors) // SAMPLED_ROWS)].double()
    mean, scales = sample.mean(dim=0), sample.std(dim=0, correction=0)
    scales = torch.maximum(scales, MIN_SCALE * sample.abs().mean(dim=0))
    scales[scales == 0] = 1
    return torch.cat([((block - mean) / scales).float() for block in torch.split(vectors, BLOCK)])


def _join(n: int, own: Indices, other: Indices) -> Indices:
    """Return the number of the group of each of n items (n,), which pairs of items (n_pairs,) join."""
    links = coo_matrix((np.ones(len(own), np.int8), (own, other)), shape=(n, n))
    joined: Indices = connected_components(links, directed=False)[1].astype(np.int64)
    return joined


def _row_digests(vectors: Tensor, lengths: Tensor) -> NDArray[np.int64]:
    """Return a digest of the vector and the length of each row (n,)."""
    digests = [
        hashlib.blake2b(vector.tobytes() + length.tobytes(), digest_size=8).digest()
        for vector, length in zip(vectors.contiguous().numpy(), lengths.numpy(), strict=True)
    ]
    return np.frombuffer(b"".join(digests), np.int64)


def _number_equal(keys: NDArray[Any]) -> tuple[Indices, Indices]:
    """Return the numbers of keys (n,), equal ones for equal keys, and the first row of each number."""
    _, first, numbers = np.unique(keys, return_index=True, return_inverse=True)
    return numbers.reshape(-1), first


def _project(vectors: Tensor) -> NDArray[np.float64]:
    """Return at most `N_PROJECTIONS` orthogonal projections (n, K) of vectors (n, D), those of others as zeros."""
    rows = vectors.double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).numpy()
    if rows.shape[1] <= N_PROJECTIONS:
        return rows
    directions = np.linalg.qr(np.random.default_rng(0).standard_normal((rows.shape[1], N_PROJECTIONS)))[0]
    projected: NDArray[np.float64] = rows @ directions
    return projected
