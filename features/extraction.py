"""The extraction engine: a corpus and an encoder in, a features file out; nothing is computed twice."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from corpora import Corpus
from encoders import Encoder, LazyEncoder, Spec, windows_of
from features.feature_set import AUDIO_COLUMNS, AudioProvenance, FeaturesError, FeatureSet
from features.files import check_writable
from features.pipeline import Row, embed_utterances
from features.provenance import StoredRows, check_same_origin, merged_precision

logger = logging.getLogger(__name__)

# Seconds between two part files: what an interrupted run may have to do again.
PART_EVERY = 10.0
STORE_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


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
    the file lies now. Rows go to part files in ``{path}.parts`` every few seconds, so that an interrupted run is
    continued by the next; rows of utterances that the corpus no longer has are set aside there, and come back with
    them. Utterances that cannot be read are recorded as failures, and tried again the next time.

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
        Threads that decode; by default one for each core but the encoder's, at most 8.
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
    OutputError
        The file cannot be written.
    """
    path = Path(path)
    parts = path.with_name(path.name + ".parts")
    _warn_of_clip(encoder.spec, max_duration)
    check_writable(path.parent)
    if store_dtype not in STORE_DTYPES:
        raise FeaturesError(f"There is no store_dtype {store_dtype!r}; choose one of: {', '.join(STORE_DTYPES)}.")
    dtype = STORE_DTYPES[store_dtype]
    stored = _load_parts(parts, encoder.spec, max_duration, dtype)
    finished = FeatureSet.load(path) if path.exists() else None
    if finished is not None:
        check_same_origin(path, finished, encoder.spec, max_duration, dtype)
        stored[path] = finished
    index = StoredRows(list(stored.values()))
    stream = embed_utterances(corpus.utterances, encoder, max_duration, index, batch_size, num_workers)
    stream = (_stored_as(row, dtype) for row in stream)
    shown = tqdm(stream, "Extracting", len(corpus), unit="file", disable=None if progress else True)
    old_parts = set(parts.glob("*.pt"))

    def assemble(rows: Sequence[Row]) -> FeatureSet:
        return _assemble(rows, corpus.name, encoder.spec, max_duration).to(dtype)

    rows = _collect(shown, lambda unsaved: assemble(unsaved).save(_new_part(parts)))
    features = assemble(rows)
    unused_rows = index.unused(features)
    features = _with_precision(features, rows, list(zip(stored.values(), unused_rows, strict=True)), encoder.spec)
    spent = set(parts.glob("*.pt")) - old_parts  # of this run; all their rows are in `features`
    for (source, known), unused in zip(stored.items(), unused_rows, strict=True):
        if len(unused) < len(known) and source != path:
            spent.add(source)
        # Rows that the corpus has no use for now: it may be a part of a larger one, or on a disk that is away.
        if len(unused) and (len(unused) < len(known) or source == path):
            known.select(unused).save(_new_part(parts))
    if finished is None or not _same_rows(finished, features):
        features.save(path)
    for part in spent:  # last, so that at any moment each row is in some file
        part.unlink(missing_ok=True)
    if parts.exists() and not any(parts.iterdir()):
        parts.rmdir()
    n_computed = sum(row.vector is not None and not row.reused for row in rows)
    logger.info("%s: %d utterances, %d of them computed now", path, len(features), n_computed)
    return features


def _stored_as(row: Row, dtype: torch.dtype) -> Row:
    """Cast a row to what it is stored in; one that does not fit becomes a failure."""
    if row.vector is None or row.vector.dtype == dtype:
        return row
    vector = row.vector.to(dtype)
    if bool(torch.isfinite(vector).all()):
        return replace(row, vector=vector)
    return Row(row.utterance, error="its vector is too large for fp16; store it with --store_dtype fp32")


def _with_precision(
    features: FeatureSet, rows: Sequence[Row], sources: Sequence[tuple[FeatureSet, list[int]]], spec: Spec
) -> FeatureSet:
    """Record the precisions that the rows were computed in, now or when they were stored."""
    specs = [known.encoder for known, unused in sources if len(unused) < len(known)]
    if any(row.vector is not None and not row.reused for row in rows):
        specs.append(spec)
    return replace(features, encoder={**spec, "precision": merged_precision(specs)})


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


def _load_parts(parts: Path, spec: Spec, crop: float | None, dtype: torch.dtype) -> dict[Path, FeatureSet]:
    """Open the rows beside a features file: of an interrupted run, or of utterances that its corpus no longer has."""
    loaded = {}
    for part in sorted(parts.glob("*.pt")):
        try:
            rows = FeatureSet.load(part)
            check_same_origin(part, rows, spec, crop, dtype)
        except FeaturesError as error:
            logger.warning("A part is passed over. %s", error)
        else:
            loaded[part] = rows
    return loaded


def _new_part(parts: Path) -> Path:
    return parts / f"{time.time_ns()}.pt"  # sorts by time, also after the parts of an earlier run


def _collect(stream: Iterable[Row], save_part: Callable[[Sequence[Row]], Any]) -> list[Row]:
    """Collect the rows of a stream, and save what is new every few seconds and when the run is interrupted."""
    rows: list[Row] = []
    unsaved: list[Row] = []
    saved_at = time.monotonic()
    try:
        for row in stream:
            rows.append(row)
            if row.vector is not None and not row.reused:
                unsaved.append(row)
            if unsaved and time.monotonic() - saved_at > PART_EVERY:
                save_part(unsaved)
                unsaved, saved_at = [], time.monotonic()
    except BaseException:  # Ctrl-C too
        if unsaved:
            save_part(unsaved)
        raise
    return rows


def _assemble(rows: Sequence[Row], corpus: str, spec: Spec, crop: float | None) -> FeatureSet:
    done = [row for row in rows if row.vector is not None and row.file is not None]
    failures = tuple((row.utterance.id, row.error) for row in rows if row.error is not None)
    if not done:
        raise FeaturesError(
            f"None of the {len(rows)} utterances could be used. The first, {failures[0][0]}: {failures[0][1]}."
        )
    speakers = sorted({row.utterance.speaker for row in done})
    sessions = sorted({row.utterance.session for row in done})
    spans = [(row.utterance.start, row.utterance.duration) for row in done]
    files = [row.file for row in done if row.file is not None]
    digests = bytearray().join(file.digest for file in files)
    return FeatureSet(
        features=torch.stack([row.vector for row in done if row.vector is not None]),
        labels=_numbers([row.utterance.speaker for row in done], speakers),
        speakers=tuple(speakers),
        sessions=_numbers([row.utterance.session for row in done], sessions),
        session_names=tuple(sessions),
        ids=tuple(row.utterance.id for row in done),
        durations=torch.tensor([row.seconds for row in done]),
        encoder=spec,
        corpus=corpus,
        audio=AudioProvenance(
            digest=torch.frombuffer(digests, dtype=torch.uint8).reshape(-1, 32),
            size=torch.tensor([file.size for file in files]),
            mtime_ns=torch.tensor([file.mtime_ns for file in files]),
            start=torch.tensor([start for start, _ in spans], dtype=torch.float64),
            duration=torch.tensor(
                [torch.nan if length is None else length for _, length in spans], dtype=torch.float64
            ),
            rate=int(spec["sample_rate"]),
            crop=crop,
        ),
        failures=failures,
    )


def _numbers(names: Sequence[str], known: Sequence[str]) -> Tensor:
    number = {name: position for position, name in enumerate(known)}
    return torch.tensor([number[name] for name in names])


def _same_rows(old: FeatureSet, new: FeatureSet) -> bool:
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
