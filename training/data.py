"""The utterances of a training run: their lengths, their speakers, and which part they are in."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audio import AudioError, span_seconds
from corpora import Corpus, Indices, Utterance
from files import count_of, track
from training.crop_reader import Crop
from training.settings import UnusableCorpusError

logger = logging.getLogger(__name__)

PARTS = ("train", "validation", "test")
# Number of headers that are read at a time.
HEADERS = 1000


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Utterances with their lengths, and the parts that train, select and test.

    Attributes
    ----------
    utterances : tuple of Utterance
        Utterances whose headers could be read.
    n_samples : ndarray (n,)
        int64, length of each at the rate of the front end.
    parts : dict of ndarray
        Rows of ``train``, ``validation`` and ``test``.
    sample_rate, hop, unpadded : int
        Those of the front end: Hz and samples.
    faults : dict
        Utterances that could not be read: id -> reason.
    """

    utterances: tuple[Utterance, ...]
    n_samples: NDArray[np.int64]
    parts: Mapping[str, Indices]
    sample_rate: int
    hop: int
    unpadded: int = 0
    faults: dict[str, str] = field(default_factory=dict)

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """Training speakers, sorted; they are the classes."""
        return tuple(sorted({self.utterances[row].speaker for row in self.parts["train"]}))

    @cached_property
    def labels(self) -> Indices:
        """Class of each utterance (n,); -1 for speakers that are not in the training part."""
        number = {speaker: label for label, speaker in enumerate(self.speakers)}
        return np.array([number.get(utterance.speaker, -1) for utterance in self.utterances], np.int64)

    @cached_property
    def speaker_numbers(self) -> Indices:
        """Number of each utterance's speaker (n,), over all parts."""
        names = [utterance.speaker for utterance in self.utterances]
        return np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def n_frames(self, rows: Indices) -> Indices:
        """Return the number of frames of utterances."""
        return 1 + (self.n_samples[rows] - self.unpadded) // self.hop

    def crop(self, row: int, position: float = 0.0, n_frames: int | None = None) -> Crop:
        """Return a crop of an utterance, or all of it if it is shorter.

        Parameters
        ----------
        row : int
        position : float
            Start, as a share of the starts that are possible.
        n_frames : int, optional
            Length of the crop; by default the whole utterance.
        """
        utterance, total = self.utterances[row], 1 + (int(self.n_samples[row]) - self.unpadded) // self.hop
        count = min(n_frames or total, total)
        first = int(position * (total - count + 1))
        return Crop(
            str(utterance.path),
            utterance.start,
            int(self.n_samples[row]),
            first=first,
            n_frames=count,
            channel=utterance.channel,
        )


def measure(
    corpus: Corpus, sample_rate: int, *, min_samples: int = 1, progress: bool = True
) -> tuple[tuple[Utterance, ...], NDArray[np.int64], dict[str, str]]:
    """Return the utterances of a corpus that can be read, their lengths (samples), and why others cannot.

    Only headers are read. Utterances of fewer than `min_samples` samples cannot be used.
    """
    kept, lengths, faults = [], [], {}
    found = _read_headers(corpus.utterances)
    for utterance, seconds in zip(
        corpus, track(found, "Reading headers", len(corpus), unit="file", visible=progress), strict=True
    ):
        if isinstance(seconds, str):
            faults[utterance.id] = seconds
        elif (length := max(round(seconds * sample_rate), 1)) < min_samples:
            faults[utterance.id] = f"it has {seconds:.4g} s; the network needs {min_samples / sample_rate:g} s"
        else:
            kept.append(utterance)
            lengths.append(length)
    if not kept:
        raise UnusableCorpusError(
            f"{corpus.root}: none of the {count_of(len(corpus), 'utterance')} can be read; the first: "
            f"{next(iter(faults.values()))}.",
            faults,
        )
    return tuple(kept), np.array(lengths, np.int64), faults


def _read_headers(utterances: Sequence[Utterance]) -> Iterator[float | str]:
    """Return the duration (seconds) of each utterance, or why it cannot be read."""
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(utterances), HEADERS):  # a list of all futures would be larger than the corpus
            yield from pool.map(_seconds, utterances[first : first + HEADERS])


def _seconds(utterance: Utterance) -> float | str:
    try:
        return span_seconds(utterance.path, utterance.start, utterance.duration, channel=utterance.channel)
    except AudioError as error:
        return error.reason


def warn_of_single_utterances(utterances: Sequence[Utterance], train: Indices) -> None:
    """Name the training speakers that are no anchors of triplets, because they have one utterance."""
    counts = Counter(utterances[row].speaker for row in train.tolist())
    single = sorted(speaker for speaker, count in counts.items() if count == 1)
    if single:
        logger.warning(
            "%s with one utterance cannot be anchors of triplets, and are used as other speakers only: %s",
            count_of(len(single), "training speaker"), ", ".join([*single[:5], "..."] if len(single) > 5 else single),
        )  # fmt: skip
