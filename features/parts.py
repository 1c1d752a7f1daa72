"""Part files: finished rows, appended to files beside the features file until they are merged into it."""

import mmap
import os
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from encoders import Spec
from features.feature_set import FeatureSet
from features.row_columns import DURATIONS, AudioProvenance
from features.set_checks import FeaturesError
from files import OutputError, tensors_from_bytes, tensors_to_bytes

# Header of a block: magic bytes, the lengths of its table and of its vectors (bytes), and the CRC-32 of both.
HEADER = struct.Struct("<8sQQI")
MAGIC = b"VoxRows1"
# Blocks, and the vectors in them, begin at multiples of this (bytes).
ALIGNMENT = 64
# Bytes that are read at a time to compute a checksum.
CHECKSUM_CHUNK = 1 << 24
FILE_KIND = "a part of a features file"


@dataclass(frozen=True, eq=False, kw_only=True)
class Block:
    """Vectors and what they were computed from, without their speakers and sessions.

    Attributes
    ----------
    ids : tuple of str
        Ids of the utterances.
    features : Tensor (n, D) or (n, L, D)
    durations : Tensor (n,)
        float32, length of the audio that went into each vector (seconds).
    audio : AudioProvenance
    encoder : dict
        Spec of the encoder.
    """

    ids: tuple[str, ...]
    features: Tensor
    durations: Tensor
    audio: AudioProvenance
    encoder: Spec

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self) -> dict[str, Tensor]:
        """Return the values of `COLUMNS`, by name."""
        return {"durations": self.durations, **self.audio.columns()}

    def select(self, rows: Tensor) -> "Block":
        """Return some rows (indices)."""
        ids = tuple(self.ids[row] for row in rows.tolist())
        return Block(
            ids=ids,
            features=self.features[rows],
            durations=self.durations[rows],
            audio=self.audio.select(rows),
            encoder=self.encoder,
        )


def block_of(features: FeatureSet) -> Block:
    """Return the rows of a feature set that has an `AudioProvenance`."""
    assert features.audio is not None, "check_same_origin refuses sets without an AudioProvenance"
    return Block(
        ids=features.ids,
        features=features.features,
        durations=features.durations,
        audio=features.audio,
        encoder=features.encoder,
    )


class PartFile:
    """A file that blocks are appended to.

    A block is on the disk when `append` returns. A process that is killed while it writes leaves a block that is cut
    off; the blocks before it are read, and it is not.
    """

    def __init__(self, folder: Path) -> None:
        # Names sort by time, and no two processes write to the same file.
        self.path = folder / f"{time.time_ns()}-{socket.gethostname()}-{os.getpid()}.part"
        self.n_rows = 0
        self._end = 0

    def append(self, block: Block) -> None:
        """Append a block.

        Raises
        ------
        OutputError
            The disk is full, or the folder cannot be written to.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "r+b" if self._end else "xb") as file:
                file.seek(self._end)
                try:
                    end = _write(file, self._end, block)
                    file.flush()
                    os.fsync(file.fileno())
                except BaseException:
                    file.truncate(self._end)  # a block that was not confirmed takes no space
                    raise
                self._end = end
            self.n_rows += len(block)
        except OSError as error:
            raise OutputError(
                f"{self.path}: this file cannot be written ({error.strerror or error}). The rows that were saved "
                "before are kept. Free some space, or check the permissions of the folder, and run the same command "
                "again."
            ) from error


def read_part(path: Path) -> list[Block]:
    """Open the blocks of a part file as a memory map, up to the first one that is damaged or cut off.

    Raises
    ------
    FeaturesError
        The file cannot be read, or is not a part file.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            magic = file.read(len(MAGIC))
            spans = list(_find_blocks(file, size))
            # A private map: writing to the vectors does not change the file.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if spans else mmap.mmap(-1, 1)
    except OSError as error:
        raise FeaturesError(f"{path}: this cannot be read ({error.strerror or error}).") from error
    if not MAGIC.startswith(magic):
        raise FeaturesError(f"{path}: this is not {FILE_KIND}.")
    return [_parse(path, mapped, span) for span in spans]


class _Span(NamedTuple):
    """Place of a block in a part file: the position of its table, and the lengths of table and vectors (bytes)."""

    table: int
    n_table: int
    n_vectors: int

    @property
    def vectors(self) -> int:
        """Position of the vectors (bytes)."""
        return _align(self.table + self.n_table)

    @property
    def end(self) -> int:
        """Position after the vectors (bytes)."""
        return self.vectors + self.n_vectors


def _find_blocks(file: BinaryIO, size: int) -> Iterator[_Span]:
    """Yield the places of the blocks, up to the first one that is damaged or cut off."""
    position = 0
    while position + HEADER.size <= size:
        file.seek(position)
        magic, n_table, n_vectors, checksum = HEADER.unpack(file.read(HEADER.size))
        span = _Span(position + HEADER.size, n_table, n_vectors)
        if magic != MAGIC or span.end > size or _checksum(file, span) != checksum:
            return
        yield span
        position = _align(span.end)


def _checksum(file: BinaryIO, span: _Span) -> int:
    file.seek(span.table)
    value = zlib.crc32(file.read(span.n_table))
    file.seek(span.vectors)
    n_left = span.n_vectors
    while n_left > 0:
        piece = file.read(min(n_left, CHECKSUM_CHUNK))
        value = zlib.crc32(piece, value)
        n_left -= len(piece)
    return value


def _write(file: BinaryIO, position: int, block: Block) -> int:
    """Write a block at the current position of a file; return the position after it."""
    table = tensors_to_bytes(
        {
            "shape": list(block.features.shape),
            "dtype": str(block.features.dtype).removeprefix("torch."),
            "ids": list(block.ids),
            "durations": block.durations,
            "encoder": block.encoder,
            "audio": dict(vars(block.audio)),
        }
    )
    vectors = block.features.contiguous().numpy().tobytes()
    checksum = zlib.crc32(vectors, zlib.crc32(table))
    span = _Span(position + HEADER.size, len(table), len(vectors))
    end = _align(span.end)
    file.write(HEADER.pack(MAGIC, len(table), len(vectors), checksum))
    file.write(table)
    file.write(bytes(span.vectors - span.table - span.n_table))  # padding
    file.write(vectors)
    file.write(bytes(end - span.end))  # padding
    return end


def _parse(path: Path, mapped: mmap.mmap, span: _Span) -> Block:
    data = mapped[span.table : span.table + span.n_table]
    table = tensors_from_bytes(data, path, FILE_KIND, error_class=FeaturesError)
    try:
        dtype = {"float32": torch.float32, "float16": torch.float16}[table["dtype"]]
        values = torch.frombuffer(mapped, dtype=dtype, count=span.n_vectors // dtype.itemsize, offset=span.vectors)
        n_rows = len(table["ids"])
        DURATIONS.check(table["durations"], n_rows)
        block = Block(
            ids=tuple(map(str, table["ids"])),
            features=values.reshape(table["shape"]),
            durations=table["durations"],
            audio=AudioProvenance.from_content(table["audio"], n_rows),
            encoder=dict(table["encoder"]),
        )
        if len(block.features) != n_rows or block.features.ndim not in (2, 3):
            raise ValueError(f"its vectors have the shape {tuple(block.features.shape)}, but it has {n_rows} ids")
    except Exception as error:  # the expected keys can have any values
        raise FeaturesError(f"{path}: this is not {FILE_KIND}; {type(error).__name__}: {error}.") from error
    return block


def _align(position: int) -> int:
    """Return the next multiple of `ALIGNMENT`."""
    return -(-position // ALIGNMENT) * ALIGNMENT
