"""The extraction engine: a corpus and an encoder in, a features file out; nothing is computed twice."""

import contextlib
import glob
import hashlib
import logging
import os
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
from encoders import Encoder, LazyEncoder, Spec, spec_digest, windows_of
from features.feature_set import AudioProvenance, FeaturesError, FeatureSet
from features.files import check_writable, write_atomically
from features.lock import LockedError, locked
from features.merging import describe, merge, same_rows
from features.parts import Block, PartFile, block_of, read_part
from features.pipeline import Row, Timing, embed_utterances
from features.planning import Plan, make_plan
from features.provenance import StoredRows, check_same_origin

logger = logging.getLogger(__name__)

# Seconds between two looks at what is finished but not on the disk yet: what a run that is killed does again.
SAVE_EVERY = 1.0
STORE_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class Shard:
    """Which share of a corpus a process takes: number `index` of `count`, from 0."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise FeaturesError(
                f"The shard is {self.index}/{self.count}; expected i/n with i from 0 to n - 1, such as 0/4."
            )


@dataclass(frozen=True, eq=False)
class _Job:
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


def extract(
    corpus: Corpus,
    encoder: Encoder | LazyEncoder,
    path: str | os.PathLike[str],
    max_duration: float | None = 10.0,
    store_dtype: str = "fp32",
    batch_size: int | None = None,
    num_workers: int | None = None,
    progress: bool = True,
) -> FeatureSet:
    """Embed a corpus into a features file, or complete the one that is there.

    A stored row is used while the content of its file, its span, the encoder's spec and the crop are the same, wherever
    the file lies now. Rows are appended to part files in ``{path}.parts`` as they are finished, so that a run that ends
    in any way is continued by the next; rows of utterances that the corpus no longer has are set aside there, and come
    back with them. Utterances that cannot be read are recorded as failures, and tried again the next time.

    Parameters
    ----------
    corpus : Corpus
    encoder : Encoder or LazyEncoder
        A lazy one is not built when nothing is missing.
    path : path-like
        The features file.
    max_duration : float, optional
        Crop: the most that is read of each utterance (seconds); None reads all.
    store_dtype : str
        ``fp32`` or ``fp16``.
    batch_size : int, optional
        Most utterances per forward; by default what suits the encoder's device.
    num_workers : int, optional
        Processes that decode and resample; by default one for each core, at most 16; 0 for none.
    progress : bool
        Show a progress bar, on a terminal.

    Returns
    -------
    FeatureSet
        In the order of the corpus, without the utterances in its `failures`.

    Raises
    ------
    FeaturesError
        The file at `path` is of another encoder, crop or type, or no utterance could be read.
    LockedError
        Another process writes to this file.
    OutputError
        The file cannot be written.
    """
    job = _job(corpus, encoder, path, max_duration, store_dtype, batch_size, num_workers, progress)
    complete = _complete(job)
    if complete is not None:
        logger.info("%s: %d utterances, 0 of them computed now", path, len(complete))
        return complete
    check_writable(job.path.parent)
    with locked(job.lock):
        for left in job.path.parent.glob(f".{glob.escape(job.path.name)}.*.tmp"):  # by a run that was killed
            left.unlink(missing_ok=True)
        sources = _sources(job)
        plan = _plan(job, sources)
        part = _compute(job, plan, sources, plan.missing())
        if part.path.exists():
            sources[part.path] = read_part(part.path)
        features = merge(job.path, job.parts, corpus, encoder.spec, job.crop, plan, sources)
    logger.info("%s: %d utterances, %d of them computed now", path, len(features), part.n_rows)
    return features


def extract_shard(
    corpus: Corpus,
    encoder: Encoder | LazyEncoder,
    path: str | os.PathLike[str],
    shard: Shard,
    max_duration: float | None = 10.0,
    store_dtype: str = "fp32",
    batch_size: int | None = None,
    num_workers: int | None = None,
    progress: bool = True,
) -> FeatureSet | tuple[tuple[str, str], ...]:
    """Compute one share of what a features file lacks, beside other processes, which need not know of each other.

    Each writes a part file of its own, so that one that is lost loses only its share; run again, in this number of
    shards or another, they go on. The one that is done last merges the parts, as `extract` at any later time would.

    The shares are strides through the corpus, shuffled by the number of shards: they depend on nothing that changes
    while the shards run, and what is missing after a loss spreads over any other number of shards.

    Parameters
    ----------
    corpus, encoder, path, max_duration, store_dtype, batch_size, num_workers, progress
        As for `extract`.
    shard : Shard

    Returns
    -------
    FeatureSet or tuple of (id, reason)
        The whole file where this was the last one; otherwise the utterances of this share that could not be read.

    Raises
    ------
    FeaturesError, LockedError, OutputError
        As for `extract`; locked is also a shard that runs already.
    """
    job = _job(corpus, encoder, path, max_duration, store_dtype, batch_size, num_workers, progress)
    check_writable(job.path.parent)
    name, work = f"{shard.index}-of-{shard.count}", _digest_of(job)
    done = job.parts / f"{name}.done"
    with locked(job.lock, shared=True), locked(job.parts / f"{name}.lock"):
        done.unlink(missing_ok=True)
        sources = _sources(job)
        plan = _plan(job, sources)
        missing = plan.missing()
        part = _compute(job, plan, sources, missing[np.isin(missing, share_of(len(corpus), shard))])
        write_atomically(done, lambda file: file.write(work))
    logger.info("%s: shard %s: %d utterances computed now", path, name, part.n_rows)
    if all(_is_done(job.parts / f"{index}-of-{shard.count}.done", work) for index in range(shard.count)):
        # Of two that see that they are the last, or of one that has not let go yet, one goes on.
        with contextlib.suppress(LockedError):
            return extract(corpus, encoder, path, max_duration, store_dtype, batch_size, num_workers, progress)
    return tuple((corpus.ids[number], reason) for number, reason in sorted(plan.failures.items()))


def _job(
    corpus: Corpus,
    encoder: Encoder | LazyEncoder,
    path: str | os.PathLike[str],
    max_duration: float | None,
    store_dtype: str,
    batch_size: int | None,
    num_workers: int | None,
    progress: bool,
) -> _Job:
    """Check what can be checked before any work."""
    path = Path(path)
    _warn_of_clip(encoder.spec, max_duration)
    if store_dtype not in STORE_DTYPES:
        raise FeaturesError(f"There is no store_dtype {store_dtype!r}; choose one of: {', '.join(STORE_DTYPES)}.")
    return _Job(corpus, encoder, path, max_duration, STORE_DTYPES[store_dtype], batch_size, num_workers, progress)


def _warn_of_clip(spec: Spec, max_duration: float | None) -> None:
    """Tell that an encoder does not hear all that it would be given."""
    clip = spec.get("clip_seconds")
    if clip is not None and windows_of(spec) is None and (max_duration is None or max_duration > clip):
        logger.warning(
            "The encoder %s hears the first %g s of an utterance; --window %g averages over all of it.",
            spec["name"],
            clip,
            clip,
        )


def _complete(job: _Job) -> FeatureSet | None:
    """Return the features file if it is all that was asked for, by the marks of the files; nothing is written."""
    if not job.path.exists() or job.parts.exists():
        return None
    finished = FeatureSet.load(job.path)
    check_same_origin(job.path, finished, job.encoder.spec, job.crop, job.dtype)
    blocks = [block_of(finished)]
    plan = make_plan(job.corpus, StoredRows(blocks), by_marks=True)
    if (plan.block < 0).any():
        return None
    wanted = describe(job.corpus, job.encoder.spec, job.crop, plan, blocks, np.arange(len(job.corpus)))
    return finished if same_rows(finished, wanted) else None


def _is_done(mark: Path, work: bytes) -> bool:
    try:
        return mark.read_bytes() == work
    except FileNotFoundError:
        return False


def _digest_of(job: _Job) -> bytes:
    """Digest what is extracted: what a shard has done of one corpus says nothing of another."""
    about = [spec_digest(job.encoder.spec), str(job.crop), str(job.dtype), *job.corpus.ids]
    return hashlib.sha256("\n".join(about).encode("utf-8", "surrogatepass")).hexdigest().encode()


def share_of(n_utterances: int, shard: Shard) -> NDArray[np.int64]:
    """Return the numbers of the utterances that a shard takes."""
    order = np.random.default_rng(shard.count).permutation(n_utterances)
    return order[shard.index :: shard.count]


def _plan(job: _Job, sources: Mapping[Path, Sequence[Block]]) -> Plan:
    return make_plan(job.corpus, StoredRows([block for own in sources.values() for block in own]), job.progress)


def _sources(job: _Job) -> dict[Path, list[Block]]:
    """Open the rows that are stored: in the features file, and in the parts of runs that were interrupted."""
    sources = {}
    if job.path.exists():
        finished = FeatureSet.load(job.path)
        check_same_origin(job.path, finished, job.encoder.spec, job.crop, job.dtype)
        sources[job.path] = [block_of(finished)]
    for part in sorted(job.parts.glob("*.part")):
        try:
            blocks = read_part(part)
            for number, block in enumerate(blocks):
                if number == 0 or _origin(block) != _origin(blocks[0]):
                    check_same_origin(part, block, job.encoder.spec, job.crop, job.dtype)
                _check_vectors(part, block, job.encoder.spec)
        except FeaturesError as error:
            logger.warning("A part is passed over. %s", error)
        else:
            sources[part] = blocks
    return sources


def _origin(block: Block) -> tuple[Spec, float | None, torch.dtype]:
    return block.encoder, block.audio.crop, block.features.dtype


def _check_vectors(part: Path, block: Block, spec: Spec) -> None:
    layers = [len(spec["layers"])] if len(spec["layers"]) > 1 else []
    if list(block.features.shape[1:]) != [*layers, spec["dim"]] or not bool(torch.isfinite(block.features).all()):
        raise FeaturesError(f"{part}: its vectors are not those of the encoder {spec['name']!r}; delete this file.")


def _compute(job: _Job, plan: Plan, sources: Mapping[Path, Sequence[Block]], numbers: NDArray[np.int64]) -> PartFile:
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


def _block(rows: Sequence[Row], job: _Job) -> Block:
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
    if not n_files:
        return
    shares = [100 * part / elapsed for part in (timing.waiting, timing.forward, writing)]
    logger.info(
        "%.2f h of audio in %.1f s: %.2f h/s, %.0f files/s; of the time %.0f %% waiting for decoding, %.0f %% forward, "
        "%.0f %% writing",
        seconds / 3600, elapsed, seconds / 3600 / elapsed, n_files / elapsed, *shares,
    )  # fmt: skip
