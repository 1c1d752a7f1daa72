"""Read the layouts of corpora. To add a layout, write one function with the `layout` decorator."""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from corpora.corpus import Corpus, CorpusError, Utterance
from corpora.doubtful_speakers import describe_doubtful
from corpora.manifest import MANIFEST, read_manifest
from corpora.name_pattern import NamePattern
from corpora.scan import require_audio
from corpora.speaker_names import check_speaker_names
from files import count_of, existing_path, unknown_choice

logger = logging.getLogger(__name__)

# A reader takes the root and the audio files below it (POSIX paths relative to the root), and yields an utterance for
# each file that it recognises. Detection tries the readers in the order in which they are registered.
Reader = Callable[[Path, Sequence[str]], Iterable[Utterance]]
LAYOUTS: dict[str, Reader] = {}

# A corpus in one of these layouts is named after its folder, because they fit any corpus.
UNNAMED_LAYOUTS = ("manifest", "folder")


def layout(name: str) -> Callable[[Reader], Reader]:
    """Register a reader under a name for ``--layout``."""

    def register(reader: Reader) -> Reader:
        LAYOUTS[name] = reader
        return reader

    return register


def load_corpus(
    root: str | os.PathLike[str], layout: str = "auto", *, pattern: str | None = None, allow_unknown: bool = False
) -> Corpus:
    """List the utterances of a corpus from its file names, or from a manifest; no audio is opened.

    Parameters
    ----------
    root : path-like
        Folder of the corpus, or CSV file of a manifest.
    layout : str
        A name in `LAYOUTS`, or ``auto``: the manifest if the folder has one, otherwise the first layout that recognises
        more than half of the audio files. The detected layout is logged.
    pattern : str, optional
        Where the speaker and the session are in the paths, instead of a layout (`NamePattern`), such as
        ``{speaker}_{session}_*``. Without ``{session}``, each speaker has one session.
    allow_unknown : bool
        Whether a speaker can be called ``unknown``, which is the answer for speakers that a classifier does not know.

    Returns
    -------
    Corpus

    Raises
    ------
    CorpusError
        The folder does not exist or has no audio, no layout fits, the manifest or the pattern is not valid, or the name
        of a speaker is missing or reserved.
    """
    root = existing_path(Path(root))
    if layout != "auto" and layout not in LAYOUTS:
        raise CorpusError(unknown_choice("layout", layout, ["auto", *LAYOUTS]))
    if not root.exists():
        raise CorpusError(f"{root}: no such folder. Give the folder of the corpus, or the CSV file of a manifest.")
    if pattern is not None:
        return _load_by_pattern(root, layout, pattern, allow_unknown=allow_unknown)
    if layout == "auto" and (root.is_file() or (root / MANIFEST).is_file()):
        layout = "manifest"
    files = () if layout == "manifest" else _list_audio(root)
    if layout == "auto":
        layout, utterances = _detect(root, files)
    else:
        utterances = list(LAYOUTS[layout](root, files))
        if not utterances:
            raise CorpusError(
                f"{root}: none of the {len(files)} audio files fits the layout {layout!r}; try --layout auto."
            )
    _log_contents(root, f"layout {layout}", utterances=utterances, files=files)
    if layout == "folder":
        _warn_of_doubtful_speakers(root, utterances)
    check_speaker_names(root, utterances, allow_unknown=allow_unknown)
    folder = root.parent if root.is_file() else root
    name = layout
    if layout in UNNAMED_LAYOUTS:
        name = _name_of(folder)
    return Corpus(tuple(utterances), folder, name)


def _name_of(folder: Path) -> str:
    return folder.resolve().name or "corpus"


def _load_by_pattern(root: Path, layout: str, pattern: str, *, allow_unknown: bool) -> Corpus:
    """List the utterances of a corpus whose paths match a pattern."""
    if layout != "auto" or root.is_file():
        given = f"--layout {layout}" if layout != "auto" else f"the manifest {root}"
        raise CorpusError(f"--pattern and {given} both give the speakers; leave one of them out.")
    names, files = NamePattern(pattern), _list_audio(root)
    utterances = []
    for file in files:
        found = names.read(file)
        if found is not None:
            utterances.append(Utterance(root / file, found[0], found[1] or found[0], root=root))
    if not utterances:
        raise CorpusError(
            f"{root}: the pattern {pattern!r} matches none of the {count_of(len(files), 'audio file')}, such as "
            f"{files[0]!r}. It is compared with the whole path below the folder without the suffix: '*' stands for any "
            "characters except '/', and '**/' for any folders."
        )
    _log_contents(root, f"pattern {pattern}", utterances=utterances, files=files)
    check_speaker_names(root, utterances, allow_unknown=allow_unknown)
    return Corpus(tuple(utterances), root, _name_of(root))


def _warn_of_doubtful_speakers(root: Path, utterances: Sequence[Utterance]) -> None:
    """Warn if the folders that are read as speakers are probably sessions."""
    speakers = sorted({utterance.speaker for utterance in utterances})
    doubtful = describe_doubtful(speakers)
    if doubtful:
        logger.warning(
            "%s: the folders %s are read as %d speakers, but their names look like %s. If a folder is a session, say "
            "where the speaker is: --pattern '{session}/{speaker}_*'.",
            root, ", ".join([*speakers[:3], "..."] if len(speakers) > 3 else speakers), len(speakers), doubtful,
        )  # fmt: skip


def _list_audio(root: Path) -> Sequence[str]:
    if root.is_file():
        raise CorpusError(
            f"{root}: this is a file. Give the folder of the corpus, or a manifest with --layout manifest."
        )
    return require_audio(root)


def _detect(root: Path, files: Sequence[str]) -> tuple[str, list[Utterance]]:
    """Return the first layout that recognises more than half of the files, and its utterances."""
    for name, reader in LAYOUTS.items():
        if name == "manifest":
            continue
        utterances = list(reader(root, files))
        if len(utterances) > len(files) / 2:
            return name, utterances
    raise CorpusError(
        f"{root}: no layout fits the {len(files)} audio files (the first is {files[0]}). Put the files of each speaker "
        "into a separate folder, say where the speaker is in the names with --pattern, such as '{speaker}_*', or list "
        f"path,speaker[,session,start,duration|end] in a {MANIFEST}."
    )


def _log_contents(root: Path, reader: str, *, utterances: Sequence[Utterance], files: Sequence[str]) -> None:
    """Log the layout or the pattern and the size of a corpus, and the files that are not in it."""
    counts = (
        count_of(len(utterances), "utterance"),
        count_of(len({utterance.speaker for utterance in utterances}), "speaker"),
        count_of(len({(utterance.speaker, utterance.session) for utterance in utterances}), "session"),
    )
    logger.info("%s: %s, %s", root, reader, ", ".join(counts))
    recognised = {utterance.path for utterance in utterances}
    skipped = [file for file in files if root / file not in recognised]
    if skipped:
        listing = ", ".join([*skipped[:3], "..."] if len(skipped) > 3 else skipped)
        logger.warning(
            "%s: skipped %s that the %s does not recognise: %s",
            root, count_of(len(skipped), "audio file"), reader, listing,
        )  # fmt: skip


@layout("librispeech")
def read_librispeech(root: Path, files: Sequence[str]) -> Iterator[Utterance]:
    """Read LibriSpeech: ``.../speaker/chapter/speaker-chapter-number.flac``; each chapter is a session.

    The root may be ``LibriSpeech/``, a folder above it, or the folder of a split, a speaker or a chapter.
    """
    for file in files:
        match = re.fullmatch(r"(?:.*/)?(\d+)-(\d+)-\d+\.\w+", file)
        if match and _folders_match(file, match[1], match[2]):
            yield Utterance(root / file, match[1], match[2], root=root)


@layout("voxceleb")
def read_voxceleb(root: Path, files: Sequence[str]) -> Iterator[Utterance]:
    """Read VoxCeleb 1 or 2: ``.../id10270/5r0dWxy17C8/00001.wav``; each video is a session."""
    for file in files:
        match = re.fullmatch(r"(?:.*/)?(id\d{5})/([^/]+)/[^/]+", file)
        if match:
            yield Utterance(root / file, match[1], match[2], root=root)


@layout("folder")
def read_folder(root: Path, files: Sequence[str]) -> Iterator[Utterance]:
    """Read one folder per speaker; each folder directly inside a speaker's folder is a session."""
    for file in files:
        speaker, *inside = PurePosixPath(file).parts
        if inside:
            yield Utterance(root / file, speaker, inside[0] if len(inside) > 1 else speaker, root=root)


layout("manifest")(read_manifest)


def _folders_match(file: str, speaker: str, chapter: str) -> bool:
    """Return whether the last two folders of a path are the speaker and the chapter; a short path may lack them."""
    folders = PurePosixPath(file).parts[-3:-1]
    return folders == (speaker, chapter)[-len(folders) :] if folders else True
