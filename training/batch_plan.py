"""Which crops are in which training step: a pure function of the seed, the epoch and the step."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np

from corpora import Indices
from files import count_of
from training.settings import TrainingError, UnusableCorpusError


@dataclass(frozen=True)
class Step:
    """Crops of a step.

    Attributes
    ----------
    epoch, number : int
        Epoch, and number of the step in it, from 0.
    rows : ndarray (n,)
        int64, training utterances of this process. Of triplets, first all anchors, then the utterances of the same
        speakers, then those of others.
    positions : ndarray (n,)
        float64, starts of the crops as shares of the starts that are possible, from 0 to below 1.
    """

    epoch: int
    number: int
    rows: Indices
    positions: np.ndarray[tuple[int], np.dtype[np.float64]]


class BatchPlan:
    """The steps of a training run.

    An epoch has one crop of each training utterance, or `steps_per_epoch` steps, which continue through the utterances.
    They are shuffled each time that all were used. Of triplets, each utterance is the anchor once; the utterances of
    the same speaker and of another speaker are drawn.

    Parameters
    ----------
    labels : ndarray (n,)
        int64, speaker of each training utterance.
    batch_size : int
        Utterances or triplets of a step, over all processes.
    triplets : bool
        Whether to draw triplets.
    steps_per_epoch : int, optional
        Number of steps of an epoch.
    seed : int
    min_size : int
        Minimum number of utterances of a step in each process.
    rank, n_ranks : int
        Number of this process, and of all. Each has its share of every step.

    Attributes
    ----------
    n_steps : int
        Number of steps of an epoch.
    has_triplets : bool
        Whether the steps have triplets.
    """

    def __init__(
        self,
        labels: Indices,
        batch_size: int,
        *,
        triplets: bool = False,
        steps_per_epoch: int | None = None,
        seed: int = 0,
        min_size: int = 1,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        self._labels, self._batch_size, self.has_triplets = labels, batch_size, triplets
        self._seed, self._rank, self._n_ranks = seed, rank, n_ranks
        self._order = np.argsort(labels, kind="stable")
        self._counts = np.bincount(labels)
        self._starts = self._counts.cumsum() - self._counts
        self._anchors = np.flatnonzero(self._counts[labels] > 1) if triplets else np.arange(len(labels))
        if triplets and (not len(self._anchors) or (self._counts > 0).sum() < 2):
            raise TrainingError(
                "Triplets need two speakers, one of them with two utterances; use --objective classification, or a "
                "larger corpus."
            )
        least = n_ranks * min_size
        if len(self._anchors) < least:
            raise UnusableCorpusError(
                f"The training part has {count_of(len(self._anchors), 'utterance')}; a step needs at least {least}. "
                f"Use a larger corpus{' or fewer processes' if n_ranks > 1 else ''}."
            )
        if batch_size < least:
            each = "one" if min_size == 1 else str(min_size)
            raise TrainingError(
                f"A step of {count_of(batch_size, 'utterance')} has fewer than {each} for each of the {n_ranks} "
                f"processes; give a --batch_size of {least} or more, or use fewer processes."
            )
        self._is_whole_epoch = steps_per_epoch is None
        # Parts of nearly equal size, none of them smaller than the number of processes needs.
        n_parts = min(ceil(len(self._anchors) / batch_size), len(self._anchors) // least)
        self.n_steps = steps_per_epoch or max(n_parts, 1)
        self._shuffled: tuple[int, Indices] = (-1, self._anchors)

    def steps(self, epoch: int, first: int = 0) -> Iterator[Step]:
        """Yield the steps of an epoch from the step `first` on."""
        for number in range(first, self.n_steps):
            yield self.step(epoch, number)

    def step(self, epoch: int, number: int) -> Step:
        """Return one step."""
        rows = self._rows(epoch, number)
        random = np.random.default_rng([self._seed, epoch, number])
        drawn = self._draw_triplets(rows, random) if self.has_triplets else rows[None]  # (roles, anchors)
        positions = random.random(drawn.shape)
        own = slice(self._rank, None, self._n_ranks)
        return Step(epoch, number, rows=drawn[:, own].reshape(-1), positions=positions[:, own].reshape(-1))

    def _rows(self, epoch: int, number: int) -> Indices:
        """Return the anchors of a step, over all processes."""
        n = len(self._anchors)
        if self._is_whole_epoch:  # parts of nearly equal size, so that no step has a single utterance
            first, last = (n * edge // self.n_steps for edge in (number, number + 1))
            return self._pass(epoch)[first:last]
        places = (epoch * self.n_steps + number) * self._batch_size + np.arange(self._batch_size)
        return np.concatenate([self._pass(each)[places[places // n == each] % n] for each in np.unique(places // n)])

    def _pass(self, number: int) -> Indices:
        """Return the anchors in the order of one pass through them."""
        if self._shuffled[0] != number:
            self._shuffled = number, np.random.default_rng([self._seed, number]).permutation(self._anchors)
        return self._shuffled[1]

    def _draw_triplets(self, anchors: Indices, random: np.random.Generator) -> Indices:
        """Return anchors, utterances of the same speakers, and utterances of others (3, n)."""
        label = self._labels[anchors]
        place = np.empty(len(self._order), np.int64)
        place[self._order] = np.arange(len(self._order))
        count, start = self._counts[label], self._starts[label]
        same = start + (place[anchors] - start + random.integers(1, count)) % count  # any but the anchor
        other = random.integers(len(self._order) - count)
        other += np.where(other >= start, count, 0)  # skip the speaker's own utterances
        return np.stack([anchors, self._order[same], self._order[other]])
