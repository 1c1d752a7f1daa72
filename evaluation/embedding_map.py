"""Embeddings in two dimensions, to look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from evaluation.comparison import write_csv
from features import FeatureSet
from heads import SpeakerClassifier

# Rows that are drawn at most, dimensions that t-SNE is given, and its steps.
MOST_ROWS = 2_500
DIMENSIONS = 30
STEPS = 400


def save_embedding_map(path: Path, classifier: SpeakerClassifier, sets: Sequence[FeatureSet], seed: int = 0) -> Path:
    """Write a CSV file with the places of recordings by PCA and by t-SNE, as the classifier sees them scaled.

    Of many recordings some are taken at random.

    Parameters
    ----------
    path : Path
    classifier : SpeakerClassifier
        Whose first member's encoder and layer are shown.
    sets : sequence of FeatureSet
        That it was trained on.
    seed : int
        Of the choice, and of t-SNE.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    member = classifier.members[0]
    features = member.view(min(sets, key=member.distance))
    rows = np.sort(np.random.default_rng(seed).permutation(len(features))[:MOST_ROWS])
    scaled = member.scaler.transform(features.features[rows])
    if scaled.ndim == 3:  # a head that weighs the layers itself; they are shown by its shares
        shares = getattr(member.head, "layer_weights_", torch.full(scaled.shape[1:2], 1 / scaled.shape[1]))
        scaled = torch.einsum("l,nld->nd", shares, scaled)
    vectors = scaled.double().numpy()
    places = {"pca": by_pca(vectors), "tsne": by_tsne(vectors, seed)}
    labels = features.labels.tolist()
    records = [
        {
            "id": features.ids[row],
            "speaker": features.speakers[labels[row]],
            **{
                f"{name}_{axis}": float(place[number, k])
                for name, place in places.items()
                for k, axis in enumerate("xy")
            },
        }
        for number, row in enumerate(rows.tolist())
    ]
    return write_csv(path, records)


def by_pca(vectors: NDArray[np.float64], dim: int = 2) -> NDArray[np.float64]:
    """Project vectors (n, D) onto the directions of the largest variance: (n, dim), zeros where there are fewer."""
    if not float(np.ptp(vectors, axis=0).max(initial=0.0)) > 0:  # all the same, which PCA would divide by
        return np.zeros((len(vectors), dim))
    found = PCA(min(dim, *vectors.shape), random_state=0).fit_transform(vectors)
    places: NDArray[np.float64] = np.pad(found, ((0, 0), (0, dim - found.shape[1])))
    return places


def by_tsne(vectors: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Lay out vectors (n, D) so that neighbours stay neighbours (van der Maaten and Hinton, 2008): (n, 2)."""
    reduced = by_pca(vectors, DIMENSIONS)
    if len(vectors) < 3 or not float(reduced.std()) > 1e-12:  # nothing to lay out, which t-SNE would divide by
        return reduced[:, :2]
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed, max_iter=STEPS)
    places: NDArray[np.float64] = tsne.fit_transform(reduced).astype(np.float64)
    return places
