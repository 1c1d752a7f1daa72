"""The inputs for recordings, and the limits that keep one recording from occupying the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio

from audio import AudioError, span_seconds
from files import format_duration

# Longest recording for an answer about one speaker (seconds); only the timeline takes longer ones.
MAX_SECONDS = 900.0

from gradio.events import Dependency

class RecordingFiles(gradio.File):
    """Input for several recordings, which a function receives as paths in the order of the files."""

    is_template = True  # the browser's part is that of `gradio.File`

    def __init__(self, label: str, **options: Any) -> None:
        super().__init__(label=label, file_count="multiple", height=140, **options)

    def preprocess(self, payload: Any) -> Any:
        # That of `gradio.File` makes an empty file for each upload, and leaves it.
        return [] if payload is None else [each.path for each in payload]
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component


class Microphone(gradio.Audio):
    """Input for one recording by microphone."""

    is_template = True

    def __init__(self, label: str, **options: Any) -> None:
        super().__init__(
            label=label,
            sources=options.pop("sources", ["microphone"]),
            type="filepath",
            editable=False,
            buttons=[],
            **options,
        )
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component


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
class _Files(gradio.File):
    """Input for files that a function receives as paths; that of `gradio.File` leaves an empty file for each upload."""

    is_template = True  # the browser's part is that of `gradio.File`

    def preprocess(self, payload: Any) -> Any:
        if payload is None:
            return []
        return [each.path for each in payload]
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

    