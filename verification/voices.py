"""`Voices`: the content of a store, and the `.npz` file that it is exported to."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders import Spec
from files import (
    FormatReader,
    count_of,
    describe_file,
    file_kinds,
    load_arrays,
    normal_form,
    other_kind,
    read_checked,
    short_repr,
    versions,
    write_arrays,
)
from verification.enrolment import Recording
from verification.store_file import StoreError
from verification.store_rows import StoreRows
from verification.verifier import SpeakerVerifier

# The file is a features file with more arrays, so its format is that of features files.
FORMAT = 1
FILE_KIND = "a file of exported speakers, as speaker_verification.py export makes one"
# Length of a digest (bytes).
DIGEST_BYTES = 32
# Number of speakers whose models are read at a time.
BLOCK = 8_192


@dataclass(frozen=True, eq=False, kw_only=True)
class Voices:
    """Enrolled speakers with their models and recordings, and the background recordings.

    Attributes
    ----------
    speakers : tuple of (str, sequence of Recording)
        Name and recordings of each of the S speakers, by name.
    models : Tensor (S, K)
        float32, model of each speaker, as the backend of the store combines the recordings: the mean of their
        normalised vectors, normalised, or for ``plda`` the mean of the projected vectors.
    background : sequence of Recording
        Recordings of people who are not enrolled, which adapt the calibration.
    encoder : dict
        Spec of the encoder that made the vectors.
    crop : float or None
        ``max_duration`` of the recordings (seconds).
    backend : str
        Name of the backend that made the models.
    """

    speakers: tuple[tuple[str, Sequence[Recording]], ...]
    models: Tensor
    background: Sequence[Recording]
    encoder: Spec
    crop: float | None
    backend: str

    def __repr__(self) -> str:
        n_recordings = sum(len(recordings) for _, recordings in self.speakers)
        counts = f"{count_of(len(self.speakers), 'speaker')}, {count_of(n_recordings, 'recording')}"
        return short_repr(self, f"{counts}, {self.backend} on {self.encoder.get('name')}")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write an ``.npz`` file for `numpy.load` with ``allow_pickle=False``, atomically; return its path.

        It is also a features file, with a row for each recording.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        names = [name for name, _ in self.speakers]
        recordings = [recording for _, each in self.speakers for recording in each]
        counts = torch.tensor([len(each) for _, each in self.speakers])
        labels = torch.repeat_interleave(torch.arange(len(names)), counts)
        content = {
            "format": FORMAT,
            "corpus": "voices",
            **_columns(recordings, int(self.encoder["dim"])),
            "labels": labels,
            "speakers": names,
            "sessions": labels,
            "session_names": names,
            "models": self.models,
            "background": _columns(self.background, int(self.encoder["dim"])),
            "encoder": self.encoder,
            "crop": self.crop,
            "backend": self.backend,
            "audio": None,
            "failures": [],
            "created_with": versions(),
        }
        return write_arrays(path, content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Voices":
        """Read a file of `save`. This never runs code from the file.

        Raises
        ------
        StoreError
            There is no such file, or it is not a file of exported speakers.
        """
        path = Path(path)
        content = load_arrays(path, FILE_KIND, StoreError)
        if "models" not in content:
            raise StoreError(other_kind(path, FILE_KIND) or f"{path}: this is not {FILE_KIND}; it has no models.")
        return read_checked(
            content, path, READERS, kind=FILE_KIND, error_class=StoreError, advice="Export the store again."
        )


def read_voices(rows: StoreRows, verifier: SpeakerVerifier) -> Voices:
    """Read the content of a store; the caller must have opened a transaction."""
    models = [block.models for block in rows.models(BLOCK, order="name")]
    return Voices(
        speakers=tuple(rows.contents()),
        models=torch.cat(models) if models else torch.zeros(0, rows.model_dim),
        background=rows.background(),
        encoder=verifier.encoder,
        crop=verifier.crop,
        backend=verifier.backend.name,
    )


def is_voices(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is one of exported speakers, by the names of its arrays."""
    return Path(path).is_file() and describe_file(Path(path)) == file_kinds.VOICES


def _columns(recordings: Sequence[Recording], dim: int) -> dict[str, Any]:
    """Return recordings as a column for each of their values; a row is a recording."""
    vectors = [recording.vector.float() for recording in recordings]
    seconds = torch.tensor([recording.seconds for recording in recordings], dtype=torch.float32)
    return {
        "features": torch.stack(vectors) if vectors else torch.zeros(0, dim),
        "ids": [recording.path for recording in recordings],
        "durations": torch.where(seconds > 0, seconds, torch.nan),  # 0 if it is not known
        "digests": torch.tensor([list(_digest(recording)) for recording in recordings], dtype=torch.uint8),
    }


def _digest(recording: Recording) -> bytes:
    """Return the digest of a recording; one of another length, from another program, is digested again."""
    digest = recording.digest
    return digest if len(digest) == DIGEST_BYTES else hashlib.sha256(digest).digest()


def _read_format_1(content: dict[str, Any], path: Path) -> Voices:
    encoder, crop, models = content["encoder"], content["crop"], content["models"]
    dim, names = int(encoder["dim"]), [normal_form(name) for name in content["speakers"]]
    labels = content["labels"].tolist()
    if models.ndim != 2 or len(models) != len(names) or not bool(torch.isfinite(models).all()):
        raise ValueError(f"it has {count_of(len(names), 'speaker')}, but {len(models)} models, or one is not finite")
    if set(labels) != set(range(len(names))):
        raise ValueError("its labels are not those of its speakers, or a speaker has no recordings")
    by_speaker: list[list[Recording]] = [[] for _ in names]
    for label, recording in zip(labels, _recordings(content, dim), strict=True):
        by_speaker[label].append(recording)
    return Voices(
        speakers=tuple(zip(names, by_speaker, strict=True)),
        models=models,
        background=_recordings(content["background"], dim),
        encoder=encoder,
        crop=None if crop is None else float(crop),
        backend=str(content["backend"]),
    )


def _recordings(columns: dict[str, Any], dim: int) -> list[Recording]:
    """Return the recordings of the rows of `_columns`.

    Raises
    ------
    ValueError
        The columns do not fit together, or a vector does not have `dim` finite numbers.
    """
    vectors, digests, names = columns["features"].float(), columns["digests"], list(map(str, columns["ids"]))
    if vectors.shape != (len(names), dim) or not bool(torch.isfinite(vectors).all()):
        raise ValueError(f"its vectors are not {dim} finite numbers for each recording")
    if names and (digests.dtype, digests.shape) != (torch.uint8, (len(names), DIGEST_BYTES)):
        raise ValueError(f"its digests are not {DIGEST_BYTES} bytes for each recording")
    return [
        Recording(path=name, digest=digest.numpy().tobytes(), seconds=seconds, vector=vector)
        for name, digest, seconds, vector in zip(
            names, digests, columns["durations"].nan_to_num().tolist(), vectors, strict=True
        )
    ]


# Reader of each format.
READERS: dict[int, FormatReader[Voices]] = {1: _read_format_1}
