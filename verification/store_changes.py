"""Change the recordings of one speaker in a store, and the model that is computed from them.

The caller must have opened a transaction.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from files import file_digest, normal_form, unknown_choice
from verification.backends import Backend
from verification.enrolment import Recording
from verification.store_file import StoreError, check_name
from verification.store_rows import StoreRows, stored_path


def enroll_recordings(rows: StoreRows, backend: Backend, name: str, *, recordings: Sequence[Recording]) -> int:
    """Add recordings to a speaker, who is added too if new; return the number of recordings that were added.

    Raises
    ------
    StoreError
        The name is invalid, there is no recording, or one cannot be enrolled.
    """
    check_name(name)
    if not recordings:
        raise StoreError(f"There is no recording to enrol {name!r} with. Give at least one.")
    number = rows.find(name)
    if number is None:
        number = rows.add_speaker(name)
    added = sum(rows.add_recording(number, name, recording) for recording in recordings)
    _update_model(rows, backend, name)
    return added


def forget_recording(rows: StoreRows, backend: Backend, name: str, *, given: str) -> int:
    """Remove a recording of a speaker; return the number of recordings that were removed.

    The recording is the one that was enrolled under the name `given`, or that of a file. Recordings that were enrolled
    under the same name, such as two versions of a file, are all removed.

    Raises
    ------
    StoreError
        There is no such speaker or recording, or the speaker has no other recording.
    """
    listed = rows.listed(rows.number(name))
    chosen = _find(listed, given)
    if not chosen:
        names = [recording.path for recording in listed]
        refusal = unknown_choice(
            "recording", given, names, owner=repr(name), max_listed=10, advice="The command list --name shows all."
        )
        raise StoreError(f"{rows.path}: {refusal}")
    if len(chosen) == len(listed):
        raise StoreError(
            f"{rows.path}: {name!r} has no other recording than {given}. To remove the speaker, leave out --recording."
        )
    for recording in chosen:
        rows.remove_recording(recording.digest)
    _update_model(rows, backend, name)
    return len(chosen)


def _find(listed: Sequence[Recording], given: str) -> list[Recording]:
    """Return the recordings with a name or, if there are none, of the same path, or else of the same content."""
    name = stored_path(given)
    found = [each for each in listed if normal_form(each.path) == normal_form(name)]
    place = Path(name).resolve()
    found = found or [each for each in listed if Path(each.path).resolve() == place]
    path = Path(given)
    if found or not path.is_file():
        return found
    status = path.stat()
    digest = file_digest(path, status.st_size, status.st_mtime_ns)
    return [each for each in listed if each.digest == digest]


def _update_model(rows: StoreRows, backend: Backend, name: str) -> None:
    """Compute the model of a speaker from all of the speaker's recordings."""
    number = rows.number(name)
    seconds, vectors = rows.recordings(number)
    model = backend.combine(backend.embed(vectors))
    if not bool(torch.isfinite(model).all()):
        raise StoreError(
            f"An embedding of {name!r} is too large to have a finite score. Remove the recording from the input."
        )
    rows.update_speaker(number, len(vectors), seconds=seconds, model=model)
