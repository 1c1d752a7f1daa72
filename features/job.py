"""The arguments of an extraction, checked once."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from corpora import Corpus
from encoders import Encoder, LazyEncoder, Spec, windows_of
from features.set_checks import FeaturesError
from files import unknown_choice

logger = logging.getLogger(__name__)

STORE_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}

# Crop (seconds), None for whole utterances, or ``auto`` for the encoder's default.
MaxDuration = float | Literal["auto"] | None


@dataclass(frozen=True, eq=False)
class ExtractionJob:
    """Checked arguments of an extraction.

    Attributes
    ----------
    corpus : Corpus
    encoder : Encoder or LazyEncoder
    path : Path
        The features file.
    crop : float or None
        Maximum length of the part of each utterance that is read (seconds).
    dtype : torch.dtype
        Type in which vectors are stored.
    batch_size, num_workers, progress
        As in `features.extract`.
    """

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
        """Folder of the part files, with finished rows that are not in the features file."""
        return parts_of(self.path)

    @property
    def lock(self) -> Path:
        """Lock file that a run holds while it writes."""
        return self.path.with_name(self.path.name + ".lock")


def parts_of(path: Path) -> Path:
    """Return the folder of the part files of a features file."""
    return path.with_name(path.name + ".parts")


def make_job(
    corpus: Corpus,
    encoder: Encoder | LazyEncoder,
    path: Path,
    *,
    max_duration: MaxDuration,
    store_dtype: str,
    batch_size: int | None,
    num_workers: int | None,
    progress: bool,
) -> ExtractionJob:
    """Check the arguments of `features.extract`.

    Raises
    ------
    FeaturesError
        There is no such `store_dtype`.
    """
    crop = crop_of(encoder, max_duration)
    _warn_of_clip(encoder.spec, crop)
    if store_dtype not in STORE_DTYPES:
        raise FeaturesError(unknown_choice("store_dtype", store_dtype, STORE_DTYPES))
    return ExtractionJob(
        corpus=corpus,
        encoder=encoder,
        path=path,
        crop=crop,
        dtype=STORE_DTYPES[store_dtype],
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
    )


def crop_of(encoder: Encoder | LazyEncoder, max_duration: MaxDuration) -> float | None:
    """Return the crop (seconds) for a value of `max_duration`; None is no crop.

    ``auto`` is the encoder's default crop. With the option ``window`` it is no crop, because the vectors of windows are
    averaged over whole utterances.
    """
    if max_duration != "auto":
        return max_duration
    return encoder.max_duration if windows_of(encoder.spec) is None else None


def _warn_of_clip(spec: Spec, crop: float | None) -> None:
    """Warn if an encoder uses only the beginning of what the crop keeps."""
    clip = spec.get("clip_seconds")
    if clip is not None and windows_of(spec) is None and (crop is None or crop > clip):
        logger.warning(
            "The encoder %s uses the first %g s of an utterance; --window %g averages over all of it.",
            spec["name"],
            clip,
            clip,
        )
