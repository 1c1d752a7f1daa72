"""Read and write the rows of a `SpeakerStore`, with vectors as tensors.

A method with more than one statement must be called within a transaction, which `SpeakerStore` opens.
"""

import math
import sqlite3
import unicodedata
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from files import describe_similar, normal_form, unknown_choice, without_case_and_spaces
from verification.calibration import Conditions
from verification.enrolment import Enrolled, Recording
from verification.store_file import StoreError, check_name, damaged

# The number, in the table of recordings, of people who are not enrolled; the numbers of speakers begin with 1.
BACKGROUND = 0
# Maximum number of recordings of a speaker, and of background recordings, that `StoreRows.sample` returns.
SAMPLED, SAMPLED_BACKGROUND = 3, 500

# Number of recordings that `StoreRows.of_lengths` reads at a time.
BLOCK = 8_192


@dataclass(frozen=True, eq=False)
class Models:
    """Models of n speakers, with their numbers in the store and their recordings.

    Attributes
    ----------
    numbers, counts : Tensor (n,)
        int64, number of the speaker, and number of recordings.
    seconds : Tensor (n,)
        Total length of the recordings (seconds), 0 if not known.
    models : Tensor (n, K)
        float32.
    """

    numbers: Tensor
    counts: Tensor
    seconds: Tensor
    models: Tensor

    def conditions(self) -> Conditions:
        """Return the conditions of scores against the models."""
        return Conditions(self.counts.numpy(), (self.seconds / self.counts).numpy())


class StoreRows:
    """Access to the tables of a store.

    Parameters
    ----------
    path : Path
        Path of the file, for error messages.
    connection : sqlite3.Connection
    dim, model_dim : int
        Length of an embedding, and of a speaker's model.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, dim: int, model_dim: int) -> None:
        self.path, self._connection = path, connection
        self._dim, self.model_dim = dim, model_dim

    def count(self) -> int:
        """Return the number of speakers."""
        return int(self._connection.execute("SELECT count(*) FROM speakers").fetchone()[0])

    def speakers(self) -> list[Enrolled]:
        """List the speakers by name."""
        rows = self._connection.execute(
            "SELECT name, n_recordings, seconds, changed FROM speakers ORDER BY name"
        ).fetchall()
        if not all(tuple(map(type, row)) == (str, int, float, str) for row in rows):
            raise damaged(self.path, "a row of the table speakers has values of unexpected types")
        self._check_stored_names([row[0] for row in rows])
        return [Enrolled(normal_form(name), *others) for name, *others in rows]

    def find(self, name: str) -> int | None:
        """Return the number of a speaker, or None if there is no such speaker.

        Stores of earlier versions have names in the form in which they were given, NFC or NFD.
        """
        for form in dict.fromkeys([normal_form(name), unicodedata.normalize("NFD", name), name]):
            found = self._connection.execute("SELECT id FROM speakers WHERE name = ?", [form]).fetchone()
            if found is not None:
                return int(found[0])
        return None

    def similar(self, names: Set[str]) -> str | None:
        """Return which of some enrolled names equal other enrolled names except for case and spaces, in words."""
        keys = {without_case_and_spaces(name) for name in names}
        enrolled = (normal_form(str(name)) for (name,) in self._connection.execute("SELECT name FROM speakers"))
        return describe_similar(name for name in enrolled if without_case_and_spaces(name) in keys) if keys else None

    def number(self, name: str) -> int:
        """Return the number of a speaker.

        Raises
        ------
        StoreError
            There is no such speaker; the message suggests a similar name if there is one.
        """
        check_name(name, is_new=False)
        number = self.find(name)
        if number is None:
            names = [row[0] for row in self._connection.execute("SELECT name FROM speakers ORDER BY name LIMIT 1000")]
            refusal = unknown_choice(
                "enrolled speaker", name, names, max_listed=10, advice="The command list shows all."
            )
            raise StoreError(f"{self.path}: {refusal}")
        return number

    def names(self, numbers: Tensor) -> dict[int, str]:
        """Return the name of each speaker number; the number -1, which stands for no speaker, is left out."""
        select = "SELECT name FROM speakers WHERE id = ?"
        distinct = [number for number in torch.unique(numbers).tolist() if number >= 0]
        names = {number: self._connection.execute(select, [number]).fetchone()[0] for number in distinct}
        self._check_stored_names(list(names.values()))
        return {number: normal_form(name) for number, name in names.items()}

    def contents(self) -> Iterator[tuple[str, list[Recording]]]:
        """Yield the name and all recordings of each speaker."""
        for speaker in self.speakers():
            yield speaker.name, self.listed(self.number(speaker.name))

    def models(self, size: int, number: int | None = None, *, order: Literal["id", "name"] = "id") -> Iterator[Models]:
        """Yield blocks of at most `size` speakers; with `number`, only this speaker."""
        select = "SELECT id, n_recordings, seconds, model FROM speakers"
        if number is None:
            rows = self._connection.execute(f"{select} ORDER BY {order}")
        else:
            rows = self._connection.execute(f"{select} WHERE id = ?", [number])
        while block := rows.fetchmany(size):
            numbers, counts, seconds, blobs = zip(*block, strict=True)
            if not all(isinstance(count, int) and count > 0 for count in counts):
                raise damaged(self.path, "a speaker has no recordings")
            if not all(isinstance(length, float) for length in seconds):
                raise damaged(self.path, "a row of the table speakers has values of unexpected types")
            models = self._vectors(blobs, self.model_dim)
            yield Models(torch.tensor(numbers), torch.tensor(counts), seconds=torch.tensor(seconds), models=models)

    def sample(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return recordings of some speakers: the speakers' numbers (n,), lengths in seconds (n,) and vectors (n, D).

        At most `SAMPLED` recordings of each speaker are returned, and `SAMPLED_BACKGROUND` of the number `BACKGROUND`,
        which stands for people who are not enrolled.
        """
        select = "SELECT speaker, seconds, vector FROM recordings WHERE speaker = ? ORDER BY digest LIMIT ?"
        rows = [
            row
            for number in numbers.tolist()
            for row in self._connection.execute(
                select, [number, SAMPLED_BACKGROUND if number == BACKGROUND else SAMPLED]
            )
        ]
        if not all(isinstance(length, float) for _, length, _ in rows):
            raise damaged(self.path, "a row of the table recordings has values of unexpected types")
        speakers = torch.tensor([row[0] for row in rows], dtype=torch.int64)
        lengths = torch.tensor([row[1] for row in rows], dtype=torch.float32)
        return speakers, lengths, self._vectors([row[2] for row in rows], self._dim)

    def background(self) -> list[Recording]:
        """Return the background recordings."""
        return self.listed(BACKGROUND)

    def listed(self, number: int) -> list[Recording]:
        """Return the recordings of a speaker in the order of enrolment."""
        select = "SELECT path, digest, seconds, vector FROM recordings WHERE speaker = ? ORDER BY id"
        rows = self._connection.execute(select, [number]).fetchall()
        if not all(tuple(map(type, row)) == (str, bytes, float, bytes) for row in rows):
            raise damaged(self.path, "a row of the table recordings has values of unexpected types")
        vectors = self._vectors([row[3] for row in rows], self._dim)
        return [
            Recording(path=path, digest=digest, seconds=seconds, vector=vector)
            for (path, digest, seconds, _), vector in zip(rows, vectors, strict=True)
        ]

    def recordings(self, number: int) -> tuple[float, Tensor]:
        """Return the total length (seconds) and the vectors (n, D) of a speaker's recordings.

        The vectors are in an order that does not depend on the order of enrolment, so the model does not depend on it.
        """
        rows = self._connection.execute(
            "SELECT seconds, vector FROM recordings WHERE speaker = ? ORDER BY digest, vector", [number]
        ).fetchall()
        if not all(isinstance(length, float) for length, _ in rows):
            raise damaged(self.path, "a row of the table recordings has values of unexpected types")
        return math.fsum(length for length, _ in rows), self._vectors([vector for _, vector in rows], self._dim)

    def of_lengths(self, shortest: float, longest: float) -> Iterator[tuple[list[bytes], Tensor, Tensor]]:
        """Yield blocks of all recordings with a length in a range (seconds): digests, lengths (n,), vectors (n, D)."""
        select = "SELECT digest, seconds, vector FROM recordings WHERE seconds BETWEEN ? AND ?"
        rows = self._connection.execute(select, [shortest, longest])
        while block := rows.fetchmany(BLOCK):
            digests, seconds, vectors = zip(*block, strict=True)
            yield list(digests), torch.tensor(seconds, dtype=torch.float32), self._vectors(vectors, self._dim)

    def add_speaker(self, name: str) -> int:
        """Add a speaker without recordings; return the number of the speaker."""
        insert = "INSERT INTO speakers (name, n_recordings, seconds, changed, model) VALUES (?, 0, 0, '', x'')"
        number = self._connection.execute(insert, [normal_form(name)]).lastrowid
        assert number is not None
        return number

    def add_recording(self, number: int, name: str, recording: Recording) -> bool:
        """Add a recording to a speaker; return False if the speaker already has it.

        Raises
        ------
        StoreError
            The recording is enrolled as another speaker.
        """
        owner = self.owner(recording.digest)
        if owner == "":  # a recording of an enrolled speaker is no longer background
            self._connection.execute(
                "DELETE FROM recordings WHERE digest = ? AND speaker = ?", [recording.digest, BACKGROUND]
            )
        elif owner is not None and owner != normal_form(name):
            raise StoreError(
                f"{recording.path}: this recording cannot be enrolled as {name!r}, because it is already enrolled as "
                f"{owner!r}. No speaker was enrolled. Remove {owner!r}, or leave the recording out."
            )
        elif owner is not None:
            return False
        self._insert(number, recording)
        return True

    def owner(self, digest: bytes) -> str | None:
        """Return the name of the speaker that a recording is enrolled as, "" for a background recording, or None."""
        select = (
            "SELECT coalesce(speakers.name, '') FROM recordings LEFT JOIN speakers ON speakers.id = speaker "
            "WHERE digest = ?"
        )
        found = self._connection.execute(select, [digest]).fetchone()
        return None if found is None else normal_form(str(found[0]))

    def add_background(self, recording: Recording) -> bool:
        """Add a background recording; return False if the store already has the recording."""
        if self.owner(recording.digest) is not None:
            return False
        self._insert(BACKGROUND, recording)
        return True

    def _insert(self, number: int, recording: Recording) -> None:
        self._connection.execute(
            "INSERT INTO recordings (speaker, path, digest, seconds, vector) VALUES (?, ?, ?, ?, ?)",
            [number, stored_path(recording.path), recording.digest, recording.seconds, _to_blob(recording.vector)],
        )

    def update_speaker(self, number: int, n_recordings: int, *, seconds: float, model: Tensor) -> None:
        """Store the model (K,) of a speaker, and the number and total length (seconds) of the speaker's recordings."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        self._connection.execute(
            "UPDATE speakers SET n_recordings = ?, seconds = ?, changed = ?, model = ? WHERE id = ?",
            [n_recordings, seconds, now, _to_blob(model), number],
        )

    def remove_recording(self, digest: bytes) -> None:
        """Remove a recording; the model of its speaker must be updated."""
        self._connection.execute("DELETE FROM recordings WHERE digest = ?", [digest])

    def remove(self, number: int | None) -> None:
        """Remove a speaker with all recordings; None removes nothing."""
        self._connection.execute("DELETE FROM recordings WHERE speaker = ?", [number])
        self._connection.execute("DELETE FROM speakers WHERE id = ?", [number])

    def _check_stored_names(self, names: Sequence[str]) -> None:
        """Raise an error if no version of `SpeakerStore.enroll` would have accepted one of the names."""
        try:
            for name in names:
                check_name(name if isinstance(name, str) else "", is_new=False)
        except StoreError as error:
            raise damaged(self.path, str(error).partition(";")[0]) from error

    def _vectors(self, blobs: Sequence[bytes], dim: int) -> Tensor:
        """Return stored vectors as a table (n, dim)."""
        if not all(isinstance(blob, bytes) and len(blob) == 4 * dim for blob in blobs):
            raise damaged(self.path, f"a vector does not have the expected {dim} numbers")
        table = torch.from_numpy(np.frombuffer(bytearray().join(blobs), "<f4").astype(np.float32, copy=False))
        return table.reshape(len(blobs), dim)


def stored_path(path: str) -> str:
    """Return the path of a recording as it is stored: a name that is not valid UTF-8 has escapes."""
    return path.encode(errors="backslashreplace").decode()


def _to_blob(vector: Tensor) -> bytes:
    """Return a vector as little-endian float32."""
    return vector.float().numpy().astype("<f4").tobytes()
