"""The errors that this project answers bad input with."""

import os
from pathlib import Path
from typing import Literal

AudioFault = Literal["missing", "empty", "truncated", "not_audio", "unreadable", "not_finite", "silent", "out_of_range"]


class InputError(ValueError):
    """Something that the user gave cannot be used; the message says what, why and what to do.

    Every room raises a subclass of its own. The scripts answer any of them with the sentence alone and exit code 2.
    """


class AudioError(InputError):
    """One audio file, or the span asked of it, cannot be used.

    Attributes
    ----------
    path : Path
        The file.
    fault : str
        What kind of fault it is, one of `AudioFault`.
    reason : str
        The fault in words, without the path.
    """

    def __init__(self, path: str | os.PathLike[str], fault: AudioFault, reason: str) -> None:
        super().__init__(path, fault, reason)  # all three, so that the error survives pickling between processes
        self.path = Path(path)
        self.fault: AudioFault = fault
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"
