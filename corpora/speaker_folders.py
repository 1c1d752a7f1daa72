"""Read one folder per speaker, below folders of splits and of kinds of files."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from corpora.corpus import CorpusError, Utterance
from corpora.doubtful_speakers import describe_doubtful, is_session_name
from corpora.layout_registry import Unused, layout
from corpora.split_names import is_no_speaker, split_above
from files import count_of

logger = logging.getLogger(__name__)

# Names of a folder and of those that it is in, from the root.
Folder = tuple[str, ...]


@layout("folder")
def read_folder(root: Path, files: Sequence[str]) -> Iterator[Utterance | Unused]:
    """Read one folder per speaker; each folder directly inside a speaker's folder is a session.

    If all folders beside each other are splits or kinds of files, such as ``train`` and ``test``, or ``wav``, the
    speakers are the folders inside them, also if these folders are inside a single outer folder.
    """
    above = _folders_above_speakers({_folder_of(file) for file in files})
    names = sorted({"/".join(folder) for folder in above.values() if folder})
    if names:
        logger.info(
            "%s: the speakers are the folders inside %s (by name, splits or kinds of files); to read the outer "
            "folders as speakers, give --pattern '{speaker}/**'",
            root, first_names(names),
        )  # fmt: skip
    for file in files:
        folder = _folder_of(file)
        outer = above[folder]
        if len(folder) == len(outer):
            continue
        speaker, *inside = folder[len(outer) :]
        session = inside[0] if inside else speaker
        yield Utterance(root / file, speaker, session, root=root, split=split_above(outer))


def check_one_folder(root: Path, utterances: Sequence[Utterance]) -> None:
    """Refuse a corpus of one folder that may be a session, or hold the speakers, instead of being the speaker.

    Parameters
    ----------
    root : Path
    utterances : sequence of Utterance
        Those of `read_folder`.

    Raises
    ------
    CorpusError
        The message has both readings, and the flag for each.
    """
    speakers = {utterance.speaker for utterance in utterances}
    if len(speakers) > 1:
        return
    (speaker,) = speakers
    inner = sorted({utterance.session for utterance in utterances})
    found = f"{root}: the only folder is {speaker}"
    above = _folders_above_speakers({_folder_of(utterance.id) for utterance in utterances})
    outer = above[_folder_of(utterances[0].id)]
    unnamed = next((name for name in outer if not is_no_speaker(name)), None)
    if unnamed is not None and not any(utterance.split for utterance in utterances):
        pattern = f"{'*/' * outer.index(unnamed)}{{speaker}}/**"
        places = first_names(sorted({"/".join(folder) for folder in above.values()}))
        raise CorpusError(
            f"{root}: the only folder inside {places} is {speaker}. If {speaker} is the speaker, give "
            f"--layout folder. If {unnamed} is the speaker, give --pattern '{pattern}'."
        )
    if speaker not in inner:  # no recording is beside the inner folders
        raise CorpusError(
            f"{found}, with {count_of(len(inner), 'folder')} inside ({first_names(inner)}). If {speaker} is the "
            "speaker and these are sessions, give --layout folder. If these are the speakers, give "
            f"--pattern '{'*/' * (len(outer) + 1)}{{speaker}}/**'."
        )
    if is_session_name(speaker):
        person = root.resolve()
        raise CorpusError(
            f"{found}, whose name is that of a session. If it is a speaker, give --layout folder. If the names of "
            "files begin with the speaker, give --pattern '{session}/{speaker}_*'. If "
            f"{person.name} is the speaker, give {person.parent} with --pattern '{{speaker}}/{{session}}/*'."
        )


def warn_of_doubtful_speakers(root: Path, utterances: Sequence[Utterance]) -> None:
    """Warn if folders that are read as speakers are probably sessions, splits or kinds of files."""
    speakers = sorted({utterance.speaker for utterance in utterances})
    doubtful = describe_doubtful(speakers)
    if doubtful:
        logger.warning(
            "%s: the folders %s are read as %d speakers, but their names look like %s. If a folder is a session, say "
            "where the speaker is: --pattern '{session}/{speaker}_*'.",
            root, first_names(speakers), len(speakers), doubtful,
        )  # fmt: skip
    advice = f"If the speakers are the folders inside, keep other folders out of {root}"
    warn_of_split_names(root, utterances, advice)


def warn_of_split_names(root: Path, utterances: Sequence[Utterance], advice: str) -> None:
    """Warn if names of speakers are those of splits or of kinds of files; `advice` is the last sentence."""
    others = sorted({utterance.speaker for utterance in utterances if is_no_speaker(utterance.speaker)})
    if others:
        names = first_names(others)
        logger.warning("%s: read as speakers, but named like splits or kinds of files: %s. %s.", root, names, advice)


def first_names(names: Sequence[str]) -> str:
    """List the first three names, and ``...`` for the others."""
    return ", ".join([*names[:3], "..."] if len(names) > 3 else names)


def _folder_of(file: str) -> Folder:
    return tuple(file.split("/")[:-1])


def _folders_above_speakers(folders: set[Folder]) -> dict[Folder, Folder]:
    """Return for each folder with files its outer part: the folders that are not those of speakers, by their names."""
    inside: dict[Folder, set[str]] = {}
    for folder in folders:
        for depth, name in enumerate(folder):
            inside.setdefault(folder[:depth], set()).add(name)
    outer = {folder for folder, names in inside.items() if all(map(is_no_speaker, names))}
    # The folder of an unpacked archive is the only one, so its name does not matter if such folders are inside.
    inner = [folder for folder in folders if folder]
    first = min(inner, default=())
    shared = [first[:depth] for depth in range(1, len(first) + 1) if len({each[:depth] for each in inner}) == 1]
    depth = max((len(each) for each in shared if each in outer), default=0)
    below = {folder: _outer_part(folder, outer, depth) for folder in folders}
    if all(len(folder) > len(below[folder]) for folder in inner):
        return below
    return {folder: _outer_part(folder, outer) for folder in folders}


def _outer_part(folder: Folder, outer: set[Folder], depth: int = 0) -> Folder:
    """Return the folders that a folder is in, from a depth on while all folders beside them are outer ones."""
    while folder[:depth] in outer and depth < len(folder):
        depth += 1
    return folder[:depth]
