"""Columns of the rows of features files and part files, beside the vectors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from files import fields_repr

# Value of the column ``channel`` for the mean of all channels.
MEAN_CHANNEL = -1
# Other types of columns of indices that a file may have; they are converted.
SMALLER_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32)


@dataclass(frozen=True)
class Column:
    """A value that each row has beside its vector.

    Attributes
    ----------
    name : str
        Attribute of `AudioProvenance` or, for ``durations``, ``labels``, ``sessions`` and ``splits``, of the set.
    dtype : torch.dtype
    shape : tuple of int
        Shape of one row's value.
    default : float or None
        Value for rows that were stored before the column existed; None if all files have the column.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...] = ()
    default: float | None = None

    def check(self, values: object, n_rows: int) -> None:
        """Refuse values with another number of rows, type or shape.

        Raises
        ------
        ValueError
        """
        expected = (n_rows, *self.shape)
        if not isinstance(values, Tensor):
            raise ValueError(f"its {self.name} are a {type(values).__name__}; expected {self.dtype}, {expected}")
        if tuple(values.shape) != expected or values.dtype != self.dtype:
            raise ValueError(
                f"its {self.name} are {values.dtype} of shape {tuple(values.shape)}; expected {self.dtype}, {expected}"
            )

    def read_index(self, content: Mapping[str, Any], n_rows: int) -> Tensor:
        """Return the column of a file's content as int64, and check it; a file may have smaller integers.

        Raises
        ------
        ValueError
            As in `check`.
        """
        values = content[self.name]
        index: Tensor = values.long() if isinstance(values, Tensor) and values.dtype in SMALLER_INTEGERS else values
        self.check(index, n_rows)
        return index

    def fill(self, n_rows: int) -> Tensor:
        """Return the values of rows that were stored before the column existed.

        Raises
        ------
        ValueError
            All files should have the column, so the file is damaged.
        """
        if self.default is None:
            raise ValueError(f"it has no {self.name}")
        return torch.full((n_rows, *self.shape), self.default, dtype=self.dtype)


# To add a column, add an entry here, a field of `AudioProvenance`, and its value in `features.computing`. Reading,
# selecting, merging and checking use these tables.
AUDIO_COLUMNS = (
    Column("digest", torch.uint8, (32,)),
    Column("size", torch.int64),
    Column("mtime_ns", torch.int64),
    Column("start", torch.float64),
    Column("duration", torch.float64),
    Column("channel", torch.int64, default=MEAN_CHANNEL),
    Column("file_rate", torch.int64, default=0),
    Column("offset", torch.float32, default=math.nan),
    Column("bandwidth", torch.float32, default=math.nan),
)
DURATIONS = Column("durations", torch.float32)
# Indices into names. The last is optional: indices into `corpora.SPLITS`, -1 for none.
LABELS, SESSIONS, ROW_SPLITS = (Column(name, torch.int64) for name in ("labels", "sessions", "splits"))
COLUMNS = (DURATIONS, *AUDIO_COLUMNS)


@dataclass(frozen=True, eq=False)
class AudioProvenance:
    """What the vectors were computed from; a row is valid as long as the file, the span, the channel and
    the crop are the same.

    Attributes
    ----------
    digest : Tensor (N, 32)
        uint8, SHA-256 of each file's bytes.
    size, mtime_ns : Tensor (N,)
        int64, size (bytes) and modification time (ns) of each file; the digest is recomputed only if they change.
    start, duration : Tensor (N,)
        float64, span in the file (seconds); a NaN duration means to its end.
    channel : Tensor (N,)
        int64, number of the channel, from 0; `MEAN_CHANNEL` (-1) for the mean of all.
    file_rate : Tensor (N,)
        int64, sampling rate of each file (Hz); 0 if it is not known.
    offset : Tensor (N,)
        float32, mean of the samples (full scale is 1), which is removed where it is above `embedding.MAX_OFFSET`; with
        windows, the largest of all windows, positive or negative. NaN if it is not known.
    bandwidth : Tensor (N,)
        float32, highest frequency at which the audio that the encoder received has energy (Hz;
        `audio.measure_bandwidth`); NaN if it is not known.
    rate : int
        Sampling rate that the encoder received (Hz).
    crop : float or None
        ``max_duration``: maximum length of the part of each span that was read (seconds).
    """

    digest: Tensor
    size: Tensor
    mtime_ns: Tensor
    start: Tensor
    duration: Tensor
    channel: Tensor
    file_rate: Tensor
    offset: Tensor
    bandwidth: Tensor
    rate: int
    crop: float | None

    __repr__ = fields_repr

    def columns(self) -> dict[str, Tensor]:
        """Return the tensors with one value per row, by name."""
        return {column.name: getattr(self, column.name) for column in AUDIO_COLUMNS}

    def select(self, rows: Tensor) -> "AudioProvenance":
        """Return the provenance of some rows (indices)."""
        columns = {name: values[rows] for name, values in self.columns().items()}
        return type(self)(**columns, rate=self.rate, crop=self.crop)

    @classmethod
    def from_content(cls, content: Mapping[str, Any], n_rows: int) -> "AudioProvenance":
        """Create an instance from the values in a file, and check them.

        Raises
        ------
        ValueError
            A column is missing, or its number of rows, type or shape is wrong.
        """
        values = dict(content)
        for column in AUDIO_COLUMNS:
            if column.name not in values:
                values[column.name] = column.fill(n_rows)
            column.check(values[column.name], n_rows)
        return cls(**values)
