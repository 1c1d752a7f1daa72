"""The error that is raised for audio that cannot be used."""

import os
from pathlib import Path
from typing import Literal

from files import InputError

AudioFault = Literal[
    "missing", "empty", "truncated", "not_audio", "damaged", "unreadable", "not_finite", "unknown_scale", "silent",
    "out_of_range", "no_channel", "no_speech", "too_short",
]  # fmt: skip


class AudioError(InputError):
    """An audio file, or the requested span of it, cannot be used.

    Attributes
    ----------
    path : Path
        The file.
    fault : str
        Kind of fault, one of `AudioFault`. All but ``missing`` and ``unreadable``, which may be different at the next
        try, are faults of the content or of the requested span.
    reason : str
        Description of the fault, without the path.
    """

    def __init__(self, path: str | os.PathLike[str], fault: AudioFault, reason: str) -> None:
        super().__init__(path, fault, reason)  # all arguments, because unpickling passes them to __init__
        self.path = Path(path)
        self.fault: AudioFault = fault
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"
