"""Find the audio files below a folder."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from audio import FOREIGN_SUFFIXES, HEADERLESS
from corpora.corpus import CorpusError
from files import AUDIO_START, PathLike, as_paths, existing_path

logger = logging.getLogger(__name__)

# A file with one of these suffixes is always listed; if it cannot be decoded, it is reported later. A file with any
# other suffix is listed if it begins as an audio file does.
SUFFIXES = frozenset(
    {".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"}
    | {".w64", ".rf64", ".sph", ".voc", ".sf", ".paf", ".pvf", ".avr", ".8svx", ".sds"}
    | FOREIGN_SUFFIXES
    | HEADERLESS.keys()
)
# Number of suffixes of files without audio that are named.
N_NAMED = 5


def find_audio(root: str | os.PathLike[str]) -> list[str]:
    """List the audio files below a folder.

    A file is recognised by its suffix (one of `SUFFIXES`, in upper or lower case) or by its first bytes. Hidden files
    and folders are skipped. Links are followed, and each folder is visited once. The number of other files is logged.

    Parameters
    ----------
    root : path-like
        An existing folder.

    Returns
    -------
    list of str
        POSIX paths relative to `root`, sorted.
    """
    files, others = _scan(root)
    if others:
        logger.info("%s: passed over: %s", root, others)
    return files


def require_audio(root: str | os.PathLike[str]) -> list[str]:
    """List the audio files below a folder as `find_audio` does; refuse a folder without any.

    Raises
    ------
    CorpusError
        The folder has no audio.
    """
    files = find_audio(root)
    if not files:
        others = _scan(root)[1]
        found = f", only {others}" if others else ""
        raise CorpusError(
            f"{root}: there is no audio in this folder{found}. Give the folder that contains the recordings."
        )
    return files


def _scan(root: str | os.PathLike[str]) -> tuple[list[str], str]:
    """Return the audio files below a folder, and the numbers of the others, such as ``12 .txt, 3 .jpg``."""
    root, files, others = os.fspath(root), [], Counter[str]()
    for path in _walk(root, "", set()):
        if _is_audio(os.path.join(root, path), path):
            files.append(path)
        else:
            others[Path(path).suffix.lower() or "without a suffix"] += 1
    named = sorted(others.items(), key=lambda each: (-each[1], each[0]))
    listed = [f"{count} {suffix}" for suffix, count in named[:N_NAMED]]
    if len(named) > N_NAMED:
        listed.append(f"{sum(count for _, count in named[N_NAMED:])} others")
    return sorted(files), ", ".join(listed)


def find_recordings(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """Return the given files, and the audio files below the given folders; each file once.

    Parameters
    ----------
    paths : path-like, or a sequence of them
        Files and folders. If some exist, the others are returned too, so that they are reported as failed.

    Raises
    ------
    CorpusError
        There are no paths, none of them exists, or a folder has no audio.
    """
    given = [existing_path(path) for path in as_paths(paths)]
    if not given:
        raise CorpusError("No recording is given. Give files or folders, as arguments or with --audio_path.")
    if not any(path.exists() for path in given):
        others = ", nor any of the others that are given" if len(given) > 1 else ""
        raise CorpusError(
            f"{given[0]}: no such file or folder{others}. Give an audio file, or a folder with audio files."
        )
    found: list[Path] = []
    for path in given:
        found += [path / name for name in require_audio(path)] if path.is_dir() else [path]
    return list(dict.fromkeys(found))


def _walk(folder: str, prefix: str, visited: set[tuple[int, int]]) -> Iterator[str]:
    """Yield the paths of all files below a folder, each with the prefix."""
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in visited:  # a link to a parent folder would be followed forever
        return
    visited.add((status.st_dev, status.st_ino))
    try:
        with os.scandir(folder) as entries:
            # Sorted, because only the first of two links to one folder is followed.
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        logger.warning("%s: this folder cannot be opened and is skipped (%s)", folder, error.strerror)
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
        elif is_file or not Path(entry.path).exists():  # a dangling link is listed, so that it is reported
            yield prefix + entry.name


def _is_audio(path: str, name: str) -> bool:
    """Return whether the suffix, or else the first bytes, are those of an audio file."""
    if Path(name).suffix.lower() in SUFFIXES:
        return True
    try:
        with open(path, "rb") as file:
            return AUDIO_START.match(file.read(12)) is not None
    except OSError:
        return False
