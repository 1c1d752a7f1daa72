"""From two embeddings to a score."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from audio import InputError
from encoders import Spec, spec_differences
from features import FeatureSet
from heads import create_head, create_scaler
from heads.covariance import ClassStatistics
from heads.plda import PLDAHead

# Trials scored at a time, to bound the memory.
BLOCK = 65_536


class BackendError(InputError):
    """A backend cannot be made, trained, or used on these features."""


class Backend(ABC):
    """Maps embeddings once (`embed`), and scores pairs of mapped ones; higher is likelier the same speaker.

    Attributes
    ----------
    speakers_ : tuple of str
        Whom it was trained on; it must not be tested on them.
    encoder_ : dict or None
        Spec of the encoder whose vectors it was trained on.
    """

    name: str
    is_trained = True
    speakers_: tuple[str, ...] = ()
    encoder_: Spec | None = None

    def fit(self, features: FeatureSet) -> Self:
        """Learn from the speakers of a set of features (N, D); returns itself.

        Raises
        ------
        InputError
            Nothing can be learned from these.
        """
        rows = check_vectors(features)
        if self.is_trained:
            self.speakers_ = tuple(sorted({features.speakers[label] for label in features.labels.tolist()}))
            self.encoder_ = features.encoder
            self._learn(rows, torch.unique(features.labels, return_inverse=True)[1])
        return self

    @abstractmethod
    def _learn(self, rows: Tensor, targets: Tensor) -> None:
        """Learn from rows (N, D) of classes (N,), numbered from 0."""

    @abstractmethod
    def embed(self, rows: Tensor) -> Tensor:
        """Map embeddings (n, D) to (n, K)."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the learned tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Self:
        """Take learned tensors; returns itself."""
        return self

    def score_pairs(self, one: Tensor, other: Tensor) -> Tensor:
        """Score mapped rows (n, K) with mapped rows (n, K), one by one: (n,)."""
        return (one * other).sum(1)

    def score_all(self, enrolled: Tensor, probes: Tensor) -> Tensor:
        """Score all mapped rows (n, K) with all mapped rows (m, K): (n, m)."""
        return enrolled @ probes.T

    def combine(self, rows: Tensor) -> Tensor:
        """Make the model (K,) of a speaker from the mapped rows (n, K) of recordings: the direction of their mean."""
        return normalize(rows.mean(0), dim=0)

    def score_speakers(self, probes: Tensor, models: Tensor, counts: Tensor) -> Tensor:
        """Score all mapped rows (m, K) with all models (N, K), of so many recordings (N,): (m, N).

        A model of one recording scores as the recording does.
        """
        return probes @ models.T

    def score_trials(
        self, features: FeatureSet, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Score pairs of rows of a set of features.

        Raises
        ------
        BackendError
            The backend was trained on one of the speakers, or on vectors of another encoder.
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
        """Refuse to be tested on those it was trained on.

        Raises
        ------
        BackendError
        """
        known = sorted(speakers & set(self.speakers_))
        if known:
            shown = ", ".join(known[:3]) + (", ..." if len(known) > 3 else "")
            raise BackendError(
                f"The backend {self.name!r} was trained on {len(known)} of the speakers that it is to score ({shown}), "
                "which would flatter it. Train it on other speakers."
            )


class CosineBackend(Backend):
    """The cosine of two embeddings, as they are."""

    name = "cosine"
    is_trained = False

    def _learn(self, rows: Tensor, targets: Tensor) -> None:
        """Nothing is learned."""

    def embed(self, rows: Tensor) -> Tensor:
        exact = rows.double()  # squares of very large and very small numbers are no float32
        return normalize(exact, dim=1, eps=1e-300).float()


class ScaledBackend(Backend):
    """The cosine after a scaler of `heads`: ``whiten``, or ``within``, whitening by what each speaker varies in."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _learn(self, rows: Tensor, targets: Tensor) -> None:
        self.scaler_ = create_scaler(self.name).fit(rows, targets)

    def embed(self, rows: Tensor) -> Tensor:
        return normalize(self.scaler_.transform(rows), dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.scaler_.mean_, "scale": self.scaler_.scale_}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Self:
        self.scaler_ = create_scaler(self.name).load_state_dict(state)
        return self


class LDABackend(Backend):
    """The cosine after a projection to the directions in which speakers differ, one less than there are speakers."""

    name = "lda"

    def _learn(self, rows: Tensor, targets: Tensor) -> None:
        statistics = ClassStatistics.of(rows, targets)
        if len(statistics.counts) < 3:
            raise BackendError("LDA of two speakers has one direction; give three to train on, or another backend.")
        whitening = statistics.whitening()
        self.mean_ = rows.double().mean(0).float()
        centred = (statistics.means - rows.double().mean(0)) @ whitening
        _, _, directions = torch.linalg.svd(statistics.counts.double().sqrt()[:, None] * centred, full_matrices=False)
        kept = min(len(statistics.counts) - 1, whitening.shape[1])
        self.projection_ = (whitening @ directions[:kept].T).float()

    def embed(self, rows: Tensor) -> Tensor:
        return normalize((rows.float() - self.mean_) @ self.projection_, dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.mean_, "projection": self.projection_}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Self:
        self.mean_, self.projection_ = state["mean"], state["projection"]
        return self


class PLDABackend(Backend):
    """Log-likelihood ratios of the two-covariance model of the head `plda`, of one recording against one.

    Both recordings are Gaussian about the same speaker, or about two: in each direction, where speakers have the
    variance b and recordings 1, the ratio is a quadratic form of the two numbers. A speaker of whom n recordings of
    mean m are known is Gaussian about ``n b / (n b + 1) * m`` with the variance ``b / (n b + 1)``, as in the head.
    """

    name = "plda"

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
        # ln N(x; share m, spread) - ln N(x; 0, total), whose squares of x are the same for all models of one count
        distinct, group = torch.unique(counts, return_inverse=True)
        if len(distinct) == 1:  # as of a million speakers with one recording each
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


BACKENDS = ("cosine", "whiten", "within", "lda", "plda")


def create_backend(name: str) -> Backend:
    """Make an untrained backend.

    Raises
    ------
    BackendError
        There is no such backend; the answer lists them.
    """
    kinds: Mapping[str, Any] = {"cosine": CosineBackend, "lda": LDABackend, "plda": PLDABackend}
    if name not in BACKENDS:
        raise BackendError(f"There is no backend {name!r}; choose one of: {', '.join(BACKENDS)}.")
    backend: Backend = kinds[name]() if name in kinds else ScaledBackend(name)
    return backend


def split_speakers(features: FeatureSet, seed: int = 0) -> tuple[FeatureSet, FeatureSet]:
    """Divide a set into one half of the speakers to train a backend on, and the other half to score.

    Raises
    ------
    BackendError
        There are fewer than four speakers.
    """
    present = np.unique(features.labels.numpy())
    if len(present) < 4:
        raise BackendError(
            f"There are {len(present)} speakers; to train a backend on some and score others takes four at least. "
            "Give --train_features of other speakers, or the backend cosine, which needs no training."
        )
    chosen = np.random.default_rng(seed).permutation(present)[: len(present) // 2]
    trained = np.isin(features.labels.numpy(), chosen)
    return features.select(trained), features.select(~trained)


def check_vectors(features: FeatureSet) -> Tensor:
    """Return the vectors (N, D) of a set.

    Raises
    ------
    BackendError
        It has several layers, or rows that are no numbers.
    """
    if features.features.ndim != 2:
        layers: Sequence[int] = features.layers
        raise BackendError(
            f"The features hold {len(layers)} layers each, and a backend takes one vector; extract one with --layers "
            "k, or take it with FeatureSet.layer(k)."
        )
    rows = features.features.float()
    spoiled = (~torch.isfinite(rows).all(dim=1)).nonzero().flatten().tolist()
    if spoiled:
        first = features.ids[spoiled[0]]
        raise BackendError(
            f"{len(spoiled)} rows hold NaN or infinity, the first is that of {first}; extract them again."
        )
    return rows
