"""Backends, which score pairs of embeddings, and score embeddings against models of speakers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from encoders import Spec, spec_differences
from features import FeatureSet
from files import InputError, count_of, load_choice
from heads import ClassStatistics, PLDAHead, create_head, create_scaler
from verification.shrinkage import choose_shrinkage

# Number of trials that are scored at a time, which limits memory use.
BLOCK = 65_536


class BackendError(InputError):
    """A backend does not exist, or cannot be trained or used on these features."""


class Backend(ABC):
    """Base class of backends: `embed` maps embeddings once, and the other methods score mapped embeddings.

    A higher score means more similar.

    Parameters
    ----------
    name : str
        Name in `BACKENDS`.

    Attributes
    ----------
    is_trained : bool
        Whether this kind of backend learns from features.
    speakers_ : tuple of str
        Training speakers. Trials with these speakers are refused.
    encoder_ : dict or None
        Spec of the encoder that the training vectors come from.
    """

    is_trained = True
    speakers_: tuple[str, ...] = ()
    encoder_: Spec | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, features: FeatureSet) -> Self:
        """Train on the speakers of a set of features (N, D); return the backend.

        Raises
        ------
        InputError
            The backend cannot be trained on these features.
        """
        rows = check_vectors(features)
        if self.is_trained:
            self.speakers_ = tuple(sorted({features.speakers[label] for label in features.labels.tolist()}))
            self.encoder_ = features.encoder
            self._learn(rows, torch.unique(features.labels, return_inverse=True)[1])
        return self

    @abstractmethod
    def _learn(self, rows: Tensor, targets: Tensor) -> None:
        """Train on rows (N, D) of speakers (N,), numbered from 0."""

    @abstractmethod
    def embed(self, rows: Tensor) -> Tensor:
        """Map embeddings (n, D) to (n, K)."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the learned tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Self:
        """Set the learned tensors; return the backend."""
        return self

    def score_pairs(self, one: Tensor, other: Tensor) -> Tensor:
        """Score pairs of mapped rows (n, K) and (n, K); return (n,)."""
        return (one * other).sum(1)

    def score_all(self, enrolled: Tensor, probes: Tensor) -> Tensor:
        """Score all mapped rows (n, K) against all mapped rows (m, K); return (n, m)."""
        return enrolled @ probes.T

    def combine(self, rows: Tensor) -> Tensor:
        """Return the model (K,) of a speaker for mapped recordings (n, K); by default their normalised mean."""
        return normalize(rows.mean(0), dim=0)

    def score_speakers(self, probes: Tensor, models: Tensor, counts: Tensor) -> Tensor:
        """Score all mapped rows (m, K) against all models (N, K); return (m, N).

        `counts` (N,) holds the number of recordings in each model. A model of a single recording gets the same scores
        as the recording itself.
        """
        return probes @ models.T

    def score_trials(
        self, features: FeatureSet, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Score pairs of rows of a set of features: row ``first[i]`` with row ``second[i]``.

        Raises
        ------
        BackendError
            The backend was trained on one of the speakers or on vectors of another encoder, or an utterance does not
            have exactly one finite vector.
        """
        used = features.labels[torch.from_numpy(np.union1d(first, second))]
        self.check_speakers({features.speakers[label] for label in used.tolist()})
        differences = [] if self.encoder_ is None else spec_differences(features.encoder, self.encoder_)
        if differences:
            raise BackendError(
                f"The backend {self.name!r} was trained on vectors of another encoder: {'; '.join(differences)}. Train "
                "it on features of the same encoder."
            )
        mapped = self.embed(check_vectors(features))
        scores = np.empty(len(first), np.float32)
        for start in range(0, len(first), BLOCK):
            one, other = (torch.from_numpy(side[start : start + BLOCK]) for side in (first, second))
            scores[start : start + BLOCK] = self.score_pairs(mapped[one], mapped[other]).numpy()
        return scores

    def check_speakers(self, speakers: set[str]) -> None:
        """Raise an error if the backend was trained on any of these speakers.

        Raises
        ------
        BackendError
        """
        known = sorted(speakers & set(self.speakers_))
        if known:
            shown = ", ".join(known[:3]) + (", ..." if len(known) > 3 else "")
            raise BackendError(
                f"The backend {self.name!r} was trained on {len(known)} of the speakers in the trials ({shown}), so "
                "the error rates would be too low. Train it on other speakers."
            )


class CosineBackend(Backend):
    """Cosine similarity of two embeddings."""

    is_trained = False

    def _learn(self, rows: Tensor, targets: Tensor) -> None:
        """Do nothing: the cosine has no parameters."""

    def embed(self, rows: Tensor) -> Tensor:
        exact = rows.double()  # in float32, squares of very large and very small numbers overflow or vanish
        return normalize(exact, dim=1, eps=1e-300).float()


class WhitenBackend(Backend):
    """Cosine after whitening by the covariance of all recordings."""

    def _learn(self, rows: Tensor, targets: Tensor) -> None:
        self.scaler_ = create_scaler("whiten").fit(rows)

    def embed(self, rows: Tensor) -> Tensor:
        return normalize(self.scaler_.transform(rows), dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.scaler_.mean_, "scale": self.scaler_.scale_}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Self:
        self.scaler_ = create_scaler("whiten").load_state_dict(state)
        return self


class ProjectedBackend(Backend):
    """Base class of backends that are the cosine after a linear map.

    The map depends on the covariance within speakers, which is shrunk towards a multiple of the identity. The shrinkage
    is chosen on training speakers that are left out in turn (`verification.shrinkage`).
    """

    projection_name = "projection"  # name of the map in the state

    def _learn(self, rows: Tensor, targets: Tensor) -> None:
        statistics = ClassStatistics.of(rows, targets)
        self._project(statistics, 0.0)  # raises an error if the backend cannot be trained
        self.shrinkage_ = choose_shrinkage(rows, targets, self._project)
        self.mean_, self.projection_ = self._project(statistics, self.shrinkage_)

    @staticmethod
    @abstractmethod
    def _project(statistics: ClassStatistics, shrinkage: float) -> tuple[Tensor, Tensor]:
        """Return the mean (D,) that is subtracted, and the map (D, K)."""

    def embed(self, rows: Tensor) -> Tensor:
        return normalize((rows.float() - self.mean_) @ self.projection_, dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.mean_, self.projection_name: self.projection_}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Self:
        self.mean_, self.projection_ = state["mean"], state[self.projection_name]
        return self


class WithinBackend(ProjectedBackend):
    """Cosine after whitening by the covariance within speakers (WCCN; Hatch et al., 2006)."""

    projection_name = "scale"

    @staticmethod
    def _project(statistics: ClassStatistics, shrinkage: float) -> tuple[Tensor, Tensor]:
        return statistics.mean().float(), statistics.whitening(shrinkage).float()


class LDABackend(ProjectedBackend):
    """Cosine after linear discriminant analysis (LDA).

    The number of directions is at most the number of training speakers minus one.
    """

    @staticmethod
    def _project(statistics: ClassStatistics, shrinkage: float) -> tuple[Tensor, Tensor]:
        if len(statistics.counts) < 3:
            raise BackendError(
                "LDA needs at least three training speakers. Give more speakers, or use another backend."
            )
        whitening = statistics.whitening(shrinkage)
        centred = (statistics.means - statistics.mean()) @ whitening
        _, _, directions = torch.linalg.svd(statistics.counts.double().sqrt()[:, None] * centred, full_matrices=False)
        kept = min(len(statistics.counts) - 1, whitening.shape[1])
        return statistics.mean().float(), (whitening @ directions[:kept].T).float()


class PLDABackend(Backend):
    """Log-likelihood ratios of the two-covariance model, which the head `plda` fits.

    In this model each speaker has a mean vector, and the speaker's recordings are Gaussian around it. The ratio
    compares two hypotheses: the two recordings have the same mean, or they have independent means. In each direction
    of the mapped space, the means of speakers have the variance b, and recordings have the variance 1 around their
    mean. The ratio is therefore a sum of quadratic forms of the two coordinates. Given n recordings with the average m,
    the posterior of a speaker's mean is Gaussian with the mean ``n b / (n b + 1) * m`` and the variance
    ``b / (n b + 1)``.
    """

    def _learn(self, rows: Tensor, targets: Tensor) -> None:
        head = create_head("plda").fit(rows, targets)
        assert isinstance(head, PLDAHead)
        self.load_state_dict({"mean": head.mean_, "transform": head.transform_, "between": head.between_})

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.mean_, "transform": self.transform_, "between": self.between_}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Self:
        self.mean_, self.transform_, self.between_ = state["mean"], state["transform"], state["between"]
        between = self.between_.double()
        # ln N(x, y; same) - ln N(x) N(y) = constant - (x^2 + y^2) own / 2 + x y cross
        total, determinant = 1 + between, 1 + 2 * between
        self.own_ = (total / determinant - 1 / total).float()
        self.cross_ = (between / determinant).float()
        self.constant_ = float((total.log() - determinant.log() / 2).sum())
        return self

    def embed(self, rows: Tensor) -> Tensor:
        return (rows.float() - self.mean_) @ self.transform_

    def score_pairs(self, one: Tensor, other: Tensor) -> Tensor:
        own = (one.square() + other.square()) @ self.own_ / 2
        return self.constant_ - own + (one * other) @ self.cross_

    def score_all(self, enrolled: Tensor, probes: Tensor) -> Tensor:
        own = [side.square() @ self.own_ / 2 for side in (enrolled, probes)]
        return self.constant_ - own[0][:, None] - own[1] + (enrolled * self.cross_) @ probes.T

    def combine(self, rows: Tensor) -> Tensor:
        return rows.mean(0)

    def score_speakers(self, probes: Tensor, models: Tensor, counts: Tensor) -> Tensor:
        # ln N(x; share m, spread) - ln N(x; 0, total). The terms in x^2 depend only on the count of the model.
        distinct, group = torch.unique(counts, return_inverse=True)
        if len(distinct) == 1:  # saves memory, for example for a million speakers with one recording each
            group = torch.zeros(1, dtype=torch.int64)
        between = self.between_.double()
        known = distinct.double()[:, None] * between
        share, total = known / (known + 1), 1 + between
        spread = 1 + between / (known + 1)
        of_probe = probes.square() @ ((1 / total - 1 / spread) / 2).float().T
        constant = ((total.log() - spread.log()).sum(1) / 2).float()
        cross, of_model = (share / spread).float()[group], (share.square() / spread / 2).float()[group]
        scores: Tensor = probes @ (models * cross).T
        return scores.add_(of_probe[:, group]).add_(constant[group] - (models.square() * of_model).sum(1))


# Name -> "module:Class".
BACKENDS: dict[str, str] = {
    "cosine": "verification.backends:CosineBackend",
    "whiten": "verification.backends:WhitenBackend",
    "within": "verification.backends:WithinBackend",
    "lda": "verification.backends:LDABackend",
    "plda": "verification.backends:PLDABackend",
}


def create_backend(name: str) -> Backend:
    """Make an untrained backend.

    Raises
    ------
    BackendError
        There is no backend of this name; the message lists the valid names.
    """
    kind: type[Backend] = load_choice("backend", name, BACKENDS, error_class=BackendError)
    return kind(name)


def split_speakers(features: FeatureSet, seed: int = 0) -> tuple[FeatureSet, FeatureSet]:
    """Split a set of features by speaker: one half to train a backend on, the other half to score.

    Raises
    ------
    BackendError
        There are fewer than four speakers.
    """
    present = np.unique(features.labels.numpy())
    if len(present) < 4:
        raise BackendError(
            f"The features are of {count_of(len(present), 'speaker')}; at least 4 are needed to train a backend on "
            "half of them and score the others. Add speakers, give other speakers as --train_features of the command "
            "evaluate, or use the backend cosine, which is not trained."
        )
    training = np.random.default_rng(seed).permutation(present)[: len(present) // 2]
    is_training = np.isin(features.labels.numpy(), training)
    return features.select(is_training), features.select(~is_training)


def check_vectors(features: FeatureSet) -> Tensor:
    """Return the vectors (N, D) of a set of features.

    Raises
    ------
    BackendError
        The features have several layers, or rows with NaN or infinity.
    """
    if features.features.ndim != 2:
        layers: Sequence[int] = features.layers
        raise BackendError(
            f"The features of each utterance have {len(layers)} layers; a backend needs features of one layer. Extract "
            "one layer with --layers k, or select one with FeatureSet.layer(k)."
        )
    rows = features.features.float()
    not_finite = (~torch.isfinite(rows).all(dim=1)).nonzero().flatten().tolist()
    if not_finite:
        first = features.ids[not_finite[0]]
        raise BackendError(
            f"{count_of(len(not_finite), 'row')} {'contains' if len(not_finite) == 1 else 'contain'} NaN or infinity "
            f"(first: {first}). Extract the features again."
        )
    return rows
