"""Rows of many files into one features file, in the order of the corpus."""

import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from corpora import Corpus
from encoders import Spec
from features.feature_set import AUDIO_COLUMNS, AudioProvenance, FeaturesError, FeatureSet
from features.files import OutputError
from features.parts import Block, PartFile
from features.planning import Plan
from features.provenance import Numbers, keys_of, merged_precision

# Vectors beyond this (bytes) are put in order in a file instead of in memory.
LARGE = 1 << 25


def merge(
    path: Path,
    parts: Path,
    corpus: Corpus,
    spec: Spec,
    crop: float | None,
    plan: Plan,
    sources: Mapping[Path, Sequence[Block]],
) -> FeatureSet:
    """Write the features file, and clear up the files that its rows were in.

    Rows that the corpus has no use for now are set aside in a part file: it may be a part of a larger one, or on a disk
    that is away.

    Parameters
    ----------
    path : Path
        The features file.
    parts : Path
        Folder of the part files.
    corpus, spec, crop
        What the rows are of.
    plan : Plan
        Whose blocks are those of `sources`, in this order.
    sources : mapping
        Blocks of each file, the features file itself among them if it is there.
    """
    blocks = [block for own in sources.values() for block in own]
    done = np.flatnonzero(plan.block >= 0)
    if not len(done):
        first = min(plan.failures)
        raise FeaturesError(
            f"None of the {len(corpus)} utterances could be used. The first, {corpus.ids[first]}: "
            f"{plan.failures[first]}."
        )
    features = describe(corpus, spec, crop, plan, blocks, done)
    old = FeatureSet.load(path) if path in sources else None
    spent = _set_aside(path, parts, plan, sources, done)
    if old is None or not same_rows(old, features):
        gathered = _gather(blocks, plan.block[done], plan.row[done], path.parent)
        replace(features, features=gathered).save(path)
        del gathered
    for file in (*spent, *parts.glob("*.done")):  # last, so that at any moment each row is in some file
        file.unlink(missing_ok=True)
    if parts.exists() and not any(parts.iterdir()):
        parts.rmdir()
    return FeatureSet.load(path)


def describe(
    corpus: Corpus, spec: Spec, crop: float | None, plan: Plan, blocks: Sequence[Block], done: Numbers
) -> FeatureSet:
    """Return the set that a plan makes, without its vectors."""
    own = [plan.utterances[number] for number in done.tolist()]
    speakers = sorted({utterance.speaker for utterance in own})
    sessions = sorted({utterance.session for utterance in own})
    starts, durations = plan.spans(done)
    seconds = torch.cat([torch.empty(0), *(block.durations for block in blocks)])
    begins = np.cumsum([0, *map(len, blocks)])
    return FeatureSet(
        features=torch.empty(len(done), 0),
        labels=_numbers([utterance.speaker for utterance in own], speakers),
        speakers=tuple(speakers),
        sessions=_numbers([utterance.session for utterance in own], sessions),
        session_names=tuple(sessions),
        ids=tuple(corpus.ids[number] for number in done.tolist()),
        durations=seconds[torch.from_numpy(begins[plan.block[done]] + plan.row[done])],
        encoder={
            **spec,
            "precision": merged_precision([blocks[number].encoder for number in np.unique(plan.block[done])]),
        },
        corpus=corpus.name,
        audio=AudioProvenance(
            digest=torch.from_numpy(plan.digest[done]),
            size=torch.from_numpy(plan.size[done]),
            mtime_ns=torch.from_numpy(plan.mtime_ns[done]),
            start=torch.from_numpy(starts),
            duration=torch.from_numpy(durations),
            rate=int(spec["sample_rate"]),
            crop=crop,
        ),
        failures=tuple((corpus.ids[number], reason) for number, reason in sorted(plan.failures.items())),
    )


def _numbers(names: Sequence[str], known: Sequence[str]) -> Tensor:
    number = {name: position for position, name in enumerate(known)}
    return torch.tensor([number[name] for name in names])


def same_rows(old: FeatureSet, new: FeatureSet) -> bool:
    """Tell whether a file already says all that would be written; equal digests and spans stand for equal vectors."""
    assert old.audio is not None, "check_same_origin has refused those without"
    assert new.audio is not None
    tables = ("speakers", "session_names", "ids", "failures", "corpus")
    return (
        all(getattr(old, name) == getattr(new, name) for name in tables)
        and torch.equal(old.labels, new.labels)
        and torch.equal(old.sessions, new.sessions)
        and all(
            torch.equal(getattr(old.audio, name).nan_to_num(), getattr(new.audio, name).nan_to_num())
            for name in AUDIO_COLUMNS
        )
    )


def _set_aside(
    path: Path, parts: Path, plan: Plan, sources: Mapping[Path, Sequence[Block]], done: Numbers
) -> list[Path]:
    """Save the rows that are in no use, unless they are alone in their file; return the parts that are spent then."""
    taken = plan.keys(done)
    aside = PartFile(parts)
    spent = []
    for file, blocks in sources.items():
        unused = [~np.isin(keys_of(block.audio), taken) for block in blocks]
        if file != path and blocks and all(rows.all() for rows in unused):
            continue
        for block, rows in zip(blocks, unused, strict=True):
            if rows.any():
                kept = block.select(torch.from_numpy(np.flatnonzero(rows)))
                aside.append(kept)
                taken = np.concatenate([taken, keys_of(kept.audio)])
        if file != path:
            spent.append(file)
    return spent


def _gather(blocks: Sequence[Block], block: Numbers, row: Numbers, folder: Path) -> Tensor:
    """Put rows in order: (n, D) or (n, L, D)."""
    example = blocks[block[0]].features
    shape = (len(block), *example.shape[1:])
    gathered = _empty(shape, example.dtype, folder)
    order = np.argsort(block, kind="stable")
    used, begins = np.unique(block[order], return_index=True)
    for number, places in zip(used.tolist(), np.split(order, begins[1:]), strict=True):
        gathered[torch.from_numpy(places)] = blocks[number].features[torch.from_numpy(row[places])]
    return gathered


def _empty(shape: Sequence[int], dtype: torch.dtype, folder: Path) -> Tensor:
    size = int(np.prod(shape)) * dtype.itemsize
    if size < LARGE or not hasattr(os, "posix_fallocate"):
        return torch.empty(shape, dtype=dtype)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a map of a file that the disk does not hold is a crash
            mapped = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise OutputError(
            f"{folder}: there is no room for {size / 1e9:.1f} GB beside the features file, to put its rows in order "
            f"({error.strerror or error}). What was computed is kept; make room, and run the same command again."
        ) from error
    return torch.frombuffer(mapped, dtype=dtype).reshape(shape)
