"""Merge the rows of many files into one features file, in the order of the corpus."""

import logging
import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from corpora import Indices, Split
from features.feature_set import FeatureSet
from features.given_arrays import as_splits
from features.job import ExtractionJob
from features.parts import Block, PartFile
from features.planning import Plan
from features.provenance import keys_of, merged_precision
from features.row_columns import COLUMNS, AudioProvenance
from features.set_checks import FeaturesError
from files import OutputError, count_of

logger = logging.getLogger(__name__)

# Vectors that are larger in all (bytes) are sorted in a temporary file instead of in memory.
MAX_BYTES_IN_MEMORY = 1 << 25


def merge(job: ExtractionJob, plan: Plan, sources: Mapping[Path, Sequence[Block]]) -> FeatureSet:
    """Write the features file, and remove the part files that its rows were in.

    Rows that the corpus does not use now are set aside in a part file: the corpus may be a part of a larger one, or the
    disk of some files may not be mounted. Rows of audio that is refused today are dropped.

    Parameters
    ----------
    job : ExtractionJob
    plan : Plan
        It numbers the blocks of all `sources`, in their order.
    sources : mapping
        Blocks of each part file, and of the features file if it exists.

    Raises
    ------
    FeaturesError
        No utterance has a row.
    OutputError
        The features file or a part file cannot be written.
    """
    path, parts, corpus = job.path, job.parts, job.corpus
    blocks = [block for file_blocks in sources.values() for block in file_blocks]
    numbers = np.flatnonzero(plan.block >= 0)
    if not len(numbers):
        first = min(plan.failures)
        raise FeaturesError(
            f"None of the {len(corpus)} utterances could be embedded. The first is {corpus.ids[first]}: "
            f"{plan.failures[first]}."
        )
    features = describe(job, plan, blocks, numbers=numbers)
    old = FeatureSet.load(path) if path in sources else None
    merged_parts = _set_aside(job, plan, sources, numbers=numbers)
    if old is None or not same_rows(old, features):
        gathered = _gather(blocks, plan.block[numbers], plan.row[numbers], folder=path.parent)
        replace(features, features=gathered).save(path)
        del gathered
    for file in (*merged_parts, *parts.glob("*.done")):  # last, so that each row is in some file at any moment
        file.unlink(missing_ok=True)
    if parts.exists() and not any(parts.iterdir()):
        parts.rmdir()
    return FeatureSet.load(path)


def describe(job: ExtractionJob, plan: Plan, blocks: Sequence[Block], *, numbers: Indices) -> FeatureSet:
    """Return the feature set of some utterances, by their numbers, without its vectors."""
    corpus, spec = job.corpus, job.encoder.spec
    utterances = [plan.utterances[number] for number in numbers.tolist()]
    speakers = sorted({utterance.speaker for utterance in utterances})
    sessions = sorted({utterance.session for utterance in utterances})
    columns = _gather_columns(plan, blocks, numbers)
    precision = merged_precision([blocks[block].encoder for block in np.unique(plan.block[numbers])])
    return FeatureSet(
        features=torch.empty(len(numbers), 0),
        labels=_indices([utterance.speaker for utterance in utterances], speakers),
        speakers=tuple(speakers),
        sessions=_indices([utterance.session for utterance in utterances], sessions),
        session_names=tuple(sessions),
        ids=tuple(corpus.ids[number] for number in numbers.tolist()),
        durations=columns.pop("durations"),
        encoder={**spec, "precision": precision},
        corpus=corpus.name,
        audio=AudioProvenance(**columns, rate=int(spec["sample_rate"]), crop=job.crop),
        failures=tuple((corpus.ids[number], reason) for number, reason in sorted(plan.failures.items())),
        splits=_splits([utterance.split for utterance in utterances]),
    )


def _splits(names: Sequence[Split | None]) -> Tensor | None:
    """Return the given split of each row, or None if the corpus gives none."""
    return as_splits(names, len(names)) if any(names) else None


def _gather_columns(plan: Plan, blocks: Sequence[Block], numbers: Indices) -> dict[str, Tensor]:
    """Return the columns of utterances: the current values from the plan, and the others from the stored rows."""
    columns = plan.columns(numbers)
    begins = np.cumsum([0, *map(len, blocks)])
    places = torch.from_numpy(begins[plan.block[numbers]] + plan.row[numbers])
    for column in COLUMNS:
        if column.name not in columns:
            empty = torch.empty((0, *column.shape), dtype=column.dtype)
            columns[column.name] = torch.cat([empty, *(block.columns()[column.name] for block in blocks)])[places]
    return columns


def _indices(names: Sequence[str], distinct: Sequence[str]) -> Tensor:
    """Return the index of each name in the list of distinct names."""
    index = {name: position for position, name in enumerate(distinct)}
    return torch.tensor([index[name] for name in names])


def same_rows(old: FeatureSet, new: FeatureSet) -> bool:
    """Return whether two sets have the same rows; vectors are not compared, since equal content has equal vectors."""
    assert old.audio is not None, "check_same_origin refuses sets without an AudioProvenance"
    assert new.audio is not None
    return (
        (old.speakers, old.session_names, old.ids) == (new.speakers, new.session_names, new.ids)
        and (old.failures, old.corpus, old.given_splits) == (new.failures, new.corpus, new.given_splits)
        and torch.equal(old.labels, new.labels)
        and torch.equal(old.sessions, new.sessions)
        and all(
            torch.equal(values.nan_to_num(-1.0), new.audio.columns()[name].nan_to_num(-1.0))  # an offset may be 0
            for name, values in old.audio.columns().items()
        )
    )


def _set_aside(
    job: ExtractionJob, plan: Plan, sources: Mapping[Path, Sequence[Block]], *, numbers: Indices
) -> list[Path]:
    """Copy the unused rows to a new part file, and return the part files that can be removed after the merge.

    A part file in which no row is used is left as it is.
    """
    path = job.path
    kept_keys = plan.keys(np.union1d(numbers, np.array(sorted(plan.refused), np.int64)))
    aside = PartFile(job.parts)
    removable, n_left = [], 0
    for file, blocks in sources.items():
        unused = [~np.isin(keys_of(block.audio), kept_keys) for block in blocks]
        if file != path and blocks and all(rows.all() for rows in unused):
            n_left += sum(map(len, blocks))
            continue
        for block, rows in zip(blocks, unused, strict=True):
            if rows.any():
                kept = block.select(torch.from_numpy(np.flatnonzero(rows)))
                aside.append(kept)
                kept_keys = np.concatenate([kept_keys, keys_of(kept.audio)])
        if file != path:
            removable.append(file)
    n_aside = aside.n_rows + n_left
    if n_aside:
        counted = count_of(n_aside, "row")
        logger.info("%s: %s of utterances that are not in the corpus kept in %s", path, counted, job.parts)
    return removable


def _gather(blocks: Sequence[Block], block: Indices, row: Indices, *, folder: Path) -> Tensor:
    """Return the vectors (n, D) or (n, L, D) at the given blocks and rows within them, both (n,)."""
    example = blocks[block[0]].features
    shape = (len(block), *example.shape[1:])
    gathered = _allocate(shape, example.dtype, folder)
    order = np.argsort(block, kind="stable")
    used, begins = np.unique(block[order], return_index=True)
    for number, places in zip(used.tolist(), np.split(order, begins[1:]), strict=True):
        gathered[torch.from_numpy(places)] = blocks[number].features[torch.from_numpy(row[places])]
    return gathered


def _allocate(shape: Sequence[int], dtype: torch.dtype, folder: Path) -> Tensor:
    """Return an uninitialised tensor, in a temporary file in the folder if it is large."""
    size = int(np.prod(shape)) * dtype.itemsize
    if size < MAX_BYTES_IN_MEMORY or not hasattr(os, "posix_fallocate"):
        return torch.empty(shape, dtype=dtype)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # Without space on the disk, writing to a mapped file would crash the process.
            os.posix_fallocate(file.fileno(), 0, size)
            mapped = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise OutputError(
            f"{folder}: there is no space for the {size / 1e9:.1f} GB that sorting the rows of the features file takes "
            f"({error.strerror or error}). All computed rows are kept. Free some space, and run the same command again."
        ) from error
    return torch.frombuffer(mapped, dtype=dtype).reshape(shape)
