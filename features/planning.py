"""Find the stored row of each utterance, and list the utterances that have none."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from corpora import Corpus, Indices, Utterance
from embedding import FileState
from features.provenance import ContentKeys, StoredRows, content_keys
from features.row_columns import MEAN_CHANNEL
from files import file_digest, track


@dataclass(eq=False)
class Plan:
    """Where the row of each utterance is stored, if it is.

    Attributes
    ----------
    utterances : sequence of Utterance
        The n utterances of the corpus.
    size, mtime_ns : ndarray (n,)
        int64, size (bytes) and modification time (ns) of each file; -1 if there is no file.
    digest : ndarray (n, 32)
        uint8, SHA-256 of each file; zeros if it is not known.
    is_digested : ndarray (n,)
        bool, whether the digest is known.
    block, row : ndarray (n,)
        int64, block of the stored row, and row within the block; -1 if the row is missing.
    failures : dict
        Reason why an utterance has no row, by its number.
    refused : set of int
        Numbers of utterances whose stored row is dropped, because their audio is refused today.
    """

    utterances: Sequence[Utterance]
    size: Indices
    mtime_ns: Indices
    digest: NDArray[np.uint8]
    is_digested: NDArray[np.bool_]
    block: Indices
    row: Indices
    failures: dict[int, str] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)

    def missing(self) -> Indices:
        """Return the numbers of the utterances without a row, the longest utterances first."""
        numbers = np.flatnonzero(self.block < 0)
        # Utterances whose length is not known come first, sorted by the size of their files.
        lengths = [(self.utterances[number].duration or np.inf, int(self.size[number])) for number in numbers.tolist()]
        order = sorted(range(len(numbers)), key=lambda place: lengths[place], reverse=True)
        return numbers[order]

    def keys(self, numbers: Indices) -> ContentKeys:
        """Return the keys (see `content_keys`) of utterances, by their numbers."""
        return content_keys(self.digest[numbers], *self.spans(numbers), channels=self.channels(numbers))

    def channels(self, numbers: Indices) -> Indices:
        """Return the channels of utterances; `MEAN_CHANNEL` means the mean of all."""
        chosen = [self.utterances[number].channel for number in numbers.tolist()]
        return np.array([MEAN_CHANNEL if channel is None else channel for channel in chosen], np.int64)

    def spans(self, numbers: Indices) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return start and duration of utterances (seconds); NaN means to the end of the file."""
        selected = [self.utterances[number] for number in numbers.tolist()]
        durations = [np.nan if utterance.duration is None else utterance.duration for utterance in selected]
        return np.array([utterance.start for utterance in selected], np.float64), np.array(durations, np.float64)

    def columns(self, numbers: Indices) -> dict[str, Tensor]:
        """Return the columns of `AudioProvenance` that follow from the corpus and its files, for some utterances."""
        starts, durations = self.spans(numbers)
        return {
            "digest": torch.from_numpy(self.digest[numbers]),
            "size": torch.from_numpy(self.size[numbers]),
            "mtime_ns": torch.from_numpy(self.mtime_ns[numbers]),
            "start": torch.from_numpy(starts),
            "duration": torch.from_numpy(durations),
            "channel": torch.from_numpy(self.channels(numbers)),
        }

    def record_row(self, number: int, file: FileState, *, block: int, row: int) -> None:
        """Record the place of a row that was missing, and the state of the file that it was computed from."""
        self.size[number], self.mtime_ns[number] = file.size, file.mtime_ns
        self.digest[number] = np.frombuffer(file.digest, np.uint8)
        self.is_digested[number] = True
        self.block[number], self.row[number] = block, row


def make_plan(corpus: Corpus, stored: StoredRows, *, progress: bool = False, stat_only: bool = False) -> Plan:
    """Find the stored row of each utterance.

    A file whose id, size and modification time are stored has not changed. Of the other files, those with the size of a
    stored file may have been moved or touched, so they are digested. All others are new, and are not read here.

    Parameters
    ----------
    corpus : Corpus
    stored : StoredRows
    progress : bool
        Whether to show the progress while files are digested, as `files.track` does.
    stat_only : bool
        Whether to compare only ids, sizes and modification times, without opening files.
    """
    n = len(corpus)
    size, mtime_ns = _states(corpus.utterances)
    plan = Plan(
        utterances=corpus.utterances,
        size=size,
        mtime_ns=mtime_ns,
        digest=np.zeros((n, 32), np.uint8),
        is_digested=np.zeros(n, np.bool_),
        block=np.full(n, -1),
        row=np.full(n, -1),
    )
    _match_by_stat(plan, corpus.ids, stored)
    sizes = np.unique(np.concatenate([np.empty(0, np.int64), *(block.audio.size.numpy() for block in stored.blocks)]))
    if not stat_only:
        _digest(plan, np.flatnonzero(~plan.is_digested & np.isin(size, sizes) & (size >= 0)), progress)
    known = np.flatnonzero(plan.is_digested)
    plan.block[known], plan.row[known] = stored.find(plan.keys(known))
    return plan


def _states(utterances: Sequence[Utterance]) -> tuple[Indices, Indices]:
    """Return size and modification time (ns) of the file of each utterance; -1 if there is no file."""
    size, mtime_ns = np.full(len(utterances), -1), np.full(len(utterances), -1)
    last, state = None, (-1, -1)
    for number, utterance in enumerate(utterances):
        if utterance.path != last:
            last, state = utterance.path, (-1, -1)
            try:
                status = os.stat(last)
                if S_ISREG(status.st_mode):
                    state = status.st_size, status.st_mtime_ns
            except (OSError, ValueError):  # the error is reported when the file is read
                pass
        size[number], mtime_ns[number] = state
    return size, mtime_ns


def _match_by_stat(plan: Plan, ids: Sequence[str], stored: StoredRows) -> None:
    """Copy the stored digests of files whose id, size and modification time are the same."""
    numbers = {utterance_id: number for number, utterance_id in enumerate(ids)}
    for block in stored.blocks:
        number = np.array([numbers.get(utterance_id, -1) for utterance_id in block.ids], np.int64)
        size, mtime_ns = block.audio.size.numpy(), block.audio.mtime_ns.numpy()
        same = (number >= 0) & (plan.size[number] == size) & (plan.mtime_ns[number] == mtime_ns)
        plan.digest[number[same]] = block.audio.digest.numpy()[same]
        plan.is_digested[number[same]] = True


def _digest(plan: Plan, numbers: Indices, progress: bool) -> None:
    """Digest the files of utterances, each file once even if it has several utterances."""
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
        shown = track(digests, "Comparing", len(by_path), unit="file", visible=progress)
        for in_file, found in zip(by_path.values(), shown, strict=True):
            if found is not None:
                plan.digest[in_file] = np.frombuffer(found, np.uint8)
                plan.is_digested[in_file] = True
