"""The inputs for recordings, and the limits that keep one recording from occupying the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import gradio

from audio import AudioError, span_seconds
from files import format_duration

# Longest recording for an answer about one speaker (seconds); only the timeline takes longer ones.
MAX_SECONDS = 900.0


class _Files(gradio.File):
    """Input for files that a function receives as paths; that of `gradio.File` leaves an empty file for each upload."""

    is_template = True  # the browser's part is that of `gradio.File`

    def preprocess(self, payload: Any) -> Any:
        if payload is None:
            return []
        return [each.path for each in payload]


def recording_files(label: str) -> gradio.File:
    """Make an input for several recordings, which a function receives as a list of paths."""
    return _Files(label=label, file_count="multiple", height=140)


def recording_input(label: str, sources: Sequence[Literal["upload", "microphone"]]) -> gradio.Audio:
    """Make an input for one recording, which a function receives as a path, or None."""
    return gradio.Audio(label=label, sources=list(sources), type="filepath", editable=False, buttons=[])


def given_paths(files: Sequence[str], recorded: str | None = None) -> list[Path]:
    """Return the paths of uploaded files, and of a recording by microphone."""
    return [Path(path) for path in [*files, *([] if recorded is None else [recorded])]]


def refusal(path: Path, longest: float = MAX_SECONDS) -> str | None:
    """Return why a recording is not used, before any of it is decoded: it is unreadable or too long; else None."""
    if not path.exists():
        return "the upload is no longer on the server: an upload serves one call, or is deleted after 15 minutes"
    try:
        seconds = span_seconds(path)
    except AudioError as error:
        return error.reason
    if seconds <= longest:
        return None
    return (
        f"the recording lasts {format_duration(seconds)}; the page takes up to {format_duration(longest)} here. Cut it, "
        "or use the script"
    )
