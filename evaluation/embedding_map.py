"""Project embeddings to two dimensions, for the report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from features import FeatureSet
from files import PathLike, write_csv
from heads import SpeakerClassifier, WeightedHead

# Maximum number of recordings on a map.
MAX_ROWS = 2_500
# Dimensions of the vectors that t-SNE receives, and its number of steps.
DIMENSIONS = 30
STEPS = 400


def save_embedding_map(
    path: PathLike, classifier: SpeakerClassifier, sets: FeatureSet | Sequence[FeatureSet], *, seed: int = 0
) -> Path:
    """Write the coordinates of recordings by PCA and by t-SNE, after the classifier's scaler, to a CSV file.

    A random subset is used if there are more than `MAX_ROWS` recordings.

    Parameters
    ----------
    path : path-like
    classifier : SpeakerClassifier
        The encoder and layer of its first member are used.
    sets : FeatureSet, or a sequence of them
        Sets that it was trained on.
    seed : int
        Random seed of the subset and of t-SNE.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    member = classifier.members[0]
    given = [sets] if isinstance(sets, FeatureSet) else sets
    features = member.view(min(given, key=member.distance))
    rows = np.sort(np.random.default_rng(seed).permutation(len(features))[:MAX_ROWS])
    scaled = member.scaler.transform(features.features[rows])
    if scaled.ndim == 3:  # average the layers, with the head's weights if it has some
        weights = torch.full(scaled.shape[1:2], 1 / scaled.shape[1])
        if isinstance(member.head, WeightedHead):
            weights = member.head.layer_weights_
        scaled = torch.einsum("l,nld->nd", weights, scaled)
    vectors = scaled.double().numpy()
    pca, tsne = project_pca(vectors), project_tsne(vectors, seed)
    records = [
        {
            "id": features.ids[row],
            "speaker": features.speakers[int(features.labels[row])],
            "pca_x": float(pca[number, 0]),
            "pca_y": float(pca[number, 1]),
            "tsne_x": float(tsne[number, 0]),
            "tsne_y": float(tsne[number, 1]),
        }
        for number, row in enumerate(rows.tolist())
    ]
    return write_csv(path, records)


def project_pca(vectors: NDArray[np.float64], dim: int = 2) -> NDArray[np.float64]:
    """Project vectors (n, D) onto the directions of the largest variance: (n, dim), padded with zeros if D < dim."""
    from sklearn.decomposition import PCA  # here, because it takes a third of a second to import

    if not float(np.ptp(vectors, axis=0).max(initial=0.0)) > 0:  # all equal: PCA would divide by zero
        return np.zeros((len(vectors), dim))
    projected = PCA(min(dim, *vectors.shape), random_state=0).fit_transform(vectors)
    padded: NDArray[np.float64] = np.pad(projected, ((0, 0), (0, dim - projected.shape[1])))
    return padded


def project_tsne(vectors: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Project vectors (n, D) to two dimensions by t-SNE (van der Maaten and Hinton, 2008): (n, 2)."""
    from sklearn.manifold import TSNE  # here, because it takes a third of a second to import

    reduced = project_pca(vectors, DIMENSIONS)
    if len(vectors) < 3 or not float(reduced.std()) > 1e-12:  # t-SNE would divide by zero
        return reduced[:, :2]
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed, max_iter=STEPS)
    projected: NDArray[np.float64] = tsne.fit_transform(reduced).astype(np.float64)
    return projected
