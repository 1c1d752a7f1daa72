"""Part files: rows that are finished, appended beside the features file that they will be merged into."""

import mmap
import os
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from encoders import Spec
from features.feature_set import AUDIO_COLUMNS, AudioProvenance, FeaturesError, FeatureSet
from features.files import OutputError, tensors_from_bytes, tensors_to_bytes

# Before each block: a mark, the lengths of its table and of its vectors (bytes), and the CRC-32 of both.
HEADER = struct.Struct("<8sQQI")
MARK = b"VoxRows1"
ALIGNMENT = 64
WHAT = "a part of a features file"
# Of the durations and the columns of the provenance.
COLUMN_TYPES = [torch.float32, torch.uint8, torch.int64, torch.int64, torch.float64, torch.float64]


@dataclass(frozen=True, eq=False)
class Block:
    """Vectors with what they were computed from, whoever speaks.

    Attributes
    ----------
    ids : tuple of str
        Ids of the utterances.
    features : Tensor (n, D) or (n, L, D)
    durations : Tensor (n,)
        float32, seconds of audio that went into each.
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

    def select(self, rows: Tensor) -> "Block":
        """Return some rows (indices)."""
        ids = tuple(self.ids[row] for row in rows.tolist())
        return Block(ids, self.features[rows], self.durations[rows], self.audio.select(rows), self.encoder)


def block_of(features: FeatureSet) -> Block:
    """Return the rows of a set whose audio is known."""
    assert features.audio is not None, "check_same_origin has refused sets without"
    return Block(features.ids, features.features, features.durations, features.audio, features.encoder)


class PartFile:
    """A file that blocks are appended to, each being on the disk when `append` returns.

    A process that dies in between leaves a block that is cut off, which is not read; all before it are.
    """

    def __init__(self, folder: Path) -> None:
        # Sorts by time; no two processes share one.
        self.path = folder / f"{time.time_ns()}-{socket.gethostname()}-{os.getpid()}.part"
        self.n_rows = 0
        self._end = 0

    def append(self, block: Block) -> None:
        """Append a block.

        Raises
        ------
        OutputError
            The disk is full, or the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "r+b" if self._end else "xb") as file:
                file.seek(self._end)
                try:
                    _write(file, block)
                    file.flush()
                    os.fsync(file.fileno())
                except BaseException:
                    file.truncate(self._end)  # what `append` did not confirm is not there, and takes no room
                    raise
                self._end = file.tell()
            self.n_rows += len(block)
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror or error}). What was computed before is kept; make "
                "room, or check the folder's rights, and run the same command again."
            ) from error


def read_part(path: Path) -> list[Block]:
    """Open the blocks of a part file as a memory map, up to the first one that is damaged or cut off.

    Raises
    ------
    FeaturesError
        This is no part file.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            mark = file.read(len(MARK))
            spans = list(_whole_blocks(file, size))
            # Private: vectors may be written to by who uses them, and the file stays as it is.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if spans else mmap.mmap(-1, 1)
    except OSError as error:
        raise FeaturesError(f"{path}: this cannot be read ({error.strerror or error}).") from error
    if not MARK.startswith(mark):
        raise FeaturesError(f"{path}: this is not {WHAT}.")
    return [_parse(path, mapped, *span) for span in spans]


def _whole_blocks(file: BinaryIO, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield where the table of each block begins, its length, and that of the vectors."""
    place = 0
    while place + HEADER.size <= size:
        file.seek(place)
        mark, n_table, n_vectors, checksum = HEADER.unpack(file.read(HEADER.size))
        begin = place + HEADER.size
        end = _aligned(begin + n_table) + n_vectors
        if mark != MARK or end > size or _checksum(file, begin, n_table, n_vectors) != checksum:
            return
        yield begin, n_table, n_vectors
        place = _aligned(end)


def _checksum(file: BinaryIO, begin: int, n_table: int, n_vectors: int) -> int:
    file.seek(begin)
    value = zlib.crc32(file.read(n_table))
    file.seek(_aligned(begin + n_table))
    while n_vectors > 0:
        piece = file.read(min(n_vectors, 1 << 24))
        value = zlib.crc32(piece, value)
        n_vectors -= len(piece)
    return value


def _write(file: BinaryIO, block: Block) -> None:
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
    file.write(HEADER.pack(MARK, len(table), len(vectors), checksum))
    file.write(table)
    file.write(bytes(_aligned(file.tell()) - file.tell()))
    file.write(vectors)
    file.write(bytes(_aligned(file.tell()) - file.tell()))


def _parse(path: Path, mapped: mmap.mmap, begin: int, n_table: int, n_vectors: int) -> Block:
    table = tensors_from_bytes(mapped[begin : begin + n_table], path, WHAT, FeaturesError)
    try:
        dtype = {"float32": torch.float32, "float16": torch.float16}[table["dtype"]]
        place = _aligned(begin + n_table)
        values = torch.frombuffer(mapped, dtype=dtype, count=n_vectors // dtype.itemsize, offset=place)
        block = Block(
            tuple(map(str, table["ids"])),
            values.reshape(table["shape"]),
            table["durations"],
            AudioProvenance(**table["audio"]),
            dict(table["encoder"]),
        )
        columns = [block.durations, *(getattr(block.audio, name) for name in AUDIO_COLUMNS)]
        lengths = {len(block), len(block.features), *map(len, columns)}
        if len(lengths) != 1 or block.audio.digest.shape[1:] != (32,) or block.features.ndim not in (2, 3):
            raise ValueError("its columns are not of one length")
        if [column.dtype for column in columns] != COLUMN_TYPES:
            raise ValueError("its columns are of other types")
    except Exception as error:  # right keys can hold anything
        raise FeaturesError(f"{path}: this is not {WHAT}; {type(error).__name__}: {error}.") from error
    return block


def _aligned(place: int) -> int:
    return -(-place // ALIGNMENT) * ALIGNMENT
