"""`FeatureSet`: embeddings with their speakers, sessions and provenance, in memory or in a ``.pt`` file."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from encoders import Spec
from features.row_columns import DURATIONS, AudioProvenance, Column
from files import FormatReader, InputError, load_tensors, read_checked, versions, write_tensors

FORMAT = 1
FILE_KIND = "a features file of this project (or a dict with 'features' and 'labels')"
UNKNOWN_ENCODER = "unknown"
LABELS, SESSIONS = Column("labels", torch.int64), Column("sessions", torch.int64)
# Other types of labels and sessions that a file may have; they are converted.
SMALLER_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32)


class FeaturesError(InputError):
    """A features file cannot be used, or does not have what was asked for."""


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Embeddings of the utterances of a corpus, one row each.

    Attributes
    ----------
    features : Tensor (N, D) or (N, L, D)
        float32 or float16; with a second axis if the encoder returns L > 1 layers.
    labels : Tensor (N,)
        int64, indices into `speakers`.
    speakers : tuple of str
        Names of the speakers.
    sessions : Tensor (N,)
        int64, indices into `session_names`.
    session_names : tuple of str
        Names of the sessions; two speakers may have sessions of the same name.
    ids : tuple of str
        Ids of the utterances.
    durations : Tensor (N,)
        float32, length of the audio that went into each row (seconds); NaN if it is not known.
    encoder : dict
        Spec of the encoder.
    corpus : str
        Name of the corpus.
    audio : AudioProvenance or None
        What the rows were computed from; None for files of other projects.
    failures : tuple of (id, reason)
        Utterances without a row, and why.
    """

    features: Tensor
    labels: Tensor
    speakers: tuple[str, ...]
    sessions: Tensor
    session_names: tuple[str, ...]
    ids: tuple[str, ...]
    durations: Tensor
    encoder: Spec
    corpus: str
    audio: AudioProvenance | None = None
    failures: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.features)

    def select(self, rows: ArrayLike | Tensor) -> "FeatureSet":
        """Return some rows, by indices or by a boolean mask; speakers and sessions keep their numbers."""
        selected = torch.as_tensor(np.asarray(rows))
        index = selected.nonzero().squeeze(1) if selected.dtype == torch.bool else selected.long().reshape(-1)
        return replace(
            self,
            features=self.features[index],
            labels=self.labels[index],
            sessions=self.sessions[index],
            ids=tuple(self.ids[row] for row in index.tolist()),
            durations=self.durations[index],
            audio=None if self.audio is None else self.audio.select(index),
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the encoder's layers along the second axis; empty if there is one vector per row."""
        if self.features.ndim == 2:
            return ()
        # A file of another project does not name its layers.
        return tuple(self.encoder.get("layers") or range(self.features.shape[1]))

    def layer(self, number: int) -> "FeatureSet":
        """Return the set with the vectors (N, D) of one layer, as if only this layer had been extracted.

        Raises
        ------
        FeaturesError
            There is no such layer; the message lists the layers.
        """
        available = self.layers or tuple(self.encoder.get("layers", ()))
        if number not in available:
            listing = ", ".join(map(str, available)) or "none"
            raise FeaturesError(f"These features have no layer {number}; layers: {listing}.")
        if self.features.ndim == 2:
            return self
        options = {**self.encoder.get("options", {}), "layers": str(number)}
        encoder = {**self.encoder, "layers": [number], "options": options}
        return replace(self, features=self.features[:, available.index(number)], encoder=encoder)

    def take_layers(self, layers: str | None) -> "FeatureSet":
        """Return the set with the requested layers.

        Parameters
        ----------
        layers : str or None
            ``last`` or the number of a layer returns this layer; ``all`` or None returns the set unchanged. A set whose
            encoder has no layers is always returned unchanged.

        Raises
        ------
        FeaturesError
            There is no such layer, or `layers` is something else.
        """
        if layers in (None, "all") or not self.encoder.get("layers"):
            return self
        if layers != "last" and not str(layers).isdecimal():
            raise FeaturesError(
                f"layers is {layers!r}; with a finished features file, expected all, last, or the number of one layer."
            )
        return self.layer(self.encoder["layers"][-1] if layers == "last" else int(str(layers)))

    def to(self, *args: Any, **kwargs: Any) -> "FeatureSet":
        """Return the set with its features moved or cast; the arguments are those of `torch.Tensor.to`."""
        return replace(self, features=self.features.to(*args, **kwargs))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the set to a ``.pt`` file, atomically.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        audio = self.audio
        content = {
            "format": FORMAT,
            "corpus": self.corpus,
            "features": _copy_if_view(self.features.cpu()),
            "labels": _copy_if_view(self.labels),
            "speakers": list(self.speakers),
            "sessions": _copy_if_view(self.sessions),
            "session_names": list(self.session_names),
            "ids": "\n".join(map(_escape, self.ids)),
            "durations": _copy_if_view(self.durations),
            "encoder": self.encoder,
            "audio": None if audio is None else {name: _copy_if_view(value) for name, value in vars(audio).items()},
            "failures": [list(failure) for failure in self.failures],
            "created_with": {**versions(), "libsndfile": soundfile.__libsndfile_version__},
        }
        return write_tensors(Path(path), content)

    @classmethod
    def from_tensors(cls, features: ArrayLike | Tensor, labels: ArrayLike, *, corpus: str = "features") -> "FeatureSet":
        """Make a set from embeddings of another project; its encoder is "unknown", and each speaker has one session.

        Parameters
        ----------
        features : array-like (N, D) or (N, L, D)
            Floating point.
        labels : array-like (N,)
            Speaker of each row, by name or by number.
        corpus : str
            Name of the corpus.

        Examples
        --------
        >>> features = FeatureSet.from_tensors(torch.randn(4, 3), ["anna", "ben", "anna", "ben"])
        >>> len(features), features.speakers, features.labels.tolist()
        (4, ('anna', 'ben'), [0, 1, 0, 1])
        """
        rows = torch.as_tensor(features).detach()
        names, numbers = np.unique(np.asarray(labels), return_inverse=True)
        index = torch.from_numpy(numbers.reshape(-1).astype(np.int64))
        speakers = tuple(map(str, names.tolist()))
        return cls(
            features=rows,
            labels=index,
            speakers=speakers,
            sessions=index,
            session_names=speakers,
            ids=tuple(map(str, range(len(index)))),
            durations=torch.full((len(index),), torch.nan),
            encoder={"name": UNKNOWN_ENCODER, "dim": rows.shape[-1] if rows.ndim else 0},
            corpus=corpus,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "FeatureSet":
        """Open a features file as a memory map; rows are read from the disk when they are used.

        A plain ``{'features', 'labels'}`` file is read too. Its labels become the names of the speakers, and its
        encoder is "unknown".

        Raises
        ------
        FeaturesError
            There is no such file, it is not a features file, or its contents do not fit together.
        """
        path = Path(path)
        content = load_tensors(path, FILE_KIND, FeaturesError)
        if "format" not in content:
            return _read_plain(content, path)
        return read_checked(
            content,
            path,
            READERS,
            kind=FILE_KIND,
            error_class=FeaturesError,
            advice="Extract the features again.",
        )


def _read_format_1(content: dict[str, Any], path: Path) -> FeatureSet:
    n_rows = len(content["features"])
    labels, sessions = (_read_index(column, content, n_rows) for column in (LABELS, SESSIONS))
    DURATIONS.check(content["durations"], n_rows)
    audio = content["audio"]
    loaded = FeatureSet(
        features=content["features"].detach(),
        labels=labels,
        speakers=tuple(content["speakers"]),
        sessions=sessions,
        session_names=tuple(content["session_names"]),
        ids=tuple(map(_unescape, content["ids"].split("\n"))) if n_rows else (),
        durations=content["durations"],
        encoder=content["encoder"],
        corpus=content["corpus"],
        audio=None if audio is None else AudioProvenance.from_content(audio, n_rows),
        failures=tuple((failed, reason) for failed, reason in content["failures"]),
    )
    _check(path, loaded)
    return loaded


def _read_index(column: Column, content: dict[str, Any], n_rows: int) -> Tensor:
    """Return a column of indices as int64; a file may have smaller integers."""
    values = content[column.name]
    index: Tensor = values.long() if isinstance(values, Tensor) and values.dtype in SMALLER_INTEGERS else values
    column.check(index, n_rows)
    return index


# Reader of each format. A new format adds a reader and keeps the others, so that an update loses no cache.
READERS: dict[int, FormatReader[FeatureSet]] = {1: _read_format_1}


def _copy_if_view(value: Any) -> Any:
    """Copy a tensor that is a view of a larger one, because torch.save would save all of the larger one."""
    if not isinstance(value, Tensor) or value.untyped_storage().nbytes() == value.nbytes:
        return value
    return value.clone()


def _escape(text: str) -> str:
    """Escape line breaks and backslashes in an id; ids are stored as one text with an id per line."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return "\\".join(part.replace("\\n", "\n") for part in text.split("\\\\"))


def _read_plain(content: dict[str, Any], path: Path) -> FeatureSet:
    if not {"features", "labels"} <= content.keys():
        keys = ", ".join(map(str, content)) or "none"
        raise FeaturesError(f"{path}: this is not {FILE_KIND}; its keys: {keys}.")
    try:
        loaded = FeatureSet.from_tensors(content["features"], content["labels"], corpus=path.stem)
    except (TypeError, ValueError, RuntimeError) as error:
        raise FeaturesError(f"{path}: its features are not a table of numbers with a label each ({error}).") from error
    _check(path, loaded)
    return loaded


def _is_file_name(name: Any) -> bool:
    """Return whether a name can be used in a file name, and cannot point outside the folder."""
    return isinstance(name, str) and bool(name) and not set(name) & set("/\\\0") and not name.startswith(".")


def _check(path: Path, loaded: FeatureSet) -> None:
    """Refuse a set whose contents do not fit together."""
    _check_vectors(path, loaded)
    n_rows = len(loaded.labels)
    for name, values in (("features", loaded.features), ("ids", loaded.ids)):
        if len(values) != n_rows:
            raise FeaturesError(
                f"{path}: it has {n_rows} labels, but {len(values)} {name}. Extract the features again."
            )
    for name, index, names in (
        ("labels", loaded.labels, loaded.speakers),
        ("sessions", loaded.sessions, loaded.session_names),
    ):
        if int(index.min()) < 0 or int(index.max()) >= len(names):
            raise FeaturesError(
                f"{path}: its {name} range from {int(index.min())} to {int(index.max())}, but it has {len(names)} "
                "names. Extract the features again."
            )


def _check_vectors(path: Path, loaded: FeatureSet) -> None:
    """Refuse vectors that are not a table of numbers, or do not fit the encoder's spec."""
    features = loaded.features
    is_table = features.ndim in (2, 3) and features.is_floating_point() and features.layout == torch.strided
    if not is_table or not len(loaded.labels) or not features.shape[-1]:
        raise FeaturesError(
            f"{path}: its features are {features.dtype} of shape {tuple(features.shape)}; expected floating point, "
            "(N, D) or (N, L, D), with at least one row."
        )
    if not isinstance(loaded.encoder, dict) or not _is_file_name(loaded.corpus):
        raise FeaturesError(
            f"{path}: its encoder is not a dict, or its corpus {loaded.corpus!r} cannot be used in a file name."
        )
    options = loaded.encoder.get("options", {})
    if not isinstance(options, dict):
        raise FeaturesError(
            f"{path}: the options of its encoder are {options!r}; expected a dict. Extract the features again."
        )
    layers = loaded.encoder.get("layers") or []
    n_layers = features.shape[1] if features.ndim == 3 else 1
    if not _are_layer_numbers(layers) or (layers and len(layers) != n_layers):
        raise FeaturesError(
            f"{path}: the layers of its encoder are {layers!r}, but its features have the shape "
            f"{tuple(features.shape)}. Extract the features again."
        )


def _are_layer_numbers(layers: Any) -> bool:
    if not isinstance(layers, list | tuple) or not all(isinstance(number, int) for number in layers):
        return False
    return len(set(layers)) == len(layers)
