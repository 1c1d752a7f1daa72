"""Find the audio files below a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

# Files with these endings are meant as audio: one that cannot be decoded is reported, never passed over.
SUFFIXES = frozenset(
    {".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"}
    | {".w64", ".rf64", ".sph", ".voc", ".m4a", ".aac", ".wma", ".mp4", ".webm"}
)
# Under any other ending a file counts as audio if it begins like one (a marker, and where it stands).
MARKERS = (
    (b"RIFF", 0),
    (b"RIFX", 0),
    (b"RF64", 0),
    (b"fLaC", 0),
    (b"OggS", 0),
    (b"FORM", 0),
    (b".snd", 0),
    (b"caff", 0),
)


def find_audio(root: str | os.PathLike[str]) -> list[str]:
    """List the audio files below a folder.

    A file counts by a suffix of `SUFFIXES`, in any case, or else by its first bytes. Hidden files and folders are
    passed over; links are followed, each folder being visited once.

    Parameters
    ----------
    root : path-like
        An existing folder.

    Returns
    -------
    list of str
        POSIX paths relative to `root`, sorted.
    """
    root = os.fspath(root)
    return sorted(path for path in _walk(root, "", set()) if _is_audio(os.path.join(root, path), path))


def _walk(folder: str, prefix: str, visited: set[tuple[int, int]]) -> Iterator[str]:
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in visited:  # a link that leads back up would never end
        return
    visited.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, f"{prefix}{entry.name}/", visited)
            elif entry.is_file() or entry.is_symlink():  # a dangling link is a recording that is missing: it is told
                yield prefix + entry.name


def _is_audio(path: str, name: str) -> bool:
    if Path(name).suffix.lower() in SUFFIXES:
        return True
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError:
        return False
    if head.startswith(b"RIFF"):
        return head[8:] == b"WAVE"  # pictures and films are RIFF files too
    return any(head.startswith(marker, at) for marker, at in MARKERS)
