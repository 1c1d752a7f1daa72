"""`FeatureSet`: embeddings with their speakers, sessions and origin, in memory and as a `.pt` file."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from audio import InputError
from encoders import Spec
from features.files import load_tensors, write_tensors

FORMAT = 1
WHAT = "a features file of this project (or a dict with 'features' and 'labels')"
UNKNOWN_ENCODER = "unknown"
AUDIO_COLUMNS = ("digest", "size", "mtime_ns", "start", "duration")


class FeaturesError(InputError):
    """A features file cannot be used, or is not the one that was asked for."""


@dataclass(frozen=True, eq=False)
class AudioProvenance:
    """What the vectors were computed from; a row stays valid while these are the same.

    Attributes
    ----------
    digest : Tensor (N, 32)
        uint8, SHA-256 of each file's bytes.
    size, mtime_ns : Tensor (N,)
        int64, size (bytes) and time of change (ns) of each file: while both stay, the digest is not computed again.
    start, duration : Tensor (N,)
        float64, span within the file (seconds); a NaN duration is to its end.
    rate : int
        Rate that the encoder was given (Hz).
    crop : float or None
        ``max_duration``: the most of each span that was read (seconds).
    """

    digest: Tensor
    size: Tensor
    mtime_ns: Tensor
    start: Tensor
    duration: Tensor
    rate: int
    crop: float | None

    def select(self, rows: Tensor) -> "AudioProvenance":
        """Return the provenance of some rows."""
        return replace(self, **{name: getattr(self, name)[rows] for name in AUDIO_COLUMNS})


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Embeddings of the utterances of a corpus, one row each.

    Attributes
    ----------
    features : Tensor (N, D) or (N, L, D)
        float32 or float16; L layers where the encoder gives several.
    labels : Tensor (N,)
        int64, into `speakers`.
    speakers : tuple of str
        Names of the speakers.
    sessions : Tensor (N,)
        int64, into `session_names`.
    session_names : tuple of str
        Names of the sessions; a session is one within its speaker.
    ids : tuple of str
        Ids of the utterances.
    durations : Tensor (N,)
        float32, seconds of audio that went into each row (NaN where unknown).
    encoder : dict
        Spec of the encoder.
    corpus : str
        Name of the corpus.
    audio : AudioProvenance or None
        What the rows were computed from; None in files written by others.
    failures : tuple of (id, reason)
        Utterances that gave no row.
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
        """Return some rows, by indices or by a mask; speakers and sessions keep their numbers."""
        chosen = torch.as_tensor(np.asarray(rows))
        index = chosen.nonzero().squeeze(1) if chosen.dtype == torch.bool else chosen.long().reshape(-1)
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
        """Numbers of the encoder's layers along the second axis; empty where there is one vector for each row."""
        if self.features.ndim == 2:
            return ()
        numbers = self.encoder.get("layers") or range(self.features.shape[1])  # of a file written by others
        return tuple(numbers)

    def layer(self, number: int) -> "FeatureSet":
        """Return the vectors (N, D) of one layer, as if the encoder had been asked for this layer alone.

        Raises
        ------
        FeaturesError
            There is no such layer; the answer lists those that there are.
        """
        here = self.layers or tuple(self.encoder.get("layers", ()))
        if number not in here:
            listing = ", ".join(map(str, here)) or "it has none to choose from"
            raise FeaturesError(f"These features have no layer {number}; layers: {listing}.")
        if self.features.ndim == 2:
            return self
        options = {**self.encoder.get("options", {}), "layers": str(number)}
        encoder = {**self.encoder, "layers": [number], "options": options}
        return replace(self, features=self.features[:, here.index(number)], encoder=encoder)

    def to(self, *args: Any, **kwargs: Any) -> "FeatureSet":
        """Return the set with its features moved or cast, with the arguments of `torch.Tensor.to`."""
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
            "features": _own(self.features.cpu()),
            "labels": _own(self.labels),
            "speakers": list(self.speakers),
            "sessions": _own(self.sessions),
            "session_names": list(self.session_names),
            "ids": "\n".join(map(_escape, self.ids)),
            "durations": _own(self.durations),
            "encoder": self.encoder,
            "audio": None if audio is None else {name: _own(value) for name, value in vars(audio).items()},
            "failures": [list(failure) for failure in self.failures],
            "created_with": _versions(),
        }
        return write_tensors(Path(path), content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "FeatureSet":
        """Open a features file as a memory map; rows are read when they are used.

        A plain ``{'features', 'labels'}`` file is taken too: its labels become the speakers, its encoder is "unknown".

        Raises
        ------
        FeaturesError
            No such file, or not a features file, or one whose parts contradict each other.
        """
        path = Path(path)
        content = load_tensors(path, WHAT, FeaturesError)
        if "format" not in content:
            return _from_plain(path, content)
        if not isinstance(content["format"], int) or content["format"] != FORMAT:
            raise FeaturesError(
                f"{path}: its format is {content['format']!r}, this version reads {FORMAT}. Extract the features "
                "again, or update this project."
            )
        try:
            loaded = cls(
                features=content["features"].detach(),
                labels=content["labels"],
                speakers=tuple(content["speakers"]),
                sessions=content["sessions"],
                session_names=tuple(content["session_names"]),
                ids=tuple(map(_unescape, content["ids"].split("\n"))) if len(content["features"]) else (),
                durations=content["durations"],
                encoder=content["encoder"],
                corpus=content["corpus"],
                audio=None if content["audio"] is None else AudioProvenance(**content["audio"]),
                failures=tuple((failed, reason) for failed, reason in content["failures"]),
            )
            _check_shapes(path, loaded)
        except FeaturesError:
            raise
        except Exception as error:  # right keys can hold anything
            raise FeaturesError(f"{path}: this is not {WHAT}; {type(error).__name__}: {error}.") from error
        return loaded


def _own(value: Any) -> Any:
    """Copy a tensor that is a view of a larger one, all of which would be saved with it."""
    if not isinstance(value, Tensor) or value.untyped_storage().nbytes() == value.nbytes:
        return value
    return value.clone()


def _escape(text: str) -> str:
    """Keep a line break within an id from ending its line; ids with neither are stored as they are."""
    return text.replace("\\", "\\\\").replace("\n", "\\n") if "\\" in text or "\n" in text else text


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return "\\".join(part.replace("\\n", "\n") for part in text.split("\\\\"))


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "soundfile": soundfile.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
    }


def _from_plain(path: Path, content: dict[str, Any]) -> FeatureSet:
    if not {"features", "labels"} <= content.keys():
        raise FeaturesError(f"{path}: this is not {WHAT}; its keys are {', '.join(map(str, content)) or 'none'}.")
    try:
        features = torch.as_tensor(content["features"]).detach()
        names, labels = np.unique(np.asarray(content["labels"]), return_inverse=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise FeaturesError(f"{path}: its features are not a table of numbers with a label each ({error}).") from error
    rows = torch.from_numpy(labels.reshape(-1).astype(np.int64))
    loaded = FeatureSet(
        features=features,
        labels=rows,
        speakers=tuple(map(str, names.tolist())),
        sessions=rows,
        session_names=tuple(map(str, names.tolist())),
        ids=tuple(map(str, range(len(rows)))),
        durations=torch.full((len(rows),), torch.nan),
        encoder={"name": UNKNOWN_ENCODER, "dim": features.shape[-1] if features.ndim else 0},
        corpus=path.stem,
    )
    _check_shapes(path, loaded)
    return loaded


def _is_file_name(name: Any) -> bool:
    """Tell whether a name can be a part of a file's name, and of nothing outside the folder."""
    return isinstance(name, str) and bool(name) and not set(name) & set("/\\\0") and not name.startswith(".")


def _check_shapes(path: Path, loaded: FeatureSet) -> None:
    features, n_rows = loaded.features, len(loaded.labels)
    is_table = features.ndim in (2, 3) and features.is_floating_point() and features.layout == torch.strided
    if not is_table or not n_rows or not features.shape[-1]:
        raise FeaturesError(
            f"{path}: its features are {features.dtype} of shape {tuple(features.shape)}; expected floating point, "
            "(N, D) or (N, L, D), with at least one row."
        )
    if not isinstance(loaded.encoder, dict) or not _is_file_name(loaded.corpus):
        raise FeaturesError(f"{path}: its encoder is no dict, or its corpus {loaded.corpus!r} is no name for a file.")
    layers = loaded.encoder.get("layers") or []
    numbered = (
        isinstance(layers, list | tuple)
        and len(set(map(str, layers))) == len(layers)
        and all(isinstance(number, int) for number in layers)
    )
    if not numbered or (layers and len(layers) != (features.shape[1] if features.ndim == 3 else 1)):
        raise FeaturesError(
            f"{path}: its encoder's layers are {layers!r}, its features {tuple(features.shape)}; extract them again."
        )
    columns: dict[str, Sequence[Any] | Tensor] = {
        "features": features, "sessions": loaded.sessions, "ids": loaded.ids, "durations": loaded.durations
    }  # fmt: skip
    if loaded.audio is not None:
        columns |= {f"audio {name}s": getattr(loaded.audio, name) for name in AUDIO_COLUMNS}
        if loaded.audio.digest.shape != (n_rows, 32) or loaded.audio.digest.dtype != torch.uint8:
            raise FeaturesError(f"{path}: its audio digests are not (N, 32) bytes; extract the features again.")
    for name, column in columns.items():
        if len(column) != n_rows:
            raise FeaturesError(
                f"{path}: it has {n_rows} labels, but {len(column)} {name}; extract the features again."
            )
    for name, index, names in (
        ("labels", loaded.labels, loaded.speakers),
        ("sessions", loaded.sessions, loaded.session_names),
    ):
        if int(index.min()) < 0 or int(index.max()) >= len(names):
            raise FeaturesError(
                f"{path}: its {name} go from {int(index.min())} to {int(index.max())}, but name {len(names)}."
            )
