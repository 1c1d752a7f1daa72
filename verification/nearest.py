"""Which of many enrolled speakers recordings are likest to, found in blocks."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Nearest:
    """The enrolled speakers that recordings are likest to.

    Attributes
    ----------
    names : list of list of str
        For each recording, the likeliest first.
    scores, llrs : Tensor (n, k)
        float32, of the backend, and as natural log-likelihood ratios.
    total : Tensor (n,)
        float32, log of the summed likelihood ratios of all speakers.
    n_speakers : int
        That there are.
    """

    names: list[list[str]]
    scores: Tensor
    llrs: Tensor
    total: Tensor
    n_speakers: int


class Best:
    """The best speakers of each probe among those seen so far."""

    def __init__(self, n_probes: int, top_k: int) -> None:
        self.llrs = torch.full((n_probes, top_k), -math.inf)
        self.scores = torch.zeros(n_probes, top_k)
        self.numbers = torch.full((n_probes, top_k), -1)
        self.total = torch.full((n_probes,), -math.inf)
        self.n_speakers = 0

    def add(self, scores: Tensor, llrs: Tensor, numbers: Tensor) -> None:
        """See a block of speakers (n,) with their scores and ratios (n_probes, n)."""
        self.n_speakers += len(numbers)
        highest = llrs.amax(dim=1)
        # What is e^-60 of the highest adds nothing, and takes ten times as long to add.
        self.total = torch.logaddexp(self.total, llrs.clamp_min(highest[:, None] - 60).logsumexp(dim=1))
        # After some blocks few probes find anyone better.
        rows = (highest > self.llrs[:, -1]).nonzero().flatten()
        if not len(rows):
            return
        top_k = self.llrs.shape[1]
        found = llrs[rows].topk(min(top_k, len(numbers)), dim=1)
        candidates = torch.cat([self.llrs[rows], found.values], dim=1)
        kept = candidates.argsort(dim=1, descending=True, stable=True)[:, :top_k]
        of_block = scores[rows].gather(1, found.indices)
        self.llrs[rows] = candidates.gather(1, kept)
        self.scores[rows] = torch.cat([self.scores[rows], of_block], dim=1).gather(1, kept)
        self.numbers[rows] = torch.cat([self.numbers[rows], numbers[found.indices]], dim=1).gather(1, kept)
