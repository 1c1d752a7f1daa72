"""Read Common Voice: ``validated.tsv`` beside the folder ``clips``."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from corpora.corpus import CorpusError, Split, Utterance
from corpora.layout_registry import Unused, layout
from corpora.split_names import read_split

VALIDATED, CLIPS = "validated.tsv", "clips/"
SPLIT_TABLES = ("train.tsv", "dev.tsv", "test.tsv")


@layout("commonvoice")
def read_common_voice(root: Path, files: Sequence[str]) -> Iterator[Utterance | Unused]:
    """Read Common Voice: the clips that ``validated.tsv`` lists; the speaker is the ``client_id``.

    The splits are those of ``train.tsv``, ``dev.tsv`` and ``test.tsv``, which list the clips if there is no
    ``validated.tsv``. Each speaker has one session. The root may be above the folders of several languages. Clips that
    were converted are found by their names without the suffix.
    """
    inside = [(file[: -len(name)], name) for file in files if (name := _name_of_clip(file))]
    for folder in sorted({folder for folder, _ in inside}):
        tables = [name for name in (VALIDATED, *SPLIT_TABLES) if (root / folder / name).is_file()]
        if tables:
            clips = {name.removeprefix(CLIPS) for of_folder, name in inside if of_folder == folder}
            yield from _read_language(root, folder, clips=clips, tables=tables)


def _name_of_clip(file: str) -> str | None:
    """Return ``clips/NAME`` if that is the end of a path."""
    parts = file.rsplit("/", 2)
    return "/".join(parts[-2:]) if len(parts) > 1 and parts[-2] == "clips" else None


def _read_language(root: Path, folder: str, *, clips: set[str], tables: Sequence[str]) -> Iterator[Utterance | Unused]:
    """Read the tables of a language; `folder` and ``clips/`` are the beginning of the paths of its clips."""
    speakers: dict[str, str] = {}
    splits: dict[str, Split | None] = {}
    for table in tables:
        for clip, speaker in _read_table(root / folder / table, clips).items():
            if table != VALIDATED:
                splits[clip] = read_split(Path(table).stem)
            if table == VALIDATED or VALIDATED not in tables:
                speakers[clip] = speaker
    listing = VALIDATED if VALIDATED in tables else " or ".join(tables)
    for clip in sorted(clips | speakers.keys()):
        file = f"{folder}{CLIPS}{clip}"
        if clip not in speakers:
            yield Unused(file, f"{listing} does not list")
        elif clip not in clips:
            yield Unused(file, f"{listing} lists, but the folder clips lacks")
        else:
            yield Utterance(root / file, speakers[clip], speakers[clip], root=root, split=splits.get(clip))


def _read_table(path: Path, clips: set[str]) -> Mapping[str, str]:
    """Return the speaker of each clip in a table.

    Raises
    ------
    CorpusError
        The columns ``client_id`` and ``path`` are missing, or empty in a row.
    """
    by_stem = {PurePosixPath(clip).stem: clip for clip in sorted(clips, reverse=True)}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            # Sentences have quotation marks that belong to their text.
            table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if not {"client_id", "path"} <= set(table.fieldnames or ()):
                raise CorpusError(
                    f"{path}: its columns are {', '.join(table.fieldnames or ())!r}; expected client_id and path among "
                    "them, separated by tabs. Unpack the archive of Common Voice again."
                )
            speakers = {}
            for row in table:
                clip, speaker = (row["path"] or "").strip(), (row["client_id"] or "").strip()
                if not clip or not speaker:
                    raise CorpusError(f"{path}, line {table.line_num}: client_id or path is empty; expected both.")
                # Tables of early versions have no suffixes, and clips that were converted have others.
                listed = f"{clip}.mp3" if clip not in clips and "." not in clip else clip
                speakers[listed if listed in clips else by_stem.get(PurePosixPath(listed).stem, listed)] = speaker
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path}: this cannot be read as a table in UTF-8 ({error}).") from error
    return speakers
