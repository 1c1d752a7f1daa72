"""`find_segments`: the segments of a meeting corpus, from its RTTM files."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from audio import AudioError, span_seconds
from corpora.corpus import CorpusError
from corpora.meeting_segments import (
    BAD_AUDIO,
    JOINED,
    LONG,
    NO_AUDIO,
    NOT_LISTED,
    OVERLAPPED,
    PAST_END,
    REPEATED,
    SHARED,
    SHORT,
    DroppedLine,
    FoundSegments,
    MeetingSegment,
)
from corpora.overlaps import Overlaps
from corpora.rttm import RttmSegment, read_rttm_lines, recording_name
from corpora.scan import require_audio
from files import PathLike, existing_path, is_utf8, listing, safe_file_name

# Annotations are rounded: a segment may end this long after the end of its file (seconds), as in `read_audio`.
TOLERANCE = 0.1


def find_segments(
    rttm_dir: PathLike,
    audio_dir: PathLike,
    *,
    min_duration: float = 1.5,
    max_duration: float | None = None,
    max_overlap: float | None = None,
    merge_gap: float | None = None,
    channel: int | None = None,
    labels: Mapping[str, str] | None = None,
) -> FoundSegments:
    """Find the segments of a meeting corpus; of the audio, only headers are read.

    Faults of the RTTM files never stop the others: they are returned.

    Parameters
    ----------
    rttm_dir : path-like
        Folder with RTTM files, also in subfolders, or one RTTM file.
    audio_dir : path-like
        Folder with the recordings, also in subfolders. The name of a recording without the suffix is that of the
        meeting in the RTTM file.
    min_duration, max_duration : float
        Shortest and longest segments that are kept (seconds).
    max_overlap : float, optional
        Largest share of a segment, from 0 to 1, in which other speakers of the meeting may speak.
    merge_gap : float, optional
        Longest pause between consecutive segments of a speaker that are joined (seconds), before their durations are
        checked. A joined segment has the name of the first.
    channel : int, optional
        Channel of the recordings to read, from 0; None is the mean of all.
    labels : mapping, optional
        Names of the only segments to keep, and their labels, as `read_segment_list` returns them.

    Raises
    ------
    CorpusError
        There are no RTTM files, or no audio files.
    """
    audio = _recordings(existing_path(Path(audio_dir)))
    reading = _Reading(channel)
    files = _rttm_files(existing_path(Path(rttm_dir)))
    for path in files:
        reading.add(path, audio)
    dropped, kept = reading.dropped, reading.segments
    overlaps = {meeting: Overlaps(of_meeting) for meeting, of_meeting in reading.speech.items()}

    def is_past_end(each: MeetingSegment) -> bool:
        seconds = reading.seconds[each.path]
        return each.end > seconds + TOLERANCE or each.start >= seconds

    kept = reading.without(PAST_END, kept, is_past_end)
    if merge_gap is not None:
        kept = _join(kept, merge_gap, dropped)
    kept = reading.without(SHORT, kept, lambda each: each.duration < min_duration or not round(each.duration, 6))
    kept = reading.without(LONG, kept, lambda each: each.duration > (max_duration or math.inf))
    first: dict[tuple[str, _Span], MeetingSegment] = {}
    kept = reading.without(REPEATED, kept, lambda each: first.setdefault((each.speaker, _span(each)), each) is not each)
    spans = Counter(map(_span, kept))
    kept = reading.without(SHARED, kept, lambda each: spans[_span(each)] > 1)
    if max_overlap is not None:
        limit = max_overlap

        def is_overlapped(each: MeetingSegment) -> bool:
            return overlaps[each.session].share(each.speaker, each.start, each.end) > limit

        kept = reading.without(OVERLAPPED, kept, is_overlapped)
    missing = {}
    if labels is not None:
        missing = _missing(labels, kept, dropped)
        kept = reading.without(NOT_LISTED, kept, lambda each: each.name not in labels)
        kept = [replace(each, speaker=labels[each.name]) for each in kept]
    order = {path: number for number, path in enumerate(files)}
    return FoundSegments(
        tuple(sorted(kept, key=lambda each: (order[each.rttm], each.line))),
        tuple(dropped),
        unreadable=tuple(reading.unreadable),
        notes=tuple(reading.notes),
        missing=missing,
        n_meetings=len(reading.meetings),
    )


class _Reading:
    """RTTM files that are read one after the other, with the recordings that they describe."""

    def __init__(self, channel: int | None) -> None:
        self.channel = channel
        self.segments: list[MeetingSegment] = []
        self.dropped: list[DroppedLine] = []
        self.unreadable: list[str] = []
        self.notes: list[str] = []
        self.seconds: dict[Path, float] = {}  # lengths of the recordings
        # Speech of each meeting, also of segments that are not used: speaker, and start and end.
        self.speech: defaultdict[str, list[tuple[str, tuple[float, float]]]] = defaultdict(list)
        self._owners: dict[str, tuple[str, str]] = {}  # label -> meeting and speaker
        self.meetings: set[str] = set()
        self._faults: dict[Path, str] = {}  # recordings that cannot be used, and why
        self._seen: set[RttmSegment] = set()
        self._names: set[str] = set()

    def add(self, rttm: Path, audio: Mapping[str, Sequence[Path]]) -> None:
        """Read an RTTM file."""
        try:
            found, faulty = read_rttm_lines(rttm)
        except CorpusError as error:
            self.unreadable.append(str(error))
            return
        self.dropped += [DroppedLine(rttm, each.line, each.reason, detail=each.text) for each in faulty]
        if not found and not faulty:
            self.notes.append(f"{rttm}: there is no SPEAKER line in this file")
        self._note_form(rttm, found)
        for each in found:
            self.meetings.add(each.recording)
            label = f"{each.recording}_{each.speaker}"
            self.speech[each.recording].append((label, (each.start, each.end)))
            owner = self._owners.setdefault(label, (each.recording, each.speaker))
            if owner != (each.recording, each.speaker):
                self._note_label(label, owner, (each.recording, each.speaker))
            name = safe_file_name(f"{label}_{each.line:04d}")
            reason, detail = self._fault_of(each, name, audio.get(each.recording, ()))
            if reason:
                self.dropped.append(DroppedLine(rttm, each.line, reason, detail=detail, name=name))
                continue
            self._names.add(name)
            self.segments.append(
                MeetingSegment(
                    name=name,
                    path=audio[each.recording][0],
                    speaker=label,
                    session=each.recording,
                    start=each.start,
                    duration=each.duration,
                    channel=self.channel,
                    rttm=rttm,
                    line=each.line,
                )
            )

    def _note_label(self, label: str, *owners: tuple[str, str]) -> None:
        """Note a label that two speakers have; once."""
        (meeting, speaker), (other_meeting, other) = owners
        note = f"the label {label} is that of {speaker} in {meeting}, and of {other} in {other_meeting}: rename one"
        if note not in self.notes:
            self.notes.append(note)

    def _note_form(self, rttm: Path, found: Sequence[RttmSegment]) -> None:
        """Note line ends and names that other programs may not read."""
        if b"\r\n" in rttm.read_bytes():
            self.notes.append(f"{rttm.name}: its lines end as on Windows (CRLF); they are read as usual")
        names = sorted({name for each in found for name in (each.recording, each.speaker) if not name.isascii()})
        if valid := [name for name in names if is_utf8(name)]:
            self.notes.append(f"{rttm.name}: names with letters beyond ASCII are kept: {listing(valid)}")

    def _fault_of(self, segment: RttmSegment, name: str, recordings: Sequence[Path]) -> tuple[str, str]:
        """Return why a segment cannot be used, and what it is; two empty texts if it can."""
        if not (is_utf8(segment.recording) and is_utf8(segment.speaker)):
            return "name not in UTF-8", ascii(segment.speaker)
        if segment in self._seen:
            return REPEATED, f"{segment.speaker} {segment.start:g} {segment.duration:g}"
        self._seen.add(segment)
        if not recordings:
            return NO_AUDIO, segment.recording
        if len(recordings) > 1:
            return BAD_AUDIO, f"{segment.recording} may be {listing(recordings)}"
        if name in self._names:
            return "name used twice", f"another RTTM file has the segment {name}"
        fault = self._fault_of_recording(recordings[0])
        return (BAD_AUDIO, fault) if fault else ("", "")

    def _fault_of_recording(self, path: Path) -> str:
        """Return why a recording cannot be used; its header is read once."""
        if path not in self._faults:
            self._faults[path] = ""
            try:
                self.seconds[path] = span_seconds(path, channel=self.channel)
            except AudioError as error:
                self._faults[path] = str(error)
        return self._faults[path]

    def without(
        self, reason: str, segments: Iterable[MeetingSegment], is_dropped: Callable[[MeetingSegment], bool]
    ) -> list[MeetingSegment]:
        """Return the segments that are kept, and note the others."""
        kept = []
        for each in segments:
            if is_dropped(each):
                self.dropped.append(_dropped(each, reason))
            else:
                kept.append(each)
        return kept


_Span = tuple[Path, float, float]


def _span(segment: MeetingSegment) -> _Span:
    """Return where a segment is, as exactly as the id of an utterance has it."""
    return segment.path, round(segment.start, 6), round(segment.duration, 6)


def _dropped(segment: MeetingSegment, reason: str) -> DroppedLine:
    return DroppedLine(segment.rttm, segment.line, reason, detail=segment.name, name=segment.name)


def _rttm_files(folder: Path) -> list[Path]:
    """Return the RTTM files in a folder and its subfolders, sorted, or the one file that is given."""
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder. Give the folder of the RTTM files.")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() == ".rttm" and path.is_file() and not path.name.startswith(".")
    )
    if not found:
        raise CorpusError(f"{folder}: there is no file in this folder whose name ends in .rttm.")
    return found


def _recordings(folder: Path) -> dict[str, list[Path]]:
    """Return the audio files below a folder by the name of the recording, in which an underscore stands for a space."""
    if not folder.exists():
        raise CorpusError(f"{folder}: no such folder. Give the folder of the recordings that the RTTM files describe.")
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for name in require_audio(folder):
        found[recording_name(Path(name))].append(folder / name)
    return found


def _join(segments: Iterable[MeetingSegment], merge_gap: float, dropped: list[DroppedLine]) -> list[MeetingSegment]:
    """Join consecutive segments of one speaker with a short pause, or none, between them."""
    by_speaker: defaultdict[tuple[Path, str], list[MeetingSegment]] = defaultdict(list)
    for each in sorted(segments, key=lambda each: (each.start, each.line)):
        own = by_speaker[each.path, each.speaker]
        # Differences of decimal numbers are inexact: 1.2 - 1.0 is a little below 0.2, and 1.3 - 1.1 above.
        if own and round(each.start - own[-1].end, 6) <= merge_gap:
            end = max(own[-1].end, each.end)
            own[-1] = replace(own[-1], duration=round(end - own[-1].start, 6))
            dropped.append(_dropped(each, JOINED))
        else:
            own.append(each)
    return [each for own in by_speaker.values() for each in own]


def _missing(
    labels: Mapping[str, str], kept: Iterable[MeetingSegment], dropped: Iterable[DroppedLine]
) -> dict[str, str]:
    """Return the listed segments that are not there, and why."""
    names = {each.name for each in kept}
    reasons = {each.name: each.reason for each in dropped}
    return {name: reasons.get(name, "no such line in the RTTM files") for name in labels if name not in names}
