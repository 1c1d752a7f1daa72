"""Which utterances of a corpus have a stored row, by the content of their files."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from corpora import Corpus, Utterance
from features.provenance import Contents, Numbers, StoredRows, content_keys, file_digest
from features.worker import FileState


@dataclass(eq=False)
class Plan:
    """Where the row of each utterance is, or that it is missing.

    Attributes
    ----------
    utterances : sequence of Utterance
        n of them.
    size, mtime_ns : ndarray (n,)
        int64, size (bytes, -1 where there is no file) and time of change (ns) of each file.
    digest : ndarray (n, 32)
        uint8, SHA-256 of each file, where `is_digested`.
    is_digested : ndarray (n,)
        bool.
    block, row : ndarray (n,)
        int64, block of stored rows and row within it, -1 where there is none.
    failures : dict
        By the utterance's number, why it has no row.
    """

    utterances: Sequence[Utterance]
    size: Numbers
    mtime_ns: Numbers
    digest: NDArray[np.uint8]
    is_digested: NDArray[np.bool_]
    block: Numbers
    row: Numbers
    failures: dict[int, str] = field(default_factory=dict)

    def missing(self) -> Numbers:
        """Return the utterances without a row: those that are alike in length together, the longest first."""
        numbers = np.flatnonzero(self.block < 0)
        # Sizes of files stand for lengths that are not known.
        lengths = [(self.utterances[number].duration or np.inf, int(self.size[number])) for number in numbers.tolist()]
        order = sorted(range(len(numbers)), key=lambda place: lengths[place], reverse=True)
        return numbers[order]

    def keys(self, numbers: Numbers) -> Contents:
        """Return what the rows of utterances are found by."""
        return content_keys(self.digest[numbers], *self.spans(numbers))

    def spans(self, numbers: Numbers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return start and duration of utterances (seconds); a NaN duration is to the end of the file."""
        own = [self.utterances[number] for number in numbers.tolist()]
        durations = [np.nan if utterance.duration is None else utterance.duration for utterance in own]
        return np.array([utterance.start for utterance in own], np.float64), np.array(durations, np.float64)

    def take(self, number: int, file: FileState, block: int, row: int) -> None:
        """Note the row of an utterance that was missing."""
        self.size[number], self.mtime_ns[number] = file.size, file.mtime_ns
        self.digest[number] = np.frombuffer(file.digest, np.uint8)
        self.is_digested[number] = True
        self.block[number], self.row[number] = block, row


def make_plan(corpus: Corpus, stored: StoredRows, progress: bool = False, by_marks: bool = False) -> Plan:
    """Find the stored row of each utterance; by their marks alone, without opening a file, if that is asked.

    A file is known by its id, size and time of change. One that is not, but has the size of a file that is stored, was
    perhaps moved or touched: its digest tells. Any other file is new, and is not read here.
    """
    n = len(corpus)
    size, mtime_ns = _states(corpus.utterances)
    plan = Plan(
        corpus.utterances, size, mtime_ns, np.zeros((n, 32), np.uint8), np.zeros(n, np.bool_), np.full(n, -1),
        np.full(n, -1),
    )  # fmt: skip
    _match_marks(plan, corpus.ids, stored)
    sizes = np.unique(np.concatenate([np.empty(0, np.int64), *(block.audio.size.numpy() for block in stored.blocks)]))
    if not by_marks:
        _digest(plan, np.flatnonzero(~plan.is_digested & np.isin(size, sizes) & (size >= 0)), progress)
    known = np.flatnonzero(plan.is_digested)
    plan.block[known], plan.row[known] = stored.find(plan.keys(known))
    return plan


def _states(utterances: Sequence[Utterance]) -> tuple[Numbers, Numbers]:
    """Return size and time of change of each utterance's file."""
    size, mtime_ns = np.full(len(utterances), -1), np.full(len(utterances), -1)
    last, state = None, (-1, -1)
    for number, utterance in enumerate(utterances):
        if utterance.path != last:
            last, state = utterance.path, (-1, -1)
            try:
                status = os.stat(last)
                if S_ISREG(status.st_mode):
                    state = status.st_size, status.st_mtime_ns
            except (OSError, ValueError):  # who reads it will say why it cannot be read
                pass
        size[number], mtime_ns[number] = state
    return size, mtime_ns


def _match_marks(plan: Plan, ids: Sequence[str], stored: StoredRows) -> None:
    """Take the digests that are stored of files whose id, size and time of change are the same."""
    numbers = {utterance_id: number for number, utterance_id in enumerate(ids)}
    for block in stored.blocks:
        number = np.array([numbers.get(utterance_id, -1) for utterance_id in block.ids], np.int64)
        size, mtime_ns = block.audio.size.numpy(), block.audio.mtime_ns.numpy()
        same = (number >= 0) & (plan.size[number] == size) & (plan.mtime_ns[number] == mtime_ns)
        plan.digest[number[same]] = block.audio.digest.numpy()[same]
        plan.is_digested[number[same]] = True


def _digest(plan: Plan, numbers: Numbers, progress: bool) -> None:
    """Digest files, each once however many utterances it has."""
    by_path: dict[Path, list[int]] = {}
    for number in numbers.tolist():
        by_path.setdefault(plan.utterances[number].path, []).append(number)

    def digest(path: Path) -> bytes | None:
        number = by_path[path][0]
        try:
            return file_digest(path, int(plan.size[number]), int(plan.mtime_ns[number]))
        except OSError:
            return None

    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock
        digests = pool.map(digest, by_path)
        shown = tqdm(digests, "Comparing", len(by_path), unit="file", disable=None if progress else True)
        for own, found in zip(by_path.values(), shown, strict=True):
            if found is not None:
                plan.digest[own] = np.frombuffer(found, np.uint8)
                plan.is_digested[own] = True
