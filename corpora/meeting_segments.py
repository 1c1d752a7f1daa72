"""The segments of a meeting corpus, and the lines of its RTTM files that are not used."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from files import count_of, listing

# Reasons that come from the settings, or from what meetings are like; all other reasons are faults.
REPEATED, JOINED = "repeated line", "joined to the segment before"
# Of a span with two labels, the audio is of neither speaker.
SHARED = "same span as another speaker"
SHORT, LONG, OVERLAPPED, NOT_LISTED = "too short", "too long", "too much overlap", "not in the list"
CHOSEN = (REPEATED, JOINED, SHARED, SHORT, LONG, OVERLAPPED, NOT_LISTED)
NO_AUDIO, BAD_AUDIO, PAST_END = "no audio", "audio not usable", "past the end of the audio"


@dataclass(frozen=True)
class MeetingSegment:
    """A segment of a meeting in which one speaker speaks.

    Attributes
    ----------
    name : str
        ``<meeting>_<speaker>_<line>`` with the index of its line in the RTTM file, from 0, in 4 digits.
    path : Path
        Recording of the meeting.
    speaker : str
        ``<meeting>_<speaker>``, because speakers of RTTM files are usually local to a meeting; or the listed label.
    session : str
        The meeting.
    start, duration : float
        Start and length (seconds).
    channel : int or None
        Number of the channel to read, from 0; None is the mean of all.
    rttm : Path
        RTTM file.
    line : int
        Index of the line in the RTTM file, from 0.
    """

    name: str
    path: Path
    speaker: str
    session: str
    start: float
    duration: float
    channel: int | None
    rttm: Path
    line: int

    @property
    def end(self) -> float:
        """End of the segment (seconds)."""
        return self.start + self.duration


@dataclass(frozen=True)
class DroppedLine:
    """A SPEAKER line whose segment is not used.

    Attributes
    ----------
    rttm : Path
    line : int
        Index of the line, from 0.
    reason : str
        Why it is not used: one of `CHOSEN`, or a fault.
    detail : str
        The segment, or what is wrong with it.
    name : str
        Name that the segment would have; empty if the line is not well formed.
    """

    rttm: Path
    line: int
    reason: str
    detail: str
    name: str = ""


@dataclass(frozen=True)
class FoundSegments:
    """The segments of a meeting corpus, and what is not used.

    Attributes
    ----------
    segments : tuple of MeetingSegment
        Segments, by RTTM file and line.
    dropped : tuple of DroppedLine
    unreadable : tuple of str
        Sentences about RTTM files that cannot be read.
    notes : tuple of str
        Sentences about what is unusual in RTTM files, but has no effect.
    missing : dict
        Listed segments that are not there: name -> why.
    n_meetings : int
        Number of meetings in the RTTM files.
    """

    segments: tuple[MeetingSegment, ...]
    dropped: tuple[DroppedLine, ...]
    unreadable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    n_meetings: int = 0

    @property
    def has_faults(self) -> bool:
        """Whether something could not be used."""
        return bool(self.unreadable or self.missing or any(each.reason not in CHOSEN for each in self.dropped))

    @property
    def summary(self) -> list[tuple[str, str]]:
        """Numbers of meetings, speakers and segments, hours, and dropped lines by reason, as (name, value) pairs."""
        hours = sum(each.duration for each in self.segments) / 3600
        n_used = len({each.session for each in self.segments})
        meetings = str(n_used) if n_used == self.n_meetings else f"{n_used} of {self.n_meetings}"
        speakers = len({each.speaker for each in self.segments})
        counts = Counter(each.reason for each in self.dropped)
        return [
            ("meetings", meetings),
            ("speakers", str(speakers)),
            ("segments", str(len(self.segments))),
            ("hours", f"{hours:.2f}"),
            *((f"dropped: {reason}", str(count)) for reason, count in counts.most_common()),
        ]

    @property
    def problems(self) -> list[str]:
        """Sentences about faults of the RTTM files and the audio, with the first cases of each."""
        cases: defaultdict[str, list[str]] = defaultdict(list)
        for each in self.dropped:
            if each.reason in (NO_AUDIO, BAD_AUDIO):  # the same for all lines of a meeting
                cases[each.reason].append(f"{each.rttm.name}: {each.detail}")
            elif each.reason not in CHOSEN or each.reason in (REPEATED, SHARED):
                cases[each.reason].append(f"{each.rttm.name}, line {each.line + 1} ({each.detail})")
        counts = Counter(each.reason for each in self.dropped)
        lines = [
            f"{reason}: {count_of(counts[reason], 'line')}: {listing(list(dict.fromkeys(of_reason)))}"
            for reason, of_reason in cases.items()
        ]
        return [*self.unreadable, *lines, *self.notes]
