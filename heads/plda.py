"""`PLDAHead`: probabilistic linear discriminant analysis."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from heads.base import Head, HeadError, Validation, as_rows
from heads.covariance import ClassStatistics
from heads.search_space import Uniform


class PLDAHead(Head):
    """The two-covariance model: speakers are Gaussian, and a speaker's recordings are Gaussian about the speaker.

    Both covariances are diagonalised together (Ioffe, 2006; Kaldi's PLDA is the same model). They are estimated in
    closed form, by the analysis of variance, which allows for different numbers of rows per speaker. The scores are
    log-likelihood ratios of two hypotheses: the row is of this speaker, given its training rows, or of an unknown one.

    Parameters
    ----------
    shrinkage : float or None
        Shrinkage, from 0 to 1, of the covariance within speakers towards a multiple of the identity. It helps if there
        are few rows. None is no shrinkage.
    n_components : int or None
        Maximum number of directions to keep, those with the largest variance between speakers. None keeps all in which
        speakers differ.

    Attributes
    ----------
    mean_ : Tensor (D,)
        float32, mean of all rows.
    transform_ : Tensor (D, K)
        float32, linear map after which the variance within speakers is 1 in all directions.
    between_ : Tensor (K,)
        float32, variance between speakers in each direction.
    speakers_ : Tensor (n_classes, K)
        float32, mean of each class's rows after the transform.
    counts_ : Tensor (n_classes,)
        float32, number of rows of each class.
    """

    search_space: ClassVar[Mapping[str, Any]] = {"shrinkage": Uniform(0, 1)}

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
        # The expected mean squares between classes are 1 + typical * variance between speakers, with `typical` an
        # average number of rows per class.
        freedom = len(counts) - 1
        between = speakers.T @ (counts[:, None] * speakers) / freedom
        typical = (len(rows) - counts.square().sum() / len(rows)) / freedom
        squares, directions = torch.linalg.eigh(between)
        variances = ((squares - 1) / typical).flip(0)
        n_kept = min(int((variances > 0).sum()), self.n_components or len(variances))
        if not n_kept:
            raise HeadError(
                "Speakers differ no more than the recordings of one speaker do, so PLDA cannot distinguish them; use "
                "another head or other features."
            )
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
        """Return the log-likelihood ratios (n, n_classes); a ratio above 0 supports the speaker.

        In a direction with variance b between speakers, a speaker with n training rows of mean m is Gaussian about
        ``n b / (n b + 1) * m`` with variance ``b / (n b + 1)``. Its recordings have variance 1 about the speaker.
        """
        # In float64: the scores are small differences of squares that are large for distant rows.
        mean, transform, between, speakers, counts = (tensor.double() for tensor in self.state_dict().values())
        rows = (as_rows(X).cpu().double() - mean) @ transform
        known = counts[:, None] * between
        expected = known / (known + 1) * speakers
        spread = 1 + between / (known + 1)
        unknown = 1 + between
        # Sum of (x - e)^2 / s over all directions, expanded into three products.
        distance = (
            rows.square() @ (1 / spread).T - 2 * rows @ (expected / spread).T + (expected.square() / spread).sum(1)
        )
        unknown_distance = (rows.square() / unknown + unknown.log()).sum(1, keepdim=True)
        scores: NDArray[np.float32] = (0.5 * (unknown_distance - distance - spread.log().sum(1))).float().numpy()
        return scores

    def state_dict(self) -> dict[str, Tensor]:
        return {
            "mean": self.mean_,
            "transform": self.transform_,
            "between": self.between_,
            "speakers": self.speakers_,
            "counts": self.counts_,
        }

    def load_state_dict(self, state: Mapping[str, Tensor], classes: ArrayLike) -> Self:
        self.classes_ = np.asarray(classes)
        self.mean_, self.transform_, self.between_ = state["mean"], state["transform"], state["between"]
        self.speakers_, self.counts_ = state["speakers"], state["counts"]
        self.n_parameters_ = sum(tensor.numel() for tensor in self.state_dict().values())
        return self
