"""Read AISHELL-4, and other corpora of meetings: recordings, and RTTM or TextGrid files that say who speaks when."""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from corpora.corpus import CorpusError, Utterance
from corpora.layout_registry import Unused, layout
from corpora.rttm import RttmSegment, read_rttm, recording_name
from corpora.text_grid import read_text_grid
from files import count_of, listing

logger = logging.getLogger(__name__)

# Folders of annotations, beside or in the folder of the recordings, without upper and lower case.
ANNOTATION_FOLDERS = ("rttm", "textgrid")
RTTM, TEXT_GRID = ".rttm", ".textgrid"
SAME_MEETING = "another file in the same folder is of the same meeting"


class _Line(NamedTuple):
    """A segment, and the file that it is from."""

    file: Path
    segment: RttmSegment

    def __str__(self) -> str:
        return f"{self.file.name} line {self.segment.line + 1}"


@layout("aishell4")
def read_aishell4(root: Path, files: Sequence[str]) -> Iterator[Utterance | Unused]:
    """Read AISHELL-4: ``wav/L_R003S01C02.flac`` and ``TextGrid/L_R003S01C02.rttm``; each meeting is a session.

    Each SPEAKER line of an RTTM file is an utterance, whatever its length. The RTTM files may be beside the recordings
    or in a folder ``rttm`` or ``TextGrid``, which is in or beside that of the recordings. The TextGrid files of Praat
    are read for meetings without RTTM lines. The root may be above several such folders.

    Labels of speakers are local to a meeting, so the speaker is ``<meeting>_<label>``. The mean of all channels is
    used, whatever channel the lines have; a manifest can choose one. Lines that cannot be used are logged: those that
    are not well formed, whose recording is not there, that repeat another line, or that give the same span to two
    speakers. A segment past the end of a recording is found when it is read.
    """
    audio: defaultdict[str, list[str]] = defaultdict(list)
    for file in sorted(files):
        audio[str(PurePosixPath(file).parent)].append(file)
    read = _Annotations()
    for folder, in_folder in audio.items():
        meetings: dict[str, str] = {}
        bases = [folder] if folder == "." else [folder, str(PurePosixPath(folder).parent)]
        lines = read.lines([root / base for base in bases], {recording_name(Path(file)) for file in in_folder})
        for file in in_folder:
            meeting = recording_name(Path(file))
            if meeting in lines and meetings.setdefault(meeting, file) != file:
                yield Unused(file, f"the layout aishell4 leaves out, because {SAME_MEETING}")
                continue
            for line in lines.get(meeting, ()):
                segment = line.segment
                yield Utterance(
                    root / file,
                    f"{meeting}_{segment.speaker}",
                    meeting,
                    start=segment.start,
                    duration=segment.duration,
                    root=root,
                )
    read.log_problems(root)


def has_folders_of_meetings(files: Sequence[str]) -> bool:
    """Return whether audio files are in one folder, or in folders called ``wav``, as meetings are.

    In a folder for each speaker, annotations beside the recordings are of words, or of one speaker.
    """
    folders = {PurePosixPath(file).parent.name.lower() for file in files}
    return len({PurePosixPath(file).parent for file in files}) == 1 or folders == {"wav"}


class _Annotations:
    """Segments of RTTM and TextGrid files, each of which is read once, and what cannot be used of them."""

    def __init__(self) -> None:
        self._files: dict[Path, list[RttmSegment]] = {}
        self._names: dict[Path, list[str]] = {}
        self._used: set[str] = set()
        self._repeated: list[_Line] = []
        self._shared: list[_Line] = []

    def lines(self, folders: Sequence[Path], meetings: set[str]) -> dict[str, list[_Line]]:
        """Return the segments of the meetings that files in some folders describe, in their order."""
        paths = list(self._find(folders))
        found: defaultdict[str, list[_Line]] = defaultdict(list)
        for path in paths:
            if path.suffix.lower() == RTTM:
                for segment in self._read(path):
                    found[segment.recording].append(_Line(path, segment))
        for path in paths:
            name = recording_name(path)
            if path.suffix.lower() == TEXT_GRID and name in meetings and name not in found:
                found[name] += [_Line(path, segment) for segment in self._read(path)]
        self._used |= found.keys() & meetings
        return {name: self._distinct(lines) for name, lines in found.items() if name in meetings}

    def _find(self, folders: Sequence[Path]) -> Iterator[Path]:
        """Yield the RTTM and TextGrid files in some folders, and in the folders of annotations in them."""
        for folder in folders:
            inside = [folder / name for name in self._list(folder) if name.lower() in ANNOTATION_FOLDERS]
            for place in [folder, *inside]:
                names = [name for name in self._list(place) if Path(name).suffix.lower() in (RTTM, TEXT_GRID)]
                yield from (place / name for name in names)

    def _list(self, folder: Path) -> list[str]:
        """Return the names in a folder that are not hidden, sorted; none if it cannot be opened."""
        if folder not in self._names:
            try:
                self._names[folder] = sorted(name for name in os.listdir(folder) if not name.startswith("."))
            except OSError:  # the scan of the audio files has warned of it, or it is a file with this name
                self._names[folder] = []
        return self._names[folder]

    def _read(self, path: Path) -> list[RttmSegment]:
        """Return the segments of a file; none, with a warning, if it cannot be read."""
        if path not in self._files:
            try:
                self._files[path] = (read_rttm if path.suffix.lower() == RTTM else read_text_grid)(path)
            except CorpusError as error:
                logger.warning("%s The file is not used.", error)
                self._files[path] = []
        return self._files[path]

    def _distinct(self, lines: Sequence[_Line]) -> list[_Line]:
        """Return the segments of a meeting without those that are repeated, and whose span has two speakers.

        In a span with two labels, two speakers speak at once, and the audio is of neither.
        """
        first: dict[tuple[str, tuple[float, float]], _Line] = {}
        for line in lines:
            if first.setdefault((line.segment.speaker, _span(line.segment)), line) is not line:
                self._repeated.append(line)
        spans = Counter(span for _, span in first)
        self._shared += [line for (_, span), line in first.items() if spans[span] > 1]
        return [line for (_, span), line in first.items() if spans[span] == 1]

    def log_problems(self, root: Path) -> None:
        """Log the segments that are not used, with the first cases; as a warning if a meeting was found."""
        level = logging.WARNING if self._used else logging.INFO
        missing = {segment.recording for segments in self._files.values() for segment in segments} - self._used
        if missing:
            count = count_of(len(missing), "meeting")
            logger.log(level, "%s: RTTM files list %s without audio: %s", root, count, listing(sorted(missing)))
        for left_out, reason in (
            (self._repeated, "repeats of an earlier line"),
            (self._shared, "spans with several speakers, who speak at once"),
        ):
            if left_out:
                count = count_of(len(left_out), "segment")
                logger.log(level, "%s: left out %s (%s): %s", root, count, reason, listing(list(map(str, left_out))))


def _span(segment: RttmSegment) -> tuple[float, float]:
    """Return where a segment is, as exactly as the id of an utterance has it."""
    return round(segment.start, 6), round(segment.duration, 6)


def log_local_labels(root: Path, utterances: Sequence[Utterance]) -> None:
    """Log that labels of speakers are local to a meeting, with those that several meetings have."""
    speakers = {
        (utterance.speaker.removeprefix(f"{utterance.session}_"), utterance.speaker) for utterance in utterances
    }
    counts = Counter(label for label, _ in speakers)
    shared = sorted(label for label, count in counts.items() if count > 1)
    if shared:
        example = sorted(speaker for label, speaker in speakers if label == shared[0])[:2]
        logger.info(
            "%s: labels of speakers are local to a meeting. %s %s in several meetings, for one person or for two; here "
            "each is another speaker in each meeting, such as %s",
            root, count_of(len(shared), "label"), "is" if len(shared) == 1 else "are", " and ".join(example),
        )  # fmt: skip
