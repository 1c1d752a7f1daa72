"""The extraction engine: embeds a corpus into a features file, and computes no row twice.

An extraction has these steps, each in a file of its own:

1. plan (`features.planning`)
   Find the stored row of each utterance. A row is identified by its content: the digest of the file, the span in it,
   the encoder's spec and the crop. Ids, sizes and modification times are a shortcut: files that have not changed are
   not opened. Rows may be stored in the features file, and in the part files of earlier runs.

2. measure (`features.measuring`)
   Decode the utterances whose row has no DC offset, because an earlier version computed it. If the audio has an offset,
   the row is missing; all other rows are kept.

3. compute (`features.computing`, with `embedding`)
   Decode and embed the utterances that have no row, the longest first.

4. part file (`features.parts`)
   Append finished rows, about once a second, to this process's part file in ``{path}.parts``. Each block has a
   checksum. A run that is killed loses only the block that it was writing.

5. merge (`features.merging`)
   Sort all rows in the order of the corpus, write the features file atomically, and remove the part files. Rows that
   the corpus does not use now are first set aside in a new part file.

Invariants, each with a test:

- One process, several shards, and a run that was killed and continued give the same rows in the same order.
- At any moment each finished row is in a file, and the features file is complete or absent.
- A corpus that was moved, and files that were touched, are not recomputed; files whose content changed are.
- Rows of another encoder, layer, pooling, weights or crop are refused; the message lists the differences.
- One process writes to a features file at a time (`features.lock`). Shards share its lock, and each shard has its own.
- A file that cannot be read is a failure in the result, and the next run tries it again.
"""

import contextlib
import glob
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from corpora import Corpus, Indices
from encoders import Encoder, LazyEncoder, spec_digest
from features.computing import compute
from features.feature_set import FeatureSet
from features.job import ExtractionJob, MaxDuration, make_job
from features.lock import LockedError, locked
from features.measuring import find_unmeasured, measure
from features.merging import describe, merge, same_rows
from features.narrow_band import find_narrow_speakers
from features.parts import Block, PartFile, block_of, read_part
from features.planning import Plan, make_plan
from features.provenance import StoredRows, check_same_origin
from features.set_checks import FeaturesError
from features.sources import open_sources
from files import check_destination, check_writable, write_atomically

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """Share of a corpus that one process extracts: number `index` of `count`, counted from 0."""

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
    *,
    max_duration: MaxDuration = "auto",
    store_dtype: str = "fp32",
    batch_size: int | None = None,
    num_workers: int | None = None,
    progress: bool = True,
) -> FeatureSet:
    """Embed a corpus into a features file, or complete the file if it exists.

    A stored row is used if the content of the audio file, the span, the encoder's spec and the crop are the same; the
    path of the audio file may differ. Finished rows are appended to part files in ``{path}.parts``, so that the next
    run continues a run that was interrupted or killed. Rows of utterances that are no longer in the corpus are set
    aside there, and are used if they are in it again. Utterances that cannot be read are recorded as failures, and are
    tried again by the next run.

    Parameters
    ----------
    corpus : Corpus
    encoder : Encoder or LazyEncoder
        A lazy encoder is not built if no row is missing.
    path : path-like
        The features file.
    max_duration : float, "auto" or None
        Crop: maximum length of the part of each utterance that is read (seconds). ``auto`` is the encoder's default,
        None reads whole utterances.
    store_dtype : str
        ``fp32`` or ``fp16``.
    batch_size : int, optional
        Maximum number of utterances per forward pass; the default depends on the encoder's device.
    num_workers : int, optional
        Number of processes that decode and resample, by default one per core, at most 16; 0 uses threads.
    progress : bool
        Whether to show the progress: a bar on a terminal, otherwise a line a minute in the log.

    Returns
    -------
    FeatureSet
        Rows in the order of the corpus; utterances that cannot be read are in its `failures`.

    Raises
    ------
    FeaturesError
        The file at `path` has another encoder, crop or type, or no utterance can be embedded.
    LockedError
        Another process is writing to this file.
    OutputError
        The file cannot be written.
    """
    job = make_job(
        corpus,
        encoder,
        Path(path),
        max_duration=max_duration,
        store_dtype=store_dtype,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
    )
    return _extract(job)


def extract_shard(
    corpus: Corpus,
    encoder: Encoder | LazyEncoder,
    path: str | os.PathLike[str],
    *,
    shard: Shard,
    max_duration: MaxDuration = "auto",
    store_dtype: str = "fp32",
    batch_size: int | None = None,
    num_workers: int | None = None,
    progress: bool = True,
) -> FeatureSet | tuple[tuple[str, str], ...]:
    """Compute one share of the missing rows of a features file, while other processes compute the other shares.

    The processes do not communicate. Each writes its own part file, so that a process that is killed loses only rows of
    its share. If the shards are run again, in the same or another number, they compute what is missing. The shard that
    finishes last merges the parts; `extract` can do it at any later time.

    The shares are strides through the corpus, shuffled with the number of shards as the seed. They do not depend on
    anything that changes while the shards run, and rows that are missing after a failure are spread evenly over any
    other number of shards.

    Parameters
    ----------
    corpus, encoder, path, max_duration, store_dtype, batch_size, num_workers, progress
        As in `extract`.
    shard : Shard

    Returns
    -------
    FeatureSet or tuple of (id, reason)
        The complete set if this shard finished last, otherwise the utterances of this share that could not be read.

    Raises
    ------
    FeaturesError, LockedError, OutputError
        As in `extract`. LockedError is also raised if another process is running this shard.
    """
    job = make_job(
        corpus,
        encoder,
        Path(path),
        max_duration=max_duration,
        store_dtype=store_dtype,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
    )
    complete = _complete(job)
    if complete is not None:
        return complete
    check_destination(job.path)
    check_writable(job.path.parent)
    name, digest = f"{shard.index}-of-{shard.count}", _digest_of(job)
    done = job.parts / f"{name}.done"
    with _removed_if_empty(job.parts), locked(job.lock, shared=True), locked(job.parts / f"{name}.lock"):
        done.unlink(missing_ok=True)
        sources = open_sources(job)
        plan = _plan(job, sources)
        part = _complete_rows(job, plan, sources, numbers=share_of(len(corpus), shard))
        write_atomically(done, lambda file: file.write(digest))
    logger.info("%s: shard %s: %d utterances computed now", path, name, part.n_rows)
    if all(_is_done(job.parts / f"{index}-of-{shard.count}.done", digest) for index in range(shard.count)):
        # Two shards may both find that all are done. The lock lets one of them merge.
        with contextlib.suppress(LockedError):
            return _extract(job)
    return tuple((corpus.ids[number], reason) for number, reason in sorted(plan.failures.items()))


def _extract(job: ExtractionJob) -> FeatureSet:
    complete = _complete(job)
    if complete is not None:
        logger.info("%s: %d utterances, 0 of them computed now", job.path, len(complete))
        _warn_of_narrow_speakers(job.path, complete)
        return complete
    check_destination(job.path)
    check_writable(job.path.parent)
    with locked(job.lock):
        # Temporary files of runs that were killed.
        for temporary in job.path.parent.glob(f".{glob.escape(job.path.name)}.*.tmp"):
            temporary.unlink(missing_ok=True)
        sources = open_sources(job)
        plan = _plan(job, sources)
        part = _complete_rows(job, plan, sources, numbers=np.arange(len(job.corpus)))
        features = merge(job, plan, sources)
    logger.info("%s: %d utterances, %d of them computed now", job.path, len(features), part.n_rows)
    _warn_of_narrow_speakers(job.path, features)
    return features


def _complete_rows(job: ExtractionJob, plan: Plan, sources: dict[Path, list[Block]], *, numbers: Indices) -> PartFile:
    """Measure stored rows of earlier versions, then compute missing rows; return the part file of the computed rows.

    `numbers` are the utterances of this process. The part files are added to the sources.
    """
    unmeasured = find_unmeasured(plan, [block for blocks in sources.values() for block in blocks])
    measured = measure(job, plan, sources, numbers=unmeasured[np.isin(unmeasured, numbers)])
    _add_part(sources, measured)
    missing = plan.missing()
    computed = compute(job, plan, sources, numbers=missing[np.isin(missing, numbers)])
    _add_part(sources, computed)
    return computed


def _add_part(sources: dict[Path, list[Block]], part: PartFile) -> None:
    if part.path.exists():
        sources[part.path] = read_part(part.path)


def _warn_of_narrow_speakers(path: Path, features: FeatureSet) -> None:
    for sentence in find_narrow_speakers(features):
        logger.warning("%s: %s.", path, sentence)


def _complete(job: ExtractionJob) -> FeatureSet | None:
    """Return the content of the features file if it is complete; open no audio file, and write nothing."""
    if not job.path.exists() or job.parts.exists():
        return None
    finished = FeatureSet.load(job.path)
    check_same_origin(job.path, finished, job.encoder.spec, crop=job.crop, dtype=job.dtype)
    blocks = [block_of(finished)]
    plan = make_plan(job.corpus, StoredRows(blocks), stat_only=True)
    if (plan.block < 0).any() or len(find_unmeasured(plan, blocks)):
        return None
    wanted = describe(job, plan, blocks, numbers=np.arange(len(job.corpus)))
    # Files of earlier versions may lack what the spec records beside what is compared, such as `trained_on`.
    return replace(finished, encoder=wanted.encoder) if same_rows(finished, wanted) else None


def _is_done(done: Path, digest: bytes) -> bool:
    """Return whether a shard has finished, according to its ``.done`` file."""
    try:
        return done.read_bytes() == digest
    except FileNotFoundError:
        return False


def _digest_of(job: ExtractionJob) -> bytes:
    """Digest the corpus and the settings, because a shard that is done for one corpus is not done for another."""
    content = [spec_digest(job.encoder.spec), str(job.crop), str(job.dtype), *job.corpus.ids]
    return hashlib.sha256("\n".join(content).encode("utf-8", "surrogatepass")).hexdigest().encode()


def share_of(n_utterances: int, shard: Shard) -> Indices:
    """Return the numbers of the utterances in a shard."""
    order = np.random.default_rng(shard.count).permutation(n_utterances)
    return order[shard.index :: shard.count]


@contextlib.contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder at the end, if it is empty."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _plan(job: ExtractionJob, sources: Mapping[Path, Sequence[Block]]) -> Plan:
    stored = StoredRows([block for blocks in sources.values() for block in blocks])
    plan = make_plan(job.corpus, stored, progress=job.progress)
    n_missing = int((plan.block < 0).sum())
    if 0 < n_missing < len(job.corpus):
        logger.info("%d of %d utterances are stored already", len(job.corpus) - n_missing, len(job.corpus))
    return plan
