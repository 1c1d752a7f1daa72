"""Open the rows that are stored for a features file, and choose the file of a corpus by them."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from corpora import Corpus
from encoders import Encoder, LazyEncoder, Spec
from features.feature_set import FeatureSet
from features.job import STORE_DTYPES, ExtractionJob, MaxDuration, crop_of, parts_of
from features.parts import Block, block_of, read_part
from features.planning import make_plan
from features.provenance import StoredRows, check_same_origin, refuse_other_origin
from features.set_checks import FeaturesError
from files import PathLike, safe_file_name

logger = logging.getLogger(__name__)

# Number of utterances whose files are compared with stored rows before those of all the others.
N_COMPARED = 100


def open_sources(job: ExtractionJob) -> dict[Path, list[Block]]:
    """Open the stored rows, in the part files of earlier runs and in the features file.

    Of two rows of the same audio, the plan takes the first. The newest part files are first, because they are measured.
    """
    finished: dict[Path, list[Block]] = {}
    if job.path.exists():
        features = FeatureSet.load(job.path)
        check_same_origin(job.path, features, job.encoder.spec, crop=job.crop, dtype=job.dtype)
        finished[job.path] = [block_of(features)]
    parts: dict[Path, list[Block]] = {}
    for part in sorted(job.parts.glob("*.part"), reverse=True):
        try:
            blocks = read_part(part)
            for number, block in enumerate(blocks):
                if number == 0 or _origin(block) != _origin(blocks[0]):
                    check_same_origin(part, block, job.encoder.spec, crop=job.crop, dtype=job.dtype)
                _check_vectors(part, block, job.encoder.spec)
        except FeaturesError as error:
            logger.warning("A part file is skipped: %s", error)
        else:
            parts[part] = blocks
    return {**parts, **finished}


def _origin(block: Block) -> tuple[Spec, float | None, torch.dtype]:
    return block.encoder, block.audio.crop, block.features.dtype


def _check_vectors(part: Path, block: Block, spec: Spec) -> None:
    """Refuse vectors that the encoder cannot have computed."""
    n_layers, dim = len(spec["layers"]), spec["dim"]
    shape = (n_layers, dim) if n_layers > 1 else (dim,)
    if block.features.shape[1:] != shape or not bool(torch.isfinite(block.features).all()):
        raise FeaturesError(
            f"{part}: its vectors have another shape than those of the encoder {spec['name']!r}, or hold NaN or "
            "infinity. Delete this file."
        )


def check_stored(
    path: PathLike,
    encoder: Encoder | LazyEncoder,
    *,
    max_duration: MaxDuration = "auto",
    store_dtype: str = "fp32",
) -> None:
    """Check that `extract` can complete a features file, if it exists, before anything is computed.

    Raises
    ------
    FeaturesError
        The file is not a features file, or it has another encoder, crop or type.
    """
    path = Path(path)
    if path.exists():
        crop, dtype = crop_of(encoder, max_duration), STORE_DTYPES[store_dtype]
        refuse_other_origin(path, FeatureSet.load(path), encoder.spec, crop=crop, dtype=dtype)


def choose_path(path: PathLike, corpus: Corpus, data_dir: PathLike) -> Path:
    """Return the features file of a corpus: `path`, or if that has only utterances of another corpus, a file beside it.

    The name of the file beside it has the part of the corpus at its end (see `part_of`), such as
    ``librispeech_features_audiosep_test-other.pt``. A file that has utterances of the corpus is preferred, so that the
    same call continues the same file. The content of the audio decides: other corpora can have the same ids.

    Parameters
    ----------
    path : path-like
        Default features file, made of the names of the corpus and of the encoder.
    corpus : Corpus
    data_dir : path-like
        Folder or manifest that the corpus was loaded from.

    Raises
    ------
    FeaturesError
        One of the files is not a features file.
    """
    first, free = Path(path), []
    for candidate in _candidates(first, part_of(data_dir, corpus.name)):
        blocks = _stored_blocks(candidate)
        if blocks is None:
            free.append(candidate)
            if candidate != first:  # the names after it are free too
                break
        elif _shares(corpus, blocks):
            free = [candidate]
            break
    if free[0] != first:
        logger.info("%s has other utterances than this corpus, whose features are in %s", first, free[0])
    return free[0]


def part_of(data_dir: PathLike, name: str) -> str:
    """Return what distinguishes corpora of one name: the stem of the manifest, or the name of the folder.

    If that is the name of the corpus, the name of the folder above is returned.

    Examples
    --------
    >>> part_of("/data/LibriSpeech/test-other", "librispeech"), part_of("/data/2024/calls", "calls")
    ('test-other', '2024')
    """
    place = Path(data_dir).resolve()
    names = (place.stem if place.is_file() else place.name, place.parent.name)
    return next((safe for safe in map(safe_file_name, names) if safe not in ("", name)), "other")


def _candidates(path: Path, part: str) -> Iterator[Path]:
    """Yield the names that the features file may have, in the order in which they are used."""
    yield path
    for number in itertools.count(1):
        suffix = part if number == 1 else f"{part}_{number}"
        yield path.with_name(f"{path.stem}_{suffix}{path.suffix}")


def _stored_blocks(path: Path) -> list[Block] | None:
    """Return the rows of a features file, or those of its part files if it was never finished; None if there are none.

    The part files of a finished file can have rows that an earlier corpus left there.
    """
    if path.exists():
        finished = FeatureSet.load(path)
        return [] if finished.audio is None else [block_of(finished)]  # of another project: the extraction refuses it
    blocks = []
    for part in sorted(parts_of(path).glob("*.part")):
        try:
            blocks += read_part(part)
        except FeaturesError as error:
            logger.warning("A part file is skipped: %s", error)
    return blocks or None


def _shares(corpus: Corpus, blocks: list[Block]) -> bool:
    """Return whether rows are of utterances of a corpus, by the content of their files."""
    if not blocks:
        return True
    stored = StoredRows(blocks)
    first = Corpus(corpus.utterances[:N_COMPARED], corpus.root, corpus.name)
    # The first plan opens no files, and the second, for files that were moved or touched, opens a few.
    plans = (
        make_plan(compared, stored, stat_only=stat_only)
        for compared, stat_only in ((corpus, True), (first, False), (corpus, False))
    )
    return any((plan.block >= 0).any() for plan in plans)
