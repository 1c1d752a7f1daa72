"""Find the audio files below a folder."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from corpora.corpus import CorpusError

logger = logging.getLogger(__name__)

# Files with these endings are meant as audio: one that cannot be decoded is reported, never passed over.
SUFFIXES = frozenset(
    {".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"}
    | {".w64", ".rf64", ".sph", ".voc", ".m4a", ".aac", ".wma", ".mp4", ".webm"}
)
# Under any other ending a file counts as audio if its first 12 bytes are those of a container.
CONTAINER = re.compile(
    rb"RIFF....WAVE|RIFX....WAVE|RF64....WAVE|riff\x2e\x91\xcf\x11|fLaC|OggS\x00|FORM....(?:AIFF|AIFC|8SVX)|\.snd\x00"
    rb"|caff\x00\x01|NIST_1A\n|Creative Voi|ID3[\x02-\x04]|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]",
    re.DOTALL,
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


def find_recordings(path: Path | None) -> list[Path]:
    """Return the file that a user named, or the audio files in the folder and all folders in it.

    Raises
    ------
    CorpusError
        None was named, there is no such file or folder, or no audio in it.
    """
    if path is None:
        raise CorpusError("Say what to listen to: --audio_path FILE_OR_FOLDER.")
    if not path.exists():
        raise CorpusError(f"{path}: no such file or folder. Give an audio file, or a folder of them.")
    paths = [path] if not path.is_dir() else [path / name for name in find_audio(path)]
    if not paths:
        raise CorpusError(f"{path}: there is no audio in this folder. Give the folder that holds the recordings.")
    return paths


def _walk(folder: str, prefix: str, visited: set[tuple[int, int]]) -> Iterator[str]:
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in visited:  # a link that leads back up would never end
        return
    visited.add((status.st_dev, status.st_ino))
    try:
        with os.scandir(folder) as entries:
            listed = sorted(
                entries, key=lambda entry: entry.name
            )  # of two names of one folder, the first wins anywhere
    except OSError as error:
        logger.warning("%s: this folder cannot be opened and is passed over (%s)", folder, error.strerror)
        return
    for entry in listed:
        if entry.name.startswith("."):
            continue
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:  # a link to itself
            is_folder = is_file = False
        if is_folder:
            yield from _walk(entry.path, f"{prefix}{entry.name}/", visited)
        elif is_file or not Path(entry.path).exists():  # a dangling link is a recording that is missing: told
            yield prefix + entry.name


def _is_audio(path: str, name: str) -> bool:
    if Path(name).suffix.lower() in SUFFIXES:
        return True
    try:
        with open(path, "rb") as file:
            return CONTAINER.match(file.read(12)) is not None
    except OSError:
        return False
