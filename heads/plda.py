"""Probabilistic linear discriminant analysis."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import uniform
from torch import Tensor

from heads.base import Head, HeadError, Validation, as_rows
from heads.covariance import ClassStatistics


class PLDAHead(Head):
    """The two-covariance model: speakers are Gaussian, and a speaker's recordings are Gaussian about the speaker.

    Both covariances are made diagonal at once (Ioffe, 2006; Kaldi's PLDA is the same model). They are estimated in
    closed form, by the analysis of variance, which also takes speakers with different numbers of rows. The scores are
    log-likelihood ratios: this speaker, with what the training rows tell of it, against a speaker never heard.

    Parameters
    ----------
    shrinkage : float or None
        Share from 0 to 1 by which the covariance within speakers is pulled towards a multiple of the identity, which
        helps where rows are few.
    n_components : int or None
        Directions to keep, those first in which speakers differ most; None keeps all in which they differ.

    Attributes
    ----------
    mean_ : Tensor (D,)
        float32, of all rows.
    transform_ : Tensor (D, K)
        float32; the variation within speakers is 1 in all directions after it.
    between_ : Tensor (K,)
        float32, the variance of speakers in each direction.
    speakers_ : Tensor (n_classes, K)
        float32, the mean of each class's rows after the transform.
    counts_ : Tensor (n_classes,)
        float32, rows of each class.
    """

    search_space: ClassVar[Mapping[str, Any]] = {"shrinkage": uniform(0, 1)}

    def __init__(self, shrinkage: float | None = None, n_components: int | None = None) -> None:
        self.shrinkage = shrinkage
        self.n_components = n_components

    def learn(self, rows: Tensor, targets: Tensor, validation: Validation | None) -> None:
        if self.n_components is not None and self.n_components < 1:
            raise HeadError(f"n_components is {self.n_components}; expected 1 or more, or none to keep all.")
        statistics = ClassStatistics.of(rows, targets)
        counts = statistics.counts.double()
        mean = rows.double().mean(0)
        whitening = statistics.whitening(self.shrinkage)
        speakers = (statistics.means - mean) @ whitening
        # Mean squares between classes expect 1 + n0 * (variance of speakers), n0 being the rows of a typical class.
        freedom = len(counts) - 1
        between = speakers.T @ (counts[:, None] * speakers) / freedom
        typical = (len(rows) - counts.square().sum() / len(rows)) / freedom
        squares, directions = torch.linalg.eigh(between)
        variances = ((squares - 1) / typical).flip(0)
        n_kept = min(int((variances > 0).sum()), self.n_components or len(variances))
        if not n_kept:
            raise HeadError("Speakers differ no more than the recordings of one do; PLDA has nothing to tell them by.")
        directions = directions.flip(1)[:, :n_kept]
        state = {
            "mean": mean,
            "transform": whitening @ directions,
            "between": variances[:n_kept],
            "speakers": speakers @ directions,
            "counts": counts,
        }
        self.load_state_dict({name: tensor.float() for name, tensor in state.items()}, self.classes_)

    def decision_function(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        """Return the log-likelihood ratios (n, n_classes); above 0 speaks for the speaker.

        Given n rows of mean m, a speaker is Gaussian about ``n b / (n b + 1) * m`` with variance ``b / (n b + 1)`` in a
        direction where speakers have the variance b; a recording has the variance 1 about that.
        """
        # In float64: the scores are small differences of squares, large ones of rows far away.
        mean, transform, between, speakers, counts = (tensor.double() for tensor in self.state_dict().values())
        rows = (as_rows(X).cpu().double() - mean) @ transform
        known = counts[:, None] * between
        expected = known / (known + 1) * speakers
        spread = 1 + between / (known + 1)
        unknown = 1 + between
        # (x - e)^2 / s over all directions, as three products.
        distance = (
            rows.square() @ (1 / spread).T - 2 * rows @ (expected / spread).T + (expected.square() / spread).sum(1)
        )
        of_anyone = (rows.square() / unknown + unknown.log()).sum(1, keepdim=True)
        scores: NDArray[np.float32] = (0.5 * (of_anyone - distance - spread.log().sum(1))).float().numpy()
        return scores

    def state_dict(self) -> dict[str, Tensor]:
        names = ("mean", "transform", "between", "speakers", "counts")
        return {name: getattr(self, f"{name}_") for name in names}

    def load_state_dict(self, state: Mapping[str, Tensor], classes: ArrayLike) -> Self:
        self.classes_ = np.asarray(classes)
        self.mean_, self.transform_, self.between_ = state["mean"], state["transform"], state["between"]
        self.speakers_, self.counts_ = state["speakers"], state["counts"]
        self.n_parameters_ = sum(tensor.numel() for tensor in self.state_dict().values())
        return self
