"""Read what the header of a sound file says."""

from pathlib import Path
from typing import NamedTuple

from audio.sound_file import open_sound
from files import PathLike


class Header(NamedTuple):
    """What the header of a sound file says.

    Attributes
    ----------
    sample_rate : int
        Sampling rate (Hz).
    channels : int
        Number of channels.
    format, subtype : str
        Container and encoding, such as ``FLAC`` and ``PCM_16``, or ``MP4`` and ``AAC``.
    """

    sample_rate: int
    channels: int
    format: str
    subtype: str


def read_header(path: PathLike) -> Header:
    """Return what the header of a sound file says; `span_seconds` returns its length.

    Raises
    ------
    AudioError
        The file is missing, empty, not audio or unreadable, or its header is damaged.
    """
    with open_sound(Path(path)) as file:
        return Header(file.samplerate, file.channels, file.format, subtype=file.subtype)
