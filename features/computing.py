"""Utterances to rows in a part file, as fast as decoding and the encoder allow."""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from corpora import Corpus
from encoders import Encoder, LazyEncoder
from features.feature_set import AudioProvenance
from features.parts import Block, PartFile
from features.pipeline import Row, Timing, embed_utterances
from features.planning import Plan

logger = logging.getLogger(__name__)

# Seconds between two looks at what is finished but not on the disk yet: what a run that is killed does again.
SAVE_EVERY = 1.0


@dataclass(frozen=True, eq=False)
class Job:
    """What all of an extraction is about."""

    corpus: Corpus
    encoder: Encoder | LazyEncoder
    path: Path
    crop: float | None
    dtype: torch.dtype
    batch_size: int | None
    num_workers: int | None
    progress: bool

    @property
    def parts(self) -> Path:
        """Where rows are kept that are finished, and not in the features file."""
        return self.path.with_name(self.path.name + ".parts")

    @property
    def lock(self) -> Path:
        """What a run holds while it writes."""
        return self.path.with_name(self.path.name + ".lock")


def compute(job: Job, plan: Plan, sources: Mapping[Path, Sequence[Block]], numbers: NDArray[np.int64]) -> PartFile:
    """Compute the rows of some utterances into a part file, and note in the plan where they are."""
    part = PartFile(job.parts)
    started, timing, writing = time.perf_counter(), Timing(), 0.0
    n_blocks = sum(map(len, sources.values()))
    utterances = [job.corpus.utterances[number] for number in numbers.tolist()]
    rows = embed_utterances(
        utterances, job.encoder, job.crop, job.batch_size, job.num_workers, with_state=True, timing=timing
    )
    shown = tqdm(rows, "Extracting", len(utterances), unit="file", disable=None if job.progress else True)
    unsaved: list[tuple[int, Row]] = []
    seconds = 0.0
    saved_at = time.monotonic()
    with ThreadPoolExecutor(1) as writer, contextlib.closing(rows):
        pending: Future[None] | None = None

        def save() -> None:
            nonlocal unsaved, pending, n_blocks, saved_at, writing
            before = time.perf_counter()
            if pending is not None:
                pending.result()  # a disk that is full is told here
            block = _block([row for _, row in unsaved], job)
            for place, (number, row) in enumerate(unsaved):
                assert row.file is not None
                plan.take(number, row.file, n_blocks, place)
            pending = writer.submit(part.append, block)
            unsaved, n_blocks, saved_at = [], n_blocks + 1, time.monotonic()
            writing += time.perf_counter() - before

        try:
            for number, row in zip(numbers.tolist(), shown, strict=True):
                row = _stored_as(row, job.dtype)
                if row.vector is None:
                    plan.failures[number] = str(row.error)
                    continue
                unsaved.append((number, row))
                seconds += row.seconds
                if time.monotonic() - saved_at > SAVE_EVERY:
                    save()
        finally:  # Ctrl-C too
            if unsaved:
                save()
            before = time.perf_counter()
            if pending is not None:
                pending.result()
            writing += time.perf_counter() - before
    _tell(len(numbers), seconds, time.perf_counter() - started, timing, writing)
    return part


def _block(rows: Sequence[Row], job: Job) -> Block:
    files = [row.file for row in rows if row.file is not None]
    spans = [(row.utterance.start, row.utterance.duration) for row in rows]
    return Block(
        ids=tuple(row.utterance.id for row in rows),
        features=torch.stack([row.vector for row in rows if row.vector is not None]),
        durations=torch.tensor([row.seconds for row in rows]),
        audio=AudioProvenance(
            digest=torch.frombuffer(bytearray().join(file.digest for file in files), dtype=torch.uint8).reshape(-1, 32),
            size=torch.tensor([file.size for file in files]),
            mtime_ns=torch.tensor([file.mtime_ns for file in files]),
            start=torch.tensor([start for start, _ in spans], dtype=torch.float64),
            duration=torch.tensor(
                [torch.nan if length is None else length for _, length in spans], dtype=torch.float64
            ),
            rate=job.encoder.sample_rate,
            crop=job.crop,
        ),
        encoder=job.encoder.spec,
    )


def _stored_as(row: Row, dtype: torch.dtype) -> Row:
    """Cast a row to what it is stored in; one that does not fit becomes a failure."""
    if row.vector is None or row.vector.dtype == dtype:
        return row
    vector = row.vector.to(dtype)
    if bool(torch.isfinite(vector).all()):
        return replace(row, vector=vector)
    return Row(row.utterance, error="its vector is too large for fp16; store it with --store_dtype fp32")


def _tell(n_files: int, seconds: float, elapsed: float, timing: Timing, writing: float) -> None:
    """Say how fast it went, and what it waited for."""
    if not seconds:  # of files that cannot be read nothing is to be told here
        return
    shares = [100 * part / elapsed for part in (timing.waiting, timing.forward, writing)]
    logger.info(
        "%.2f h of audio in %.1f s: %.2f h/s, %.0f files/s; of the time %.0f %% waiting for decoding, %.0f %% forward, "
        "%.0f %% writing",
        seconds / 3600, elapsed, seconds / 3600 / elapsed, n_files / elapsed, *shares,
    )  # fmt: skip
