"""The file of a `SpeakerStore`: its tables, its transactions, and what is said when something is wrong with it."""

import sqlite3
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from audio import InputError
from features import tensors_from_bytes
from heads import UNKNOWN
from verification.verifier import WHAT, SpeakerVerifier, VerifierError

FORMAT = 1
APPLICATION_ID = 0x56585053  # "VXPS": what tells the file from other SQLite files
SCHEMA = {
    "store": "CREATE TABLE store (verifier BLOB NOT NULL)",
    "speakers": (
        "CREATE TABLE speakers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, n_recordings INTEGER NOT NULL, "
        "seconds REAL NOT NULL, changed TEXT NOT NULL, model BLOB NOT NULL)"
    ),
    "recordings": (
        "CREATE TABLE recordings (id INTEGER PRIMARY KEY, speaker INTEGER NOT NULL, path TEXT NOT NULL, "
        "digest BLOB NOT NULL UNIQUE, seconds REAL NOT NULL, vector BLOB NOT NULL)"
    ),
    "recordings_of_speaker": "CREATE INDEX recordings_of_speaker ON recordings (speaker)",
}
# Several vectors fit into a page, so that a million are read in seconds.
PAGE_BYTES = 16_384
# How long one writer waits for another, seconds.
PATIENCE = 60.0
LONGEST_NAME = 200


class StoreError(InputError):
    """A store cannot be opened, or refuses what it was asked."""


def read_verifier(connection: sqlite3.Connection, path: Path) -> SpeakerVerifier:
    """Read the verifier of a file that is a store, and refuse one that is not.

    Raises
    ------
    InputError
    """
    with transaction(connection, "DEFERRED"):
        application, version, page = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "page_size")
        )
        if application != APPLICATION_ID:
            raise StoreError(f"{path}: this is not a store of speakers, as the command enroll makes one.")
        if version != FORMAT:
            raise StoreError(
                f"{path}: this store has the format {version}, expected {FORMAT}. Enrol the speakers again."
            )
        # Nothing but our tables: a trigger or a view would act when they are used.
        if dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")) != SCHEMA:
            raise damaged(path, "it has other tables than a store has")
        if path.stat().st_size % page:  # whole pages that are missing SQLite sees by itself
            raise damaged(path, "it is cut off")
        row = connection.execute("SELECT verifier FROM store").fetchone()
    if row is None or not isinstance(row[0], bytes):
        raise damaged(path, "it has no verifier")
    return SpeakerVerifier.from_content(tensors_from_bytes(row[0], path, WHAT, VerifierError), path)


def connect(path: Path, mode: Literal["rw", "rwc"]) -> sqlite3.Connection:
    """Open a file as SQLite does, to write or, with the right to read alone, to read; ``rwc`` makes a missing one."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, kind: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE") -> Iterator[None]:
    """Do all of the body, or none of it."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what SQLite or the system says into a sentence."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "decode" in str(error):
            raise damaged(path, str(error)) from error
        raise StoreError(f"{path}: {_advice(str(error))}") from error
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error)) from error
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}). Check the folder's rights, or choose another "
            "place."
        ) from error


def _advice(reason: str) -> str:
    if "locked" in reason:
        return f"another process has been writing to this store for {PATIENCE:.0f} s; try again when it has ended."
    if "full" in reason:
        return "the disk is full; the store is as it was before."
    if "readonly" in reason:
        return "this store cannot be written; check the rights of the file and of its folder."
    return f"this store cannot be used ({reason}). Check the rights of the file and of its folder."


def damaged(path: Path, reason: str) -> StoreError:
    """Make the error that says so."""
    return StoreError(
        f"{path}: this is not a store of speakers, or it is damaged ({reason}). Give another file, or an earlier copy."
    )


def check_name(name: str) -> None:
    """Refuse a name that could be mistaken.

    Raises
    ------
    StoreError
    """
    printable = all(unicodedata.category(letter)[0] != "C" for letter in name)
    if not name or name != name.strip() or not printable or len(name) > LONGEST_NAME or name.lower() == UNKNOWN:
        raise StoreError(
            f"{name[:LONGEST_NAME]!r} cannot be a speaker's name; give 1 to {LONGEST_NAME} printable characters "
            f"without spaces around them, other than {UNKNOWN!r}."
        )
