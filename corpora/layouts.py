"""Readers of corpus layouts. A new layout is one function with the `layout` decorator."""

import csv
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from corpora.corpus import Corpus, CorpusError, Utterance
from corpora.scan import find_audio

logger = logging.getLogger(__name__)

# A reader takes the root and the audio files below it (POSIX paths relative to the root) and gives the utterances that
# it recognises. Detection asks the readers in the order of this table.
Reader = Callable[[Path, Sequence[str]], Iterable[Utterance]]
LAYOUTS: dict[str, Reader] = {}

MANIFEST = "manifest.csv"
COLUMNS = ("path", "speaker", "session", "start", "duration")
# These two fit any corpus, so the corpus is named after its folder.
UNNAMED_LAYOUTS = ("manifest", "folder")


def layout(name: str) -> Callable[[Reader], Reader]:
    """Register a reader under the name that ``--layout`` takes."""

    def register(reader: Reader) -> Reader:
        LAYOUTS[name] = reader
        return reader

    return register


def load_corpus(root: str | os.PathLike[str], layout: str = "auto") -> Corpus:
    """Read which utterances a folder (or a manifest) holds; no audio is opened.

    Parameters
    ----------
    root : path-like
        The corpus's folder, or a manifest's CSV file.
    layout : str
        A name of `LAYOUTS`, or ``auto``: a manifest where there is one, else the first layout that recognises more
        than half of the audio files. What was detected is logged.

    Returns
    -------
    Corpus

    Raises
    ------
    CorpusError
        No such folder, no audio in it, no layout that fits, or a manifest with a mistake.
    """
    root = Path(root)
    if layout != "auto" and layout not in LAYOUTS:
        raise CorpusError(f"There is no layout {layout!r}; choose one of: auto, {', '.join(LAYOUTS)}.")
    if not root.exists():
        raise CorpusError(f"{root}: no such folder. Give the corpus's folder, or a manifest's CSV file.")
    if layout == "auto" and (root.is_file() or (root / MANIFEST).is_file()):
        layout = "manifest"
    files = () if layout == "manifest" else _list_audio(root)
    if layout == "auto":
        layout, utterances = _detect(root, files)
    else:
        utterances = list(LAYOUTS[layout](root, files))
        if not utterances:
            raise CorpusError(
                f"{root}: none of its {len(files)} audio files fits the layout {layout!r}; try --layout auto."
            )
    _report(root, layout, utterances, files)
    folder = root.parent if root.is_file() else root
    return Corpus(tuple(utterances), folder, folder.resolve().name or "corpus" if layout in UNNAMED_LAYOUTS else layout)


def _list_audio(root: Path) -> Sequence[str]:
    if root.is_file():
        raise CorpusError(f"{root}: this is a file. Give the corpus's folder, or a manifest with --layout manifest.")
    files = find_audio(root)
    if not files:
        raise CorpusError(f"{root}: there is no audio in this folder. Give the folder that holds the recordings.")
    return files


def _detect(root: Path, files: Sequence[str]) -> tuple[str, list[Utterance]]:
    for name, reader in LAYOUTS.items():
        if name == "manifest":
            continue
        utterances = list(reader(root, files))
        if len(utterances) > len(files) / 2:
            return name, utterances
    raise CorpusError(
        f"{root}: no layout fits its {len(files)} audio files (the first is {files[0]}). Put each speaker's files into "
        f"a folder of their own, or list path,speaker[,session,start,duration] in a {MANIFEST}."
    )


def _report(root: Path, layout: str, utterances: Sequence[Utterance], files: Sequence[str]) -> None:
    speakers = {utterance.speaker for utterance in utterances}
    sessions = {(utterance.speaker, utterance.session) for utterance in utterances}
    logger.info(
        "%s: layout %s, %d utterances, %d speakers, %d sessions",
        root,
        layout,
        len(utterances),
        len(speakers),
        len(sessions),
    )
    recognised = {utterance.path for utterance in utterances}
    left_out = [file for file in files if root / file not in recognised]
    if left_out:
        shown = ", ".join(left_out[:3]) + (", ..." if len(left_out) > 3 else "")
        logger.warning("%d audio files do not fit the layout %s and are left out: %s", len(left_out), layout, shown)


@layout("librispeech")
def read_librispeech(root: Path, files: Sequence[str]) -> Iterator[Utterance]:
    """LibriSpeech: ``.../speaker/chapter/speaker-chapter-number.flac``; a session is a chapter.

    The root may be ``LibriSpeech/``, a split, a speaker, or a folder that holds several splits.
    """
    for file in files:
        match = re.fullmatch(r"(?:.*/)?(\d+)-(\d+)-\d+\.\w+", file)
        if match and _within(file, match[1], match[2]):
            yield Utterance(root / file, match[1], match[2], root=root)


@layout("voxceleb")
def read_voxceleb(root: Path, files: Sequence[str]) -> Iterator[Utterance]:
    """VoxCeleb 1 and 2: ``.../id10270/5r0dWxy17C8/00001.wav``; a session is a video."""
    for file in files:
        match = re.fullmatch(r"(?:.*/)?(id\d{5})/([^/]+)/[^/]+", file)
        if match:
            yield Utterance(root / file, match[1], match[2], root=root)


@layout("folder")
def read_folder(root: Path, files: Sequence[str]) -> Iterator[Utterance]:
    """One folder per speaker; a folder inside a speaker's, if there is one, is a session."""
    for file in files:
        speaker, *inside = PurePosixPath(file).parts
        if inside:
            yield Utterance(root / file, speaker, inside[0] if len(inside) > 1 else speaker, root=root)


@layout("manifest")
def read_manifest(root: Path, files: Sequence[str]) -> Iterator[Utterance]:
    """Manifest: a CSV file ``path,speaker[,session,start,duration]``; paths from its folder on, times in seconds."""
    manifest = root if root.is_file() else root / MANIFEST
    try:
        with open(manifest, encoding="utf-8-sig", newline="") as file:  # -sig: spreadsheets write a byte-order mark
            table = csv.DictReader(file, skipinitialspace=True)
            columns = table.fieldnames or ()
            if not {"path", "speaker"} <= set(columns):
                raise CorpusError(
                    f"{manifest}: its first line is {','.join(columns)!r}; expected "
                    "path,speaker[,session,start,duration]."
                )
            for column in columns:
                near = get_close_matches(column, COLUMNS, n=1)
                if near and column not in COLUMNS:
                    logger.warning("%s: the column %r is not read; perhaps %s is meant", manifest, column, near[0])
            rows = [(table.line_num, row) for row in table]
    except FileNotFoundError as error:
        raise CorpusError(f"{root}: there is no {MANIFEST} in this folder; the layout 'manifest' needs one.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{manifest}: this cannot be read as a CSV file in UTF-8 ({error}).") from error
    if not rows:
        raise CorpusError(f"{manifest}: the manifest lists no utterance.")
    for line, row in rows:
        yield _manifest_utterance(manifest, line, row)


def _manifest_utterance(manifest: Path, line: int, row: dict[str, str | None]) -> Utterance:
    where = f"{manifest}, line {line}"
    path, speaker = (row["path"] or "").strip(), (row["speaker"] or "").strip()
    if not path or not speaker:
        raise CorpusError(f"{where}: the {'speaker' if path else 'path'} is empty; give both.")

    def seconds(column: str) -> float | None:
        text = (row.get(column) or "").strip()
        try:
            value = float(text) if text else None
        except ValueError:
            raise CorpusError(f"{where}: {column} is {text!r}; expected a number of seconds.") from None
        if value is not None and not (0 <= value < float("inf") and (value or column == "start")):
            raise CorpusError(f"{where}: {column} is {text}; expected a number of seconds above zero.")
        return value

    session = (row.get("session") or "").strip() or speaker
    folder = manifest.parent
    return Utterance(folder / path, speaker, session, seconds("start") or 0.0, seconds("duration"), root=folder)


def _within(file: str, speaker: str, chapter: str) -> bool:
    """Tell whether the folders above a file, as far as they lie below the root, are its speaker's and its chapter's."""
    folders = PurePosixPath(file).parts[-3:-1]
    return folders == (speaker, chapter)[-len(folders) :] if folders else True
