"""Compute rows, and append them to a part file while the next ones are computed."""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from corpora import Indices
from embedding import Row, Timing, embed_utterances
from features.job import ExtractionJob
from features.parts import Block, PartFile
from features.planning import Plan
from features.row_columns import MEAN_CHANNEL, AudioProvenance
from files import track

logger = logging.getLogger(__name__)

# Seconds between two writes of finished rows; the rows of this time are lost if a run is killed.
SAVE_INTERVAL = 1.0


def compute(job: ExtractionJob, plan: Plan, sources: Mapping[Path, Sequence[Block]], *, numbers: Indices) -> PartFile:
    """Compute the rows of some utterances, append them to a part file, and record their places in the plan.

    Parameters
    ----------
    job : ExtractionJob
    plan : Plan
    sources : mapping
        Blocks of each file, in the order in which the plan numbers them; the numbers of new blocks follow.
    numbers : ndarray (n,)
        int64, numbers of the utterances.
    """
    started, timing = time.perf_counter(), Timing()
    utterances = [job.corpus.utterances[number] for number in numbers.tolist()]
    rows = embed_utterances(
        utterances,
        job.encoder,
        job.crop,
        batch_size=job.batch_size,
        num_workers=job.num_workers,
        with_state=True,
        timing=timing,
    )
    shown = track(rows, "Extracting", len(utterances), unit="file", visible=job.progress)
    writer = _RowWriter(job, plan, n_blocks=sum(map(len, sources.values())))
    with contextlib.closing(writer), contextlib.closing(rows):  # after Ctrl-C too
        for number, row in zip(numbers.tolist(), shown, strict=True):
            writer.add(number, _cast(row, job.dtype))
    _log_speed(len(numbers), time.perf_counter() - started, timing, writer=writer)
    return writer.part


class _RowWriter:
    """Collects rows, and appends them to a part file about once a second in a thread.

    Attributes
    ----------
    part : PartFile
    seconds : float
        Length of the audio of all rows (seconds).
    blocked : float
        Time for which writing has kept the caller waiting (seconds).
    """

    def __init__(self, job: ExtractionJob, plan: Plan, n_blocks: int) -> None:
        self.part = PartFile(job.parts)
        self.seconds = self.blocked = 0.0
        self._job, self._plan, self._n_blocks = job, plan, n_blocks
        self._unsaved: list[tuple[int, Row]] = []
        self._saved_at = time.monotonic()
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def add(self, number: int, row: Row) -> None:
        """Add the row of an utterance; a row without a vector is recorded as a failure."""
        if row.vector is None:
            self._plan.failures[number] = str(row.error)
            return
        self._unsaved.append((number, row))
        self.seconds += row.seconds
        if time.monotonic() - self._saved_at > SAVE_INTERVAL:
            self._save()

    def close(self) -> None:
        """Write the remaining rows, and wait until they are on the disk."""
        try:
            if self._unsaved:
                self._save()
            self._wait()
        finally:
            self._thread.shutdown()

    def _save(self) -> None:
        self._wait()
        started = time.perf_counter()
        block = _make_block([row for _, row in self._unsaved], self._job)
        for place, (number, row) in enumerate(self._unsaved):
            assert row.file is not None
            self._plan.record_row(number, row.file, block=self._n_blocks, row=place)
        self._pending = self._thread.submit(self.part.append, block)
        self._unsaved, self._n_blocks, self._saved_at = [], self._n_blocks + 1, time.monotonic()
        self.blocked += time.perf_counter() - started

    def _wait(self) -> None:
        """Wait for the block that is being written, and raise its error if writing fails."""
        started = time.perf_counter()
        if self._pending is not None:
            self._pending.result()
        self.blocked += time.perf_counter() - started


def _make_block(rows: Sequence[Row], job: ExtractionJob) -> Block:
    files = [row.file for row in rows if row.file is not None]
    starts = [row.utterance.start for row in rows]
    lengths = [torch.nan if row.utterance.duration is None else row.utterance.duration for row in rows]
    channels = [MEAN_CHANNEL if row.utterance.channel is None else row.utterance.channel for row in rows]
    return Block(
        ids=tuple(row.utterance.id for row in rows),
        features=torch.stack([row.vector for row in rows if row.vector is not None]),
        durations=torch.tensor([row.seconds for row in rows]),
        audio=AudioProvenance(
            digest=torch.frombuffer(bytearray().join(file.digest for file in files), dtype=torch.uint8).reshape(-1, 32),
            size=torch.tensor([file.size for file in files]),
            mtime_ns=torch.tensor([file.mtime_ns for file in files]),
            start=torch.tensor(starts, dtype=torch.float64),
            duration=torch.tensor(lengths, dtype=torch.float64),
            channel=torch.tensor(channels),
            file_rate=torch.tensor([row.file_rate for row in rows]),
            offset=torch.tensor([row.offset for row in rows]),
            bandwidth=torch.tensor([row.bandwidth for row in rows]),
            rate=job.encoder.sample_rate,
            crop=job.crop,
        ),
        encoder=job.encoder.spec,
    )


def _cast(row: Row, dtype: torch.dtype) -> Row:
    """Cast the vector of a row to the stored type; a row whose vector is too large for it becomes a failure."""
    if row.vector is None or row.vector.dtype == dtype:
        return row
    vector = row.vector.to(dtype)
    if bool(torch.isfinite(vector).all()):
        return replace(row, vector=vector)
    return Row(row.utterance, error="its vector is too large for fp16; store it with --store_dtype fp32")


def _log_speed(n_files: int, elapsed: float, timing: Timing, *, writer: _RowWriter) -> None:
    """Log the speed of the extraction, and how the time was spent."""
    hours = writer.seconds / 3600
    if not hours:  # no file could be read
        return
    shares = [100 * part / elapsed for part in (timing.waiting, timing.forward, writer.blocked)]
    logger.info(
        "%.2f h of audio in %.1f s: %.2f h/s, %.0f files/s; time spent: %.0f %% waiting for decoding, %.0f %% forward, "
        "%.0f %% writing",
        hours, elapsed, hours / elapsed, n_files / elapsed, *shares,
    )  # fmt: skip
