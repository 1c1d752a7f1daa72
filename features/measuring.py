"""Measure the DC offsets of stored rows whose version did not, and find the rows that have to be recomputed."""

import contextlib
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from corpora import Indices
from embedding import MAX_OFFSET, measure_utterances
from features.feature_set import FeatureSet
from features.job import ExtractionJob
from features.parts import Block, PartFile
from features.planning import Plan
from files import track

logger = logging.getLogger(__name__)

# Seconds between two writes of measured rows.
SAVE_INTERVAL = 1.0
# Faults of audio that say nothing of its content.
ACCESS_FAULTS = ("missing", "unreadable")


def load_features(path: str | os.PathLike[str]) -> FeatureSet:
    """Open a features file as `FeatureSet.load` does; warn of rows of an earlier version that were never measured.

    Raises
    ------
    FeaturesError
        As in `FeatureSet.load`.
    """
    features = FeatureSet.load(path)
    n_unmeasured = 0 if features.audio is None else int(features.audio.offset.isnan().sum())
    if n_unmeasured:
        logger.warning(
            "%s: %d of %d rows are of a version that did not remove DC offsets; run extract_features.py again with "
            "this --features_path and the corpus, which recomputes those with an offset.",
            path, n_unmeasured, len(features),
        )  # fmt: skip
    return features


def find_unmeasured(plan: Plan, blocks: Sequence[Block]) -> Indices:
    """Return the numbers of the utterances whose stored row has no DC offset.

    Versions before the column ``offset`` did not remove DC offsets, nor did they divide samples on the scale of
    integers. Whether their rows are those of this version depends on the audio.
    """
    numbers = np.flatnonzero(plan.block >= 0)
    begins = np.cumsum([0, *map(len, blocks)])
    offsets = np.concatenate([np.empty(0, np.float32), *(block.audio.offset.numpy() for block in blocks)])
    is_unmeasured: NDArray[np.bool_] = np.isnan(offsets[begins[plan.block[numbers]] + plan.row[numbers]])
    return numbers[is_unmeasured]


def measure(job: ExtractionJob, plan: Plan, sources: dict[Path, list[Block]], *, numbers: Indices) -> PartFile:
    """Measure stored rows, and mark in the plan as missing those that have to be recomputed or refused.

    Each utterance is decoded. If its audio was embedded as it is today, the row is copied to a part file with its
    offset, so that it is measured once. A row whose audio is refused today because of its content is dropped. A row
    whose file cannot be read now is kept without an offset.

    Parameters
    ----------
    job : ExtractionJob
    plan : Plan
    sources : dict
        Blocks of each file, in the order in which the plan numbers them; the numbers of new blocks follow.
    numbers : ndarray (n,)
        int64, numbers of the utterances.
    """
    writer = _MeasuredRows(job, plan, sources)
    if not len(numbers):
        return writer.part
    logger.info("%s: measuring %d stored rows, because their version recorded no DC offset", job.path, len(numbers))
    utterances = [job.corpus.utterances[number] for number in numbers.tolist()]
    rows = measure_utterances(utterances, job.encoder, job.crop, num_workers=job.num_workers)
    shown = track(rows, "Measuring", len(utterances), unit="file", visible=job.progress)
    changed = []
    with contextlib.closing(writer), contextlib.closing(rows):  # after Ctrl-C too
        for number, row in zip(numbers.tolist(), shown, strict=True):
            if row.fault is not None and row.fault not in ACCESS_FAULTS:
                plan.refused.add(number)
            elif abs(row.offset) > MAX_OFFSET or row.full_scale != 1:
                changed.append(number)
            elif not math.isnan(row.offset):
                writer.add(number, row.offset)
    changed += sorted(plan.refused)
    plan.block[changed] = plan.row[changed] = -1
    if changed:
        logger.warning(
            "%s: %d of %d stored rows are recomputed or refused: earlier versions did not remove DC offsets above %g, "
            "did not divide samples on the scale of integers, and refused fewer files.",
            job.path, len(changed), len(numbers), MAX_OFFSET,
        )  # fmt: skip
    return writer.part


class _MeasuredRows:
    """Copies measured rows to a part file, about once a second."""

    def __init__(self, job: ExtractionJob, plan: Plan, sources: Mapping[Path, Sequence[Block]]) -> None:
        self.part = PartFile(job.parts)
        self._plan = plan
        self._blocks = [block for blocks in sources.values() for block in blocks]
        self._n_blocks = len(self._blocks)
        self._unsaved: dict[int, float] = {}
        self._saved_at = time.monotonic()

    def add(self, number: int, offset: float) -> None:
        """Add the offset of the stored row of an utterance."""
        self._unsaved[number] = offset
        if time.monotonic() - self._saved_at > SAVE_INTERVAL:
            self.close()

    def close(self) -> None:
        """Write the rows, one block for each block that they were in, and record their new places."""
        numbers = np.array(list(self._unsaved), np.int64)
        offsets = torch.tensor(list(self._unsaved.values()))
        of_block = self._plan.block[numbers]
        for place in np.unique(of_block).tolist():
            chosen = np.flatnonzero(of_block == place)
            block = self._blocks[place].select(torch.from_numpy(self._plan.row[numbers[chosen]]))
            self.part.append(replace(block, audio=replace(block.audio, offset=offsets[torch.from_numpy(chosen)])))
            self._plan.block[numbers[chosen]], self._plan.row[numbers[chosen]] = self._n_blocks, np.arange(len(chosen))
            self._n_blocks += 1
        self._unsaved, self._saved_at = {}, time.monotonic()
