"""`load_corpus`: detect the layout of a corpus, and read it."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

# Importing these registers their layouts, in the order of detection.
from corpora import common_voice, manifest, published_layouts  # noqa: F401
from corpora.aishell4 import has_folders_of_meetings, log_local_labels
from corpora.corpus import Corpus, CorpusError, Utterance
from corpora.layout_registry import LAYOUTS, Unused
from corpora.manifest import MANIFEST
from corpora.name_pattern import NamePattern
from corpora.scan import require_audio
from corpora.speaker_folders import check_one_folder, first_names, warn_of_doubtful_speakers, warn_of_split_names
from corpora.speaker_names import check_speaker_names
from corpora.split_names import SPLITS
from files import count_of, existing_path, safe_file_name, unknown_choice

logger = logging.getLogger(__name__)

# A corpus in one of these layouts is named after its folder, because they fit any corpus.
UNNAMED_LAYOUTS = ("manifest", "folder")


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
        layout, utterances, unused = _detect(root, files)
    else:
        utterances, unused = _read(layout, root, files)
        if not utterances:
            raise CorpusError(
                f"{root}: none of the {len(files)} audio files fits the layout {layout!r}; try --layout auto."
            )
    _log_contents(root, f"layout {layout}", utterances=utterances, files=files, unused=unused)
    if layout == "folder":
        warn_of_doubtful_speakers(root, utterances)
    if layout == "aishell4":
        log_local_labels(root, utterances)
    check_speaker_names(root, utterances, allow_unknown=allow_unknown)
    folder = root.parent if root.is_file() else root
    name = layout
    if layout in UNNAMED_LAYOUTS:
        name = _name_of(folder)
    return Corpus(tuple(utterances), folder, name)


def _name_of(folder: Path) -> str:
    """Return the name of a folder, without what file names cannot have."""
    own = folder.resolve().name
    name = safe_file_name(own) or "corpus"
    if name != own:
        logger.info("%s: the corpus is called %r in the names of files", folder, name)
    return name


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
            speaker, session = found
            split = names.given_split(file)
            utterances.append(Utterance(root / file, speaker, session or speaker, root=root, split=split))
    if not utterances:
        raise CorpusError(
            f"{root}: the pattern {pattern!r} matches none of the {count_of(len(files), 'audio file')}, such as "
            f"{files[0]!r}. It is compared with the whole path below the folder without the suffix: '*' stands for any "
            "characters except '/', and '**/' for any folders."
        )
    _log_contents(root, f"pattern {pattern}", utterances=utterances, files=files)
    warn_of_split_names(root, utterances, "If the speakers are elsewhere in the paths, move {speaker} in the pattern")
    check_speaker_names(root, utterances, allow_unknown=allow_unknown)
    return Corpus(tuple(utterances), root, _name_of(root))


def _list_audio(root: Path) -> Sequence[str]:
    if root.is_file():
        raise CorpusError(
            f"{root}: this is a file. Give the folder of the corpus, or a manifest with --layout manifest."
        )
    return require_audio(root)


def _read(layout: str, root: Path, files: Sequence[str]) -> tuple[list[Utterance], list[Unused]]:
    """Return the utterances of a layout, and the files of the layout that are not used."""
    found = list(LAYOUTS[layout](root, files))
    unused = [each for each in found if isinstance(each, Unused)]
    return [each for each in found if isinstance(each, Utterance)], unused


def _detect(root: Path, files: Sequence[str]) -> tuple[str, list[Utterance], list[Unused]]:
    """Return the first layout that recognises more than half of the files, its utterances, and its unused files."""
    for name in LAYOUTS:
        if name == "manifest" or (name == "aishell4" and not has_folders_of_meetings(files)):
            continue
        utterances, unused = _read(name, root, files)
        n_recognised = len({utterance.path for utterance in utterances}) + len({each.file for each in unused})
        if utterances and n_recognised > len(files) / 2:
            if name == "folder":
                check_one_folder(root, utterances)
            return name, utterances, unused
    below = "**/" if "/" in files[0] else ""
    raise CorpusError(
        f"{root}: no layout fits the {len(files)} audio files (the first is {files[0]}). Put the files of each speaker "
        "into a separate folder, say where the speaker is in the names with --pattern, such as "
        f"'{below}{{speaker}}_*', or list path,speaker[,session,start,duration|end,channel] in a {MANIFEST}."
    )


def _log_contents(
    root: Path, reader: str, *, utterances: Sequence[Utterance], files: Sequence[str], unused: Sequence[Unused] = ()
) -> None:
    """Log the layout or the pattern, the size of a corpus and its first speakers, and the files that are not in it."""
    speakers = sorted({utterance.speaker for utterance in utterances})
    counts = (
        count_of(len(utterances), "utterance"),
        count_of(len(speakers), "speaker"),
        count_of(len({utterance.session for utterance in utterances}), "session"),
    )
    logger.info("%s: %s, %s; speakers: %s", root, reader, ", ".join(counts), first_names(speakers))
    _log_splits(root, utterances)
    recognised = {utterance.path for utterance in utterances}
    reasons = {each.file: each.reason for each in unused}
    skipped: dict[str, list[str]] = {}
    for file in [*files, *(reasons.keys() - set(files))]:
        if root / file not in recognised:
            skipped.setdefault(reasons.get(file, f"the {reader} does not recognise"), []).append(file)
    for reason, of_reason in skipped.items():
        count = count_of(len(of_reason), "audio file")
        logger.warning("%s: skipped %s that %s: %s", root, count, reason, first_names(sorted(of_reason)))


def _log_splits(root: Path, utterances: Sequence[Utterance]) -> None:
    """Log the sizes of the splits that the corpus gives, and what can use them."""
    counts = Counter(utterance.split for utterance in utterances)
    if not set(counts) - {None}:
        return
    sizes = ", ".join(f"{split or 'none'} {counts[split]}" for split in (*SPLITS, None) if counts[split])
    train, test = ({each.speaker for each in utterances if each.split == split} for split in ("train", "test"))
    use = "--split_by given uses them" if train & test else "train and test share no speaker, so they fit verification"
    logger.info("%s: utterances in the splits that the corpus gives: %s; %s", root, sizes, use)
