"""The extraction engine: a corpus and an encoder in, a features file out; nothing is computed twice."""

import contextlib
import glob
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from corpora import Corpus
from encoders import Encoder, LazyEncoder, Spec, spec_digest, windows_of
from features.computing import Job, compute
from features.feature_set import FeaturesError, FeatureSet
from features.files import check_writable, write_atomically
from features.lock import LockedError, locked
from features.merging import describe, merge, same_rows
from features.parts import Block, block_of, read_part
from features.planning import Plan, make_plan
from features.provenance import StoredRows, check_same_origin

logger = logging.getLogger(__name__)

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
        part = compute(job, plan, sources, plan.missing())
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
    complete = _complete(job)
    if complete is not None:
        return complete
    check_writable(job.path.parent)
    name, work = f"{shard.index}-of-{shard.count}", _digest_of(job)
    done = job.parts / f"{name}.done"
    with _cleared(job.parts), locked(job.lock, shared=True), locked(job.parts / f"{name}.lock"):
        done.unlink(missing_ok=True)
        sources = _sources(job)
        plan = _plan(job, sources)
        missing = plan.missing()
        part = compute(job, plan, sources, missing[np.isin(missing, share_of(len(corpus), shard))])
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
) -> Job:
    """Check what can be checked before any work."""
    path = Path(path)
    _warn_of_clip(encoder.spec, max_duration)
    if store_dtype not in STORE_DTYPES:
        raise FeaturesError(f"There is no store_dtype {store_dtype!r}; choose one of: {', '.join(STORE_DTYPES)}.")
    return Job(corpus, encoder, path, max_duration, STORE_DTYPES[store_dtype], batch_size, num_workers, progress)


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


def _complete(job: Job) -> FeatureSet | None:
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


def _digest_of(job: Job) -> bytes:
    """Digest what is extracted: what a shard has done of one corpus says nothing of another."""
    about = [spec_digest(job.encoder.spec), str(job.crop), str(job.dtype), *job.corpus.ids]
    return hashlib.sha256("\n".join(about).encode("utf-8", "surrogatepass")).hexdigest().encode()


def share_of(n_utterances: int, shard: Shard) -> NDArray[np.int64]:
    """Return the numbers of the utterances that a shard takes."""
    order = np.random.default_rng(shard.count).permutation(n_utterances)
    return order[shard.index :: shard.count]


@contextlib.contextmanager
def _cleared(folder: Path) -> Iterator[None]:
    """Remove a folder at the end, if nothing is in it."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _plan(job: Job, sources: Mapping[Path, Sequence[Block]]) -> Plan:
    plan = make_plan(job.corpus, StoredRows([block for own in sources.values() for block in own]), job.progress)
    n_missing = int((plan.block < 0).sum())
    if 0 < n_missing < len(job.corpus):
        logger.info("%d of %d utterances are there already", len(job.corpus) - n_missing, len(job.corpus))
    return plan


def _sources(job: Job) -> dict[Path, list[Block]]:
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
