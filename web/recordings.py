"""The inputs for recordings, and the limits that keep one recording from occupying the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio

from audio import AudioError, span_seconds
from files import format_duration, normal_form

# Longest recording for an answer about one speaker (seconds); only the timeline takes longer ones.
MAX_SECONDS = 900.0


@dataclass(frozen=True)
class Upload:
    """A recording that a browser sent.

    Attributes
    ----------
    path : Path
        File on this machine, until the call ends.
    name : str
        Name of the file in the browser.
    """

    path: Path
    name: str

    @property
    def key(self) -> str:
        """Name by which the browser knows the audio that it keeps: that of the folder of the upload."""
        return self.path.parent.name


def _upload(given: Any) -> Upload:
    path = Path(given.path)
    return Upload(path, Path(given.orig_name or path.name).name)


def _files(label: str, *, several: bool, **options: Any) -> gradio.File:
    """Make an input for files that a function receives as `Upload` objects: a list of them, or one or None."""
    files = gradio.File(label=label, file_count="multiple" if several else "single", height=140, **options)

    def preprocess(payload: Any) -> Any:
        if several:
            return [] if payload is None else [_upload(each) for each in payload]
        return None if payload is None else _upload(payload)

    # The method of `gradio.File` leaves an empty file on the disk for each upload, and drops the name in the browser.
    # It is replaced here, since Gradio writes a stub file into this folder for each class that inherits from it.
    files.preprocess = preprocess  # type: ignore[method-assign]
    return files


def several_recordings(label: str) -> gradio.File:
    """Make an input for several recordings, by files or by microphone; a function receives a list of `Upload`."""
    with gradio.Row(equal_height=True):
        files = _files(label, several=True, scale=2)
        _collect(_microphone("Microphone"), files)
    return files


def one_recording(label: str) -> gradio.File:
    """Make an input for one recording, by a file or by microphone; a function receives an `Upload`, or None."""
    with gradio.Column():
        file = _files(label, several=False)
        _collect(_microphone(f"Microphone: {label}"), file)
    return file


def one_long_recording(label: str) -> gradio.File:
    """Make an input for one long recording by a file; a function receives an `Upload`, or None."""
    return _files(label, several=False)


def _microphone(label: str) -> gradio.Audio:
    return gradio.Audio(
        label=label, sources=["microphone"], type="filepath", format=None, editable=False, buttons=[], scale=1
    )


def _collect(microphone: gradio.Audio, files: gradio.File) -> None:
    """Move each recording by microphone to the files, in the browser."""
    microphone.change(
        None,
        [files, microphone],
        [files, microphone],
        js="(files, recorded) => voxprobe.collect(files, recorded)",
        api_visibility="private",
    )


def refusal(upload: Upload, longest: float = MAX_SECONDS) -> str | None:
    """Return why a recording is not used, before any of it is decoded: it is unreadable or too long; else None."""
    if not upload.path.exists():
        return "the upload is no longer on the server: it serves one call, and waits for at most 15 minutes"
    try:
        seconds = span_seconds(upload.path)
    except AudioError as error:
        return error.reason
    if seconds <= longest:
        return None
    return (
        f"the recording lasts {format_duration(seconds)}, and at most {format_duration(longest)} are accepted here; "
        "cut it, or use the script"
    )


def unique_names(uploads: Sequence[Upload], taken: Sequence[str] = ()) -> list[str]:
    """Return a name for each recording that no other one, and none of those taken, has."""
    names: list[str] = []
    used = set(map(normal_form, taken))
    for upload in uploads:
        name, number = normal_form(upload.name), 1
        while name in used:
            number += 1
            name = normal_form(f"{Path(upload.name).stem} ({number}){Path(upload.name).suffix}")
        names.append(name)
        used.add(name)
    return names
