"""`FeatureSet`: embeddings with their speakers, sessions and provenance, in memory or in a file."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from corpora import Split, SplitBy, split
from encoders import Spec
from features.given_arrays import as_durations, as_ids, as_names, as_splits, as_vectors, split_names
from features.row_columns import DURATIONS, LABELS, ROW_SPLITS, SESSIONS, AudioProvenance
from features.set_checks import FeaturesError, check_set
from features.set_summary import first_rows, summary
from features.stored_ids import join_ids, split_ids
from files import (
    FormatReader,
    is_file_name,
    load_arrays,
    load_tensors,
    other_kind,
    read_checked,
    short_repr,
    versions,
    write_arrays,
    write_tensors,
)

FORMAT = 1
FILE_KIND = "a features file of this project (or a dict with 'features' and 'labels')"
UNKNOWN_ENCODER = "unknown"


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
    splits : Tensor (N,) or None
        int64, the split that the corpus gives each row, as an index into `corpora.SPLITS`, -1 for none; None if the
        corpus gives no splits.
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
    splits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        return short_repr(self, summary(self))

    def _repr_html_(self) -> str:
        return first_rows(self)

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
            splits=None if self.splits is None else self.splits[index],
        )

    @property
    def given_splits(self) -> tuple[Split | None, ...]:
        """Split of each row that the corpus gives, None for a row in no split."""
        return (None,) * len(self) if self.splits is None else split_names(self.splits)

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
            ``last`` or the number of a layer returns this layer; ``all``, ``auto`` or None returns the set unchanged. A
            set whose encoder has no layers is always returned unchanged.

        Raises
        ------
        FeaturesError
            There is no such layer, or `layers` is something else.
        """
        if layers in (None, "all", "auto") or not self.encoder.get("layers"):
            return self
        if layers != "last" and not str(layers).isdecimal():
            raise FeaturesError(
                f"layers is {layers!r}; with a finished features file, expected all, last, or the number of one layer."
            )
        return self.layer(self.encoder["layers"][-1] if layers == "last" else int(str(layers)))

    def to(self, *args: Any, **kwargs: Any) -> "FeatureSet":
        """Return the set with its features moved or cast; the arguments are those of `torch.Tensor.to`."""
        return replace(self, features=self.features.to(*args, **kwargs))

    def split(
        self,
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        *,
        split_by: SplitBy = "utterance",
        seed: int = 0,
    ) -> tuple["FeatureSet", "FeatureSet", "FeatureSet"]:
        """Split the set into training, validation and test sets; the test set is that of `compare_heads`.

        With the same arguments, `compare_heads` has the same three sets in a split by utterance or as given. In a split
        by session, it trains on the training and validation sets together, and cross-validates over their sessions.

        Parameters
        ----------
        fractions, split_by, seed
            As in `corpora.split`. The validation set may be empty: if its share is 0, or in a split by session if no
            speaker has three sessions. In a split by utterance, `compare_heads` then validates on an eighth of the
            training set.

        Raises
        ------
        CorpusError
            The fractions do not sum to 1, there is no such `split_by`, or the given splits cannot be used.

        Examples
        --------
        >>> features = FeatureSet.from_arrays(torch.randn(20, 3), ["anna", "ben"] * 10)
        >>> [len(part) for part in features.split()]
        [16, 2, 2]
        """
        labels, sessions = self.labels.numpy(), self.sessions.numpy()
        train, validation, test = split(
            labels, sessions, fractions, split_by=split_by, seed=seed, given=self.given_splits, names=self.speakers
        )
        return self.select(train), self.select(validation), self.select(test)

    def to_arrays(self) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
        """Return the vectors X, (N, D) or (N, L, D), and the names of their speakers y, (N,), for scikit-learn.

        Examples
        --------
        >>> X, y = FeatureSet.from_arrays([[0.5, 1.0], [1.5, 2.0]], ["ben", "anna"]).to_arrays()
        >>> X.shape, y.tolist()
        ((2, 2), ['ben', 'anna'])
        """
        return self.features.float().cpu().numpy(), np.array(self.speakers, dtype=str)[self.labels.numpy()]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the set to a ``.pt`` file or, if the path ends in ``.npz``, to a file for `numpy.load`; atomically.

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
            "ids": list(self.ids) if _is_npz(path) else join_ids(self.ids),
            "durations": _copy_if_view(self.durations),
            "encoder": self.encoder,
            "audio": None if audio is None else {name: _copy_if_view(value) for name, value in vars(audio).items()},
            "failures": [list(failure) for failure in self.failures],
            **({} if self.splits is None else {"splits": _copy_if_view(self.splits)}),
            "created_with": {**versions(), "libsndfile": soundfile.__libsndfile_version__},
        }
        return write_arrays(path, content) if _is_npz(path) else write_tensors(Path(path), content)

    @classmethod
    def from_arrays(
        cls,
        vectors: ArrayLike | Tensor,
        speakers: ArrayLike | Tensor,
        sessions: ArrayLike | Tensor | None = None,
        *,
        ids: Iterable[str] | None = None,
        durations: ArrayLike | Tensor | None = None,
        splits: Iterable[str | None] | None = None,
        corpus: str = "features",
        encoder: str = UNKNOWN_ENCODER,
    ) -> "FeatureSet":
        """Make a set from embeddings of another project.

        Parameters
        ----------
        vectors : array-like (N, D) or (N, L, D)
            Floating point.
        speakers : array-like (N,)
            Speaker of each row, by name or by number.
        sessions : array-like (N,), optional
            Session of each row, by name or by number; by default, each speaker has one session.
        ids : iterable of str, optional
            Different ids of the rows; by default their numbers.
        durations : array-like (N,), optional
            Length of the audio of each row (seconds), if it is known.
        splits : iterable of str or None (N,), optional
            The given split of each row: ``train``, ``validation`` or ``test``; None or empty for none.
        corpus, encoder : str
            Names of the corpus and of the encoder, for tables.

        Raises
        ------
        FeaturesError
            The vectors are not a table of floating-point numbers, a column has another length or no usable values, or
            the name of the corpus cannot be used in a file name.

        Examples
        --------
        >>> features = FeatureSet.from_arrays(np.zeros((4, 3)), ["anna", "ben", "anna", "ben"])
        >>> len(features), features.speakers, features.labels.tolist()
        (4, ('anna', 'ben'), [0, 1, 0, 1])
        """
        if not is_file_name(corpus):
            raise FeaturesError(f"The corpus {corpus!r} cannot be used in a file name; give another name.")
        rows = as_vectors(vectors)
        n_rows = len(rows)
        labels, names = as_names(speakers, "speakers", n_rows)
        numbers, session_names = (labels, names) if sessions is None else as_names(sessions, "sessions", n_rows)
        return cls(
            features=rows,
            labels=labels,
            speakers=names,
            sessions=numbers,
            session_names=session_names,
            ids=as_ids(range(n_rows) if ids is None else ids, n_rows),
            durations=as_durations(np.full(n_rows, np.nan) if durations is None else durations, n_rows),
            encoder={"name": encoder, "dim": rows.shape[-1]},
            corpus=corpus,
            splits=None if splits is None else as_splits(splits, n_rows),
        )

    @classmethod
    def from_tensors(cls, features: ArrayLike | Tensor, labels: ArrayLike, *, corpus: str = "features") -> "FeatureSet":
        """Make a set as `from_arrays` does; this is its name in earlier versions."""
        return cls.from_arrays(features, labels, corpus=corpus)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "FeatureSet":
        """Open a features file as a memory map; rows are read from the disk when they are used.

        A plain ``{'features', 'labels'}`` file is read too. Its labels become the names of the speakers, and its
        encoder is "unknown"; ``sessions``, ``ids``, ``durations`` and ``splits`` are optional. A path that ends in
        ``.npz`` is read by `numpy.load`, completely into memory.

        Raises
        ------
        FeaturesError
            There is no such file, it is not a features file, or its contents do not fit together.
        """
        path = Path(path)
        content = (load_arrays if _is_npz(path) else load_tensors)(path, FILE_KIND, FeaturesError)
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
    labels, sessions = (column.read_index(content, n_rows) for column in (LABELS, SESSIONS))
    DURATIONS.check(content["durations"], n_rows)
    audio = content["audio"]
    loaded = FeatureSet(
        features=content["features"].detach(),
        labels=labels,
        speakers=tuple(content["speakers"]),
        sessions=sessions,
        session_names=tuple(content["session_names"]),
        ids=split_ids(content["ids"], n_rows),
        durations=content["durations"],
        encoder=content["encoder"],
        corpus=content["corpus"],
        audio=None if audio is None else AudioProvenance.from_content(audio, n_rows),
        failures=tuple((failed, reason) for failed, reason in content["failures"]),
        splits=None if content.get("splits") is None else ROW_SPLITS.read_index(content, n_rows),
    )
    check_set(path, loaded)
    return loaded


# Reader of each format. A new format adds a reader and keeps the others, so that an update loses no cache.
READERS: dict[int, FormatReader[FeatureSet]] = {1: _read_format_1}


def _copy_if_view(value: Any) -> Any:
    """Copy a tensor that is a view of a larger one, because torch.save would save all of the larger one."""
    if not isinstance(value, Tensor) or value.untyped_storage().nbytes() == value.nbytes:
        return value
    return value.clone()


def _is_npz(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() == ".npz"


def _read_plain(content: dict[str, Any], path: Path) -> FeatureSet:
    if not {"features", "labels"} <= content.keys():
        keys = ", ".join(map(str, content)) or "none"
        raise FeaturesError(
            other_kind(path, FILE_KIND, content) or f"{path}: this is not {FILE_KIND}; its keys: {keys}."
        )
    given = {name: content.get(name) for name in ("sessions", "ids", "durations", "splits")}
    optional: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if isinstance(optional.get("ids"), str):  # no list of ids, but a text of the other project
        del optional["ids"]
    try:
        loaded = FeatureSet.from_arrays(content["features"], content["labels"], corpus=path.stem, **optional)
    except FeaturesError as error:
        raise FeaturesError(f"{path}: {str(error)[0].lower()}{str(error)[1:]}") from error
    check_set(path, loaded)
    return loaded
