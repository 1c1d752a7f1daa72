"""The SQLite file of a `SpeakerStore`: schema, transactions, and the errors for a file that cannot be used."""

import sqlite3
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from encoders import Spec, spec_differences
from files import STORE_ID, UNKNOWN, InputError, is_missing, is_reserved, other_kind, tensors_from_bytes
from verification.verifier import FILE_KIND, SpeakerVerifier, VerifierError

FORMAT = 1
STORE_KIND = "a store of speakers, as speaker_verification.py enroll makes one"
APPLICATION_ID = int.from_bytes(STORE_ID, "big")
# Stores of earlier versions lack this index; the search for the same audio is then slower.
ADDED_INDEX = "recordings_of_length"
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
    ADDED_INDEX: "CREATE INDEX recordings_of_length ON recordings (seconds)",
}
# Large enough for several vectors per page, so that a million vectors are read in seconds.
PAGE_BYTES = 16_384
# Maximum time that a process waits while another process writes (seconds).
TIMEOUT = 60.0
# Maximum length of a speaker's name (characters).
MAX_NAME_LENGTH = 200


class StoreError(InputError):
    """A store cannot be opened or changed, or refuses a request."""


def create_tables(connection: sqlite3.Connection, verifier: bytes) -> None:
    """Create the tables of a store in an empty file; a file that already has tables is not changed."""
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    with transaction(connection):
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in SCHEMA.values():
                connection.execute(statement)
            connection.execute("INSERT INTO store VALUES (?)", [verifier])
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")


def read_verifier(connection: sqlite3.Connection, path: Path) -> SpeakerVerifier:
    """Read the verifier of a store.

    Raises
    ------
    InputError
        The file is not a store, has another format, or is damaged.
    """
    with transaction(connection, "DEFERRED"):
        application, version, page = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "page_size")
        )
        if application != APPLICATION_ID:
            raise StoreError(other_kind(path, STORE_KIND) or f"{path}: this is not {STORE_KIND}.")
        if version != FORMAT:
            raise StoreError(
                f"{path}: this store has the format {version}; expected {FORMAT}. Enrol the speakers again."
            )
        # Other objects are refused: a trigger or a view could run statements when the tables are used.
        objects = set(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
        required = {(name, statement) for name, statement in SCHEMA.items() if name != ADDED_INDEX}
        if not required <= objects <= set(SCHEMA.items()):
            raise damaged(path, "its tables are not those of a store")
        if path.stat().st_size % page:  # SQLite itself detects whole pages that are missing
            raise damaged(path, "it is truncated")
        row = connection.execute("SELECT verifier FROM store").fetchone()
    if row is None or not isinstance(row[0], bytes):
        raise damaged(path, "it has no verifier")
    verifier = SpeakerVerifier.from_content(
        tensors_from_bytes(row[0], path, FILE_KIND, error_class=VerifierError), path
    )
    return _with_ready_figures(verifier)


def _with_ready_figures(verifier: SpeakerVerifier) -> SpeakerVerifier:
    """Add the figures of the ready verifier to one that an earlier version put into a store without them."""
    is_complete = verifier.unknown_scores is not None and verifier.score_histogram is not None
    if verifier.self_calibration is None or is_complete:
        return verifier
    ready = SpeakerVerifier.ready()
    if not verifier.same_decisions_as(ready):
        return verifier
    return replace(verifier, training=ready.training, unknown_scores=ready.unknown_scores)


def connect(path: Path, mode: Literal["rw", "rwc"]) -> sqlite3.Connection:
    """Open a file for writing, or for reading if it is write-protected; mode ``rwc`` creates a missing file."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=TIMEOUT, isolation_level=None)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    # The bytes of removed speakers and recordings are overwritten; some builds of SQLite would leave them in the file.
    connection.execute("PRAGMA secure_delete = ON")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, kind: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE") -> Iterator[None]:
    """Run the body of the ``with`` statement as one transaction; an error rolls back all of its changes."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def translate_sqlite_errors(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and of the operating system into `StoreError`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "decode" in str(error):
            raise damaged(path, str(error)) from error
        raise StoreError(f"{path}: {_advice(str(error))}") from error
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            raise StoreError(other_kind(path, STORE_KIND) or str(damaged(path, str(error)))) from error
        raise damaged(path, str(error)) from error
    except UnicodeDecodeError as error:  # raised by sqlite3 for a text, or for its own message about one
        raise damaged(path, "a text is not valid UTF-8") from error
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}). Check the permissions of the folder, or give "
            "another path."
        ) from error


def _advice(reason: str) -> str:
    if "locked" in reason:
        return f"another process has been writing to this store for {TIMEOUT:.0f} s. Try again when it has finished."
    if "full" in reason:
        return "the disk is full, and the store was not changed. Free some space and try again."
    if "readonly" in reason:
        return "this store cannot be written. Check the permissions of the file and of its folder."
    return f"this store cannot be used ({reason}). Check the permissions of the file and of its folder."


def damaged(path: Path, reason: str) -> StoreError:
    """Return the error for a damaged file."""
    return StoreError(
        f"{path}: this is not a store of speakers, or it is damaged ({reason}). Give another file, or restore a backup."
    )


def other_verifier(path: Path, own: SpeakerVerifier, given: SpeakerVerifier) -> StoreError:
    """Return the error for a store that was made with another verifier."""
    differences = spec_differences(given.encoder, own.encoder)
    reason = "The given verifier differs from the verifier of the store"
    if differences:
        reason = f"The encoders differ: {'; '.join(differences)}"
    return StoreError(
        f"{path}: this store was made with the encoder {own.encoder.get('name')!r} and the backend "
        f"{own.backend.name!r}. {reason}. Use the store without --verifier, or make a new store."
    )


def check_origin(path: Path, verifier: SpeakerVerifier, source: str, *, encoder: Spec, crop: float | None) -> None:
    """Raise an error if the vectors of a source were made by another encoder, or with another crop, than a store uses.

    Raises
    ------
    StoreError
        The message lists the differences.
    """
    differences = spec_differences(encoder, verifier.encoder)
    if crop != verifier.crop:
        differences.append(f"max_duration is {crop} in {source}, {verifier.crop} in the store")
    if differences:
        raise StoreError(
            f"{path}: the store uses the encoder {verifier.encoder.get('name')!r}, but {source} uses a "
            f"different encoder or setting: {'; '.join(differences)}. Extract or enrol the recordings again with "
            "the same settings."
        )


def check_background(path: Path, verifier: SpeakerVerifier) -> None:
    """Raise an error if a store with this verifier cannot use background recordings.

    Raises
    ------
    StoreError
        The verifier is not adapted by its store.
    """
    if verifier.self_calibration is None:
        raise StoreError(
            f"{path}: background recordings have no effect on this store, because its verifier was trained and is not "
            "adapted. Train it on such recordings, or make a store with the ready verifier."
        )


def name_problem(name: str, *, is_new: bool = True) -> str | None:
    """Return why a name is invalid, without a full stop, or None.

    A name is invalid if it is empty or too long, has spaces around it or unprintable characters, or is `UNKNOWN`. A new
    name is also invalid if it stands for a missing name, such as ``nan``; stores of earlier versions can have those.
    """
    printable = all(unicodedata.category(letter)[0] != "C" for letter in name)
    if not name or name != name.strip() or not printable or len(name) > MAX_NAME_LENGTH or is_reserved(name):
        return (
            f"{name[:MAX_NAME_LENGTH]!r} cannot be a speaker's name; give 1 to {MAX_NAME_LENGTH} printable characters "
            f"without spaces around them, other than {UNKNOWN!r}"
        )
    if is_new and is_missing(name):
        return f"{name!r} cannot be a speaker's name, because it stands for a missing name; give another name"
    return None


def check_name(name: str, *, is_new: bool = True) -> None:
    """Raise an error if a name is invalid.

    Raises
    ------
    StoreError
        The name is invalid, as `name_problem` describes.
    """
    problem = name_problem(name, is_new=is_new)
    if problem is not None:
        raise StoreError(f"{problem}.")
