"""Read who speaks when in recordings from a file in NIST's Rich Transcription Time Marked (RTTM) format."""

import logging
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from corpora.corpus import CorpusError, Utterance
from files import count_of, listing, normal_form, other_kind, read_lines, unknown_choice

logger = logging.getLogger(__name__)

FILE_KIND = "an RTTM file, with lines such as 'SPEAKER meeting 1 12.50 3.20 <NA> <NA> anna <NA> <NA>'"
# The types of lines of the format, and the mark of comments. Only the lines of speakers are used.
TYPES = {"SPEAKER", "SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT", "IP"}
TYPES |= {"SU", "CB", "A/P", "SPKR-INFO"}
COMMENT = ";;"
# Time that a segment may end after the end of its recording (seconds); programs round times, and pad segments.
TOLERANCE = 0.5


@dataclass(frozen=True)
class RttmSegment:
    """A segment of a recording in which one speaker speaks; equal to one that differs in `line` or `channel` alone.

    Attributes
    ----------
    recording : str
        Name of the recording, which is usually the name of its file without the suffix.
    speaker : str
    start, duration : float
        Start and length (seconds).
    line : int
        Index of its line among all lines of the file, from 0.
    channel : int or None
        Number of the channel as in RTTM files, from 1; None if it is not given.
    """

    recording: str
    speaker: str
    start: float
    duration: float
    line: int = field(default=0, compare=False, kw_only=True)
    channel: int | None = field(default=None, compare=False, kw_only=True)

    @property
    def end(self) -> float:
        """End of the segment (seconds)."""
        return self.start + self.duration


@dataclass(frozen=True)
class FaultyLine:
    """A line of an RTTM file that cannot be used.

    Attributes
    ----------
    line : int
        Index of the line among all lines of the file, from 0.
    reason : str
        Kind of fault.
    text : str
        Beginning of the line.
    """

    line: int
    reason: Literal["not well formed", "negative times", "no duration"]
    text: str


def read_rttm(path: str | os.PathLike[str]) -> list[RttmSegment]:
    """Read the lines ``SPEAKER recording channel start duration <NA> <NA> speaker ...`` of an RTTM file.

    Lines of the other types of the format are ignored. All other lines are skipped, and logged.

    Raises
    ------
    CorpusError
        The file cannot be read, or has no ``SPEAKER`` line that is well formed.
    """
    path = Path(path)
    segments, faulty = read_rttm_lines(path)
    if faulty:
        malformed = [f"line {each.line + 1} ({each.text!r})" for each in faulty]
        logger.warning("%s: skipped %s, not well formed: %s", path, count_of(len(malformed), "line"),
                       listing(malformed))  # fmt: skip
    if not segments:
        raise CorpusError(
            other_kind(path, FILE_KIND) or f"{path}: there is no segment in this file. Expected {FILE_KIND}."
        )
    return segments


def read_rttm_lines(path: Path) -> tuple[list[RttmSegment], list[FaultyLine]]:
    """Read an RTTM file as `read_rttm` does, and return the faulty lines instead of logging them.

    Raises
    ------
    CorpusError
        The file cannot be read.
    """
    segments, faulty = [], []
    for number, line in enumerate(read_lines(path, FILE_KIND, CorpusError)):
        kind = "".join(line.split()[:1])
        if not kind or kind.startswith(COMMENT) or kind in TYPES - {"SPEAKER"}:
            continue
        read = _parse(line, number) if kind == "SPEAKER" else _fault(line, number)
        if isinstance(read, RttmSegment):
            segments.append(read)
        else:
            faulty.append(read)
    return segments, faulty


def recording_name(path: Path) -> str:
    """Return the name of an audio file in RTTM files: without the suffix, and with underscores instead of spaces."""
    return normal_form("_".join(path.stem.split()))


def _parse(line: str, number: int) -> RttmSegment | FaultyLine:
    fields = line.split()
    if len(fields) < 8 or fields[7] == "<NA>":
        return _fault(line, number)
    try:
        start, duration = float(fields[3]), float(fields[4])
    except ValueError:
        return _fault(line, number)
    if not (math.isfinite(start) and math.isfinite(duration)):
        return _fault(line, number)
    if start < 0 or duration < 0:
        return FaultyLine(number, "negative times", _beginning(line))
    if duration == 0:
        return FaultyLine(number, "no duration", _beginning(line))
    channel = int(fields[2]) if fields[2].isdecimal() else None
    return RttmSegment(
        normal_form(fields[1]), normal_form(fields[7]), start, duration=duration, line=number, channel=channel
    )


def _fault(line: str, number: int) -> FaultyLine:
    return FaultyLine(number, "not well formed", _beginning(line))


def _beginning(line: str) -> str:
    return line.strip()[:60]


def rttm_utterances(
    path: str | os.PathLike[str],
    recordings: Sequence[Path],
    *,
    speaker: str | None = None,
    name: str | None = None,
    min_seconds: float = 0.0,
) -> list[Utterance]:
    """Return the segments of an RTTM file in which one speaker speaks alone, as utterances of the given recordings.

    Parameters
    ----------
    path : path-like
        RTTM file.
    recordings : sequence of Path
        Audio files; those whose name without the suffix is in the RTTM file are used. As the format separates fields by
        spaces, an underscore in it also stands for a space.
    speaker : str, optional
        The only speaker to return; by default all.
    name : str, optional
        Name to give to the one speaker, instead of the name in the file.
    min_seconds : float
        Minimum length of an utterance (seconds). Shorter ones are left out, and logged.

    Raises
    ------
    CorpusError
        The RTTM file cannot be read, has none of the recordings, has no such speaker, or has several for `name`.
    """
    speaker = None if speaker is None else normal_form(speaker)
    by_recording = _by_recording(path)
    files: dict[str, Path] = {}
    for file in recordings:
        first = files.setdefault(recording_name(file), file)
        if first != file:
            raise CorpusError(f"{path}: {first} and {file} have the same name without the suffix; give one of them.")
    found = [(recording, files[recording]) for recording in by_recording if recording in files]
    if not found:
        raise _other_recordings(path, list(by_recording), recordings)
    unused = [str(file) for recording, file in files.items() if recording not in by_recording]
    if unused:
        logger.warning("%s: there are no segments of %s", path, listing(unused))
    speakers = sorted({segment.speaker for recording, _ in found for segment in by_recording[recording]})
    if speaker is not None and speaker not in speakers:
        raise CorpusError(f"{path}: {unknown_choice('speaker', speaker, speakers, max_listed=10)}")
    if name is not None and speaker is None and len(speakers) > 1:
        raise CorpusError(
            f"{path}: there are several speakers ({listing(speakers)}). Name the one to enrol as {name!r} with "
            "--rttm_speaker, or leave out --name to enrol all."
        )
    utterances = [
        Utterance(file, name or segment.speaker, recording, start=round(start, 6), duration=round(end - start, 6))
        for recording, file in found
        for segment in by_recording[recording]
        if speaker in (None, segment.speaker)
        for start, end in _alone(segment, by_recording[recording])
    ]
    wanted = [name or each for each in speakers if speaker in (None, each)]
    return _without_short(path, list(dict.fromkeys(utterances)), min_seconds, speakers=wanted)


def segments_of_recording(
    path: str | os.PathLike[str], recording: Path, seconds: float, *, channel: int | None = None
) -> list[RttmSegment]:
    """Return the segments of one recording from an RTTM file, sorted by their start, and cut at the end of the audio.

    If the RTTM file gives one channel for all of them, they are returned whatever `channel` is; another one is logged.

    Parameters
    ----------
    path : path-like
        RTTM file.
    recording : Path
        Audio file; its name without the suffix is the name of the recording in the RTTM file.
    seconds : float
        Length of the audio (seconds).
    channel : int, optional
        Number of the channel that is read, from 0: of several channels in the RTTM file, which counts from 1, only this
        one is used. By default all.

    Raises
    ------
    CorpusError
        The RTTM file cannot be read, does not have the recording or the channel, or has a segment that ends more than
        `TOLERANCE` after the end of the audio.
    """
    by_recording = _by_recording(path)
    if recording_name(recording) not in by_recording:
        raise _other_recordings(path, list(by_recording), [recording])
    segments = _of_channel(path, by_recording[recording_name(recording)], channel)
    segments.sort(key=lambda each: (each.start, each.line))
    last = max(segments, key=lambda each: each.end)
    if last.end > seconds + TOLERANCE:
        raise CorpusError(
            f"{path}: the segment on line {last.line + 1} ends at {last.end:.2f} s, but {recording} is {seconds:.2f} s "
            "long. Give the RTTM file of this recording."
        )
    cut = [replace(each, duration=min(each.end, seconds) - each.start) for each in segments if each.start < seconds]
    return [each for each in cut if each.duration > 0]


def _of_channel(path: str | os.PathLike[str], segments: list[RttmSegment], channel: int | None) -> list[RttmSegment]:
    """Return the segments of a channel (from 0); all if it is None, or if the file gives no other choice."""
    given = sorted({each.channel for each in segments if each.channel is not None})
    if channel is None or not given or given == [channel + 1]:
        return segments
    numbers = f"channel {', '.join(map(str, given))} (counted from 1), and --channel {channel} is channel {channel + 1}"
    if len(given) == 1:
        logger.warning("%s: the segments are of %s; they are used for it.", path, numbers)
        return segments
    if channel + 1 not in given:
        raise CorpusError(f"{path}: the segments are of {numbers}. Give one of the channels of the file.")
    return [each for each in segments if each.channel == channel + 1]


def _by_recording(path: str | os.PathLike[str]) -> dict[str, list[RttmSegment]]:
    """Read the segments of an RTTM file, by the name of the recording."""
    by_recording: defaultdict[str, list[RttmSegment]] = defaultdict(list)
    for segment in read_rttm(path):
        by_recording[segment.recording].append(segment)
    return by_recording


def _other_recordings(path: str | os.PathLike[str], described: Sequence[str], given: Sequence[Path]) -> CorpusError:
    return CorpusError(
        f"{path}: this file describes the recordings {listing(described)}, but the given files are "
        f"{listing([file.name for file in given])}. Give the files with these names."
    )


def _alone(segment: RttmSegment, others: Iterable[RttmSegment]) -> list[tuple[float, float]]:
    """Return the parts of a segment (start, end) in which no other speaker speaks."""
    parts = [(segment.start, segment.end)]
    for other in others:
        if other.speaker != segment.speaker and other.start < segment.end and segment.start < other.end:
            cut = [((start, min(end, other.start)), (max(start, other.end), end)) for start, end in parts]
            parts = [(start, end) for pair in cut for start, end in pair if end > start]
    return parts


def _without_short(
    path: str | os.PathLike[str], utterances: list[Utterance], min_seconds: float, *, speakers: Sequence[str]
) -> list[Utterance]:
    kept = [each for each in utterances if each.duration is None or each.duration >= min_seconds]
    if not kept:
        raise CorpusError(
            f"{path}: there is no segment of at least {min_seconds:g} s in which {' or '.join(speakers[:3])} speaks "
            "alone. Give a recording with longer segments."
        )
    if len(kept) < len(utterances):
        count = count_of(len(utterances) - len(kept), "segment")
        logger.warning("%s: left out %s shorter than %g s in which one speaker speaks alone", path, count, min_seconds)
    absent = sorted(set(speakers) - {each.speaker for each in kept})
    if absent:
        logger.warning("%s: no segment is left of %s, who never speaks alone for so long", path, listing(absent))
    return kept
