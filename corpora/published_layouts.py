"""Read the layouts of published corpora, one function each."""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from corpora.corpus import CorpusError, Split, Utterance
from corpora.layout_registry import Unused, layout
from corpora.split_names import SPLITS, split_above
from files import count_of

logger = logging.getLogger(__name__)

# The list of VoxCeleb 1 for identification: "1 id10001/1zcIwhmdeo4/00001.wav"; 1 is training, 2 validation, 3 test.
IDENTIFICATION_LIST = "iden_split.txt"
SAME_UTTERANCE = "another file in the same folder has the same utterance"


@layout("librispeech")
def read_librispeech(root: Path, files: Sequence[str]) -> Iterator[Utterance]:
    """Read LibriSpeech: ``.../speaker/chapter/speaker-chapter-number.flac``; each chapter is a session.

    The root may be ``LibriSpeech/``, a folder above it, or the folder of a split, a speaker or a chapter. Its splits
    have different speakers, so they are parts of one corpus here.
    """
    for file in files:
        match = re.fullmatch(r"(?:.*/)?(\d+)-(\d+)-\d+\.\w+", file)
        if match and _folders_match(file, match[1], match[2]):
            yield Utterance(root / file, match[1], match[2], root=root)


@layout("voxceleb")
def read_voxceleb(root: Path, files: Sequence[str]) -> Iterator[Utterance]:
    """Read VoxCeleb 1 or 2: ``.../id10270/5r0dWxy17C8/00001.wav``; each video is a session.

    The root may be the folder of a speaker. The splits are those of the list ``iden_split.txt`` if the root has it, or
    those of the folders ``dev`` (the training set) and ``test``, which have different speakers.
    """
    listed = _read_identification_list(root / IDENTIFICATION_LIST)
    name = root.resolve().name
    above = f"{name}/" if re.fullmatch(r"id\d{5}", name) else ""
    for file in files:
        match = re.fullmatch(r"(.*/)?(id\d{5})/([^/]+)/[^/]+", above + file)
        if match:
            split: Split | None = listed.get("/".join(file.split("/")[-3:])) if listed else _split_above(match[1])
            split = "train" if split == "validation" and not listed else split
            yield Utterance(root / file, match[2], match[3], root=root, split=split)


def _read_identification_list(path: Path) -> dict[str, Split]:
    """Return the split of each file in the list of VoxCeleb 1; none without a list."""
    if not path.is_file():
        return {}
    splits = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 2 or parts[0] not in ("1", "2", "3"):
            raise CorpusError(
                f"{path}, line {number}: found {line!r}; expected 1 (training), 2 (validation) or 3 (test) and a path, "
                "such as '1 id10001/1zcIwhmdeo4/00001.wav'."
            )
        splits[parts[1]] = SPLITS[int(parts[0]) - 1]
    return splits


@layout("vctk")
def read_vctk(root: Path, files: Sequence[str]) -> Iterator[Utterance | Unused]:
    """Read VCTK: ``wav48/p225/p225_001.wav``, or ``wav48_silence_trimmed/p225/p225_001_mic1.flac`` of version 0.92.

    Each speaker has one session. Two microphones recorded each utterance at once; the first one (``mic1``) is used, and
    the second where the folder lacks the first. The splits are those of the folders above.
    """
    found = []
    for file in files:
        match = re.fullmatch(r"(?:(.*/)?(p[23]\d\d|s5)/)?(p[23]\d\d|s5)_(\d{3})(?:_(mic\d))?\.\w+", file)
        if match and match[2] in (None, match[3]):
            found.append((match[5] or "", file, match))
    used: dict[tuple[str, str], list[str]] = {}
    for _, file, match in sorted(found, key=lambda each: each[:2]):
        others = used.setdefault((match[3], match[4]), [])
        if _is_beside(file, others):
            yield Unused(file, f"the layout vctk leaves out, because {SAME_UTTERANCE}")
        else:
            yield Utterance(root / file, match[3], match[3], root=root, split=_split_above(match[1]))
            others.append(file)
    _warn_of_versions(root, used.values())


@layout("aishell1")
def read_aishell1(root: Path, files: Sequence[str]) -> Iterator[Utterance]:
    """Read AISHELL-1: ``.../wav/train/S0002/BAC009S0002W0122.wav``; each speaker has one session.

    The root may be the folder of a split or of a speaker. The splits have different speakers.
    """
    for file in files:
        match = re.fullmatch(r"(?:(.*/)?(S\d{4})/)?BAC\d{3}(S\d{4})W\d{4}\.\w+", file, re.IGNORECASE)
        if match and match[2] in (None, match[3]):
            yield Utterance(root / file, match[3], match[3], root=root, split=_split_above(match[1]))


@layout("timit")
def read_timit(root: Path, files: Sequence[str]) -> Iterator[Utterance | Unused]:
    """Read TIMIT: ``TRAIN/DR1/FCJF0/SA1.WAV``, in upper or lower case; each speaker has one session.

    The splits have different speakers. Where ``SA1.WAV.wav`` is a copy of ``SA1.WAV`` in another format, the latter is
    used. Files in different folders, such as those of NTIMIT beside TIMIT, are different utterances.
    """
    used: dict[tuple[str, str], list[str]] = {}
    for file in sorted(files):
        pattern = r"(.*/)?dr[1-8]/([fm][a-z]{3}\d)/(s[aix]\d+)(?:\.\w+)?\.\w+"
        match = re.fullmatch(pattern, file, re.IGNORECASE)
        if not match:
            continue
        speaker = match[2].upper()
        others = used.setdefault((speaker, match[3].upper()), [])
        if _is_beside(file, others):
            yield Unused(file, f"the layout timit leaves out, because {SAME_UTTERANCE}")
        else:
            yield Utterance(root / file, speaker, speaker, root=root, split=_split_above(match[1]))
            others.append(file)
    _warn_of_versions(root, used.values())


def _is_beside(file: str, others: Iterable[str]) -> bool:
    """Return whether a file is in the folder of another one; files in different folders are no copies."""
    return PurePosixPath(file).parent in {PurePosixPath(other).parent for other in others}


def _warn_of_versions(root: Path, used: Iterable[Sequence[str]]) -> None:
    """Warn of utterances in several folders, given the files of each: a split can separate versions of a recording."""
    several = [files for files in used if len(files) > 1]
    if several:
        logger.warning(
            "%s: found %s in several folders, such as %s; all of them are used. If they are versions of one recording, "
            "give the folder of one: versions in the training and in the test set make the accuracy optimistic.",
            root, count_of(len(several), "utterance"), " and ".join(several[0][:2]),
        )  # fmt: skip


def _folders_match(file: str, speaker: str, chapter: str) -> bool:
    """Return whether the last two folders of a path are the speaker and the chapter; a short path may lack them."""
    folders = PurePosixPath(file).parts[-3:-1]
    return folders == (speaker, chapter)[-len(folders) :] if folders else True


def _split_above(folders: str | None) -> Split | None:
    """Return the split that the innermost folder of a path with the name of one gives."""
    return split_above((folders or "").split("/"))
