"""Score who speaks when: timelines with and without speech detection, and the names of the labels of a diarisation.

python benchmarks/timelines.py choose T U --clips D/ami_clips --names trn03 trn04
python benchmarks/timelines.py score M N --clips D/ami_clips --names dev00 tst00

T, U, M and N are folders of meetings that benchmarks/meetings.py made; D/ami_clips holds wav and rttm too.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, ClassVar, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate
from pyannote.metrics.identification import IdentificationErrorRate
from scipy.ndimage import median_filter

from audio import span_seconds
from command_line import EXIT_DONE, run_one_of
from config import LogLevel, ScriptConfig
from configs.base import InputPath, Probability, Range, Seconds, SpeechConfig
from configs.verification import TIMELINE_OF_SPEECH
from corpora import RttmSegment, Span, Utterance, read_rttm, spans_alone, union_of
from encoders import LazyEncoder, lazy_encoder
from files import format_percent, format_table
from heads import UNKNOWN
from verification import (
    MIN_SECONDS,
    Recording,
    SpeakerStore,
    SpeakerVerifier,
    Turn,
    WindowScores,
    find_turns,
    name_labels,
    score_windows,
)
from verification.smoothing import absorb_short_turns, most_probable_path, runs_of
from verification.timeline import LENIENCE, identify_turns

# Values that `choose` compares.
SWITCH_COSTS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
MEDIANS = (3, 5, 7)
MIN_TURNS = (0.0, 0.5, 1.0)


@dataclass(frozen=True, kw_only=True)
class TimelinesBenchmark(ScriptConfig):
    """Settings of the measurements."""

    is_positional: ClassVar[bool] = True

    meetings: tuple[InputPath, ...]
    """Folders of meetings, with the folders wav and rttm."""
    clips: InputPath | None = None
    """Folder of short clips, with the folders wav and rttm."""
    names: tuple[str, ...] = ()
    """Names of the clips to use."""
    recordings: tuple[str, ...] = ()
    """Names of the meetings to use, by default all."""
    left_out: Annotated[int, Range(0, 100)] = 0
    """Number of speakers of each meeting who are not enrolled; those of clips are all enrolled."""
    enrolled: Seconds = 10.0
    """Length of the first turns of each speaker of a meeting that enrol the speaker (seconds)."""
    enrolled_clips: Seconds = 3.0
    """The same for clips (seconds)."""
    windows: tuple[Seconds, ...] = (1.5,)
    """Lengths of the windows that `choose` compares (seconds)."""
    vad_threshold: Probability = SpeechConfig.vad_threshold
    """Probability at which speech begins."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


class Meeting(NamedTuple):
    """A recording with its reference, and the parts that its speakers are enrolled with."""

    path: Path
    segments: list[RttmSegment]
    enrolment: dict[str, list[Span]]

    @property
    def scored(self) -> Timeline:
        """All of the recording without the parts of the enrolment."""
        whole = Timeline([Segment(0, span_seconds(self.path))])
        return whole.extrude(Timeline(Segment(*span) for spans in self.enrolment.values() for span in spans))

    @property
    def speech(self) -> list[Span]:
        """Speech in the reference."""
        return union_of((each.start, each.end) for each in self.segments)


class Errors:
    """Error rates of several recordings together: identification error rate, its parts, and DER.

    Parameters
    ----------
    is_lenient : bool
        Whether 0.25 s on both sides of each boundary of the reference, and overlaps, are not scored.
    """

    def __init__(self, is_lenient: bool = False) -> None:
        options = {"collar": 0.5 if is_lenient else 0.0, "skip_overlap": is_lenient}
        self._identification, self._diarisation = IdentificationErrorRate(**options), DiarizationErrorRate(**options)

    def add(self, meeting: Meeting, turns: Sequence[Turn]) -> None:
        """Add the turns that were found in a recording."""
        reference, found = Annotation(), Annotation()
        for number, each in enumerate(meeting.segments):
            name = each.speaker if each.speaker in meeting.enrolment else UNKNOWN
            reference[Segment(each.start, each.end), number] = name
        for number, turn in enumerate(turns):
            found[Segment(turn.start, turn.end), number] = turn.speaker
        for metric in (self._identification, self._diarisation):
            metric(reference.support(), found, uem=meeting.scored)

    def figures(self) -> list[float]:
        """Return the identification error rate, missed speech, false alarms, confusions, and DER, as shares."""
        counted = self._identification.accumulated_
        parts = [counted[name] / counted["total"] for name in ("missed detection", "false alarm", "confusion")]
        return [abs(self._identification), *parts, abs(self._diarisation)]


# Prior probabilities that a speaker is enrolled.
PRIORS = (0.5, 0.99)
HEADER = ["IER %", "missed", "false alarm", "confusion", "DER %"]


def main_choose(config: TimelinesBenchmark) -> int:
    """Compare windows and smoothing on the training recordings."""
    plain, encoder = lazy_encoder("campplus", device="cpu"), encoder_of(config)
    errors: dict[tuple[str, ...], Errors] = {}
    for _, meetings in by_folder(config):
        for meeting, window in product(meetings, config.windows):
            with store_of(meeting, plain) as store:
                scores = score_windows(store, meeting.path, encoder, window=window)
                for setting, turns in [] if scores is None else compared(store, scores):
                    errors.setdefault((f"{window:g}", *setting), Errors()).add(meeting, turns)
    lines = [[*setting, *map(format_percent, each.figures())] for setting, each in errors.items()]
    lines.sort(key=lambda line: float(line[4]))
    print(format_table(["window", "smoothing", "decision", "min. turn", *HEADER], lines, "><<>>>>>>"))
    return EXIT_DONE


def compared(store: SpeakerStore, scores: WindowScores) -> Iterator[tuple[tuple[str, ...], list[Turn]]]:
    """Yield settings, and the turns that they give: each way to smooth, decided by window or by turn."""
    for lenience, decision in ((0.0, "by window"), (LENIENCE, "by turn")):
        evidence = np.stack(list(scores.evidence.rows(lenience)))
        stretches = runs_of(np.zeros(len(evidence), np.int64), scores.spans)
        parts = [evidence[first : last + 1] for first, last in stretches]
        smoothed = {
            f"Viterbi, {cost:g}" if cost else "none": [most_probable_path(part, cost) for part in parts]
            for cost in SWITCH_COSTS
        }
        for size in MEDIANS:
            medians = [median_filter(part, (size, 1), mode="nearest") for part in parts]
            smoothed[f"median of {size}"] = [part.argmax(axis=1) for part in medians]
        for (name, paths), min_turn in product(smoothed.items(), MIN_TURNS):
            choices = absorb_short_turns(np.concatenate(paths), scores.spans, min_turn)
            turns = identify_turns(store, scores, choices) if lenience else scores.turns(choices)
            yield (name, decision, f"{min_turn:g}"), turns


def main_score(config: TimelinesBenchmark) -> int:
    """Print the error rates of timelines and of named diarisations, for each folder."""
    for folder, meetings in by_folder(config):
        systems: dict[str, tuple[Errors, Errors]] = {}
        labels: dict[float, list[bool]] = {p_known: [] for p_known in PRIORS}
        for meeting in meetings:
            with store_of(meeting, lazy_encoder("campplus", device="cpu")) as store:
                for name, turns in answers(store, meeting, config):
                    strict, lenient = systems.setdefault(name, (Errors(), Errors(is_lenient=True)))
                    strict.add(meeting, turns)
                    lenient.add(meeting, turns)
                for p_known, are_right in labels.items():
                    are_right += are_named_right(store, meeting, p_known)
        print(
            f"{folder}: {len(meetings)} recordings, {sum(len(each.enrolment) for each in meetings)} enrolled speakers"
        )
        lines = [
            [
                name,
                *map(format_percent, strict.figures()),
                *(format_percent(lenient.figures()[place]) for place in (0, 4)),
            ]
            for name, (strict, lenient) in systems.items()
        ]
        print(format_table(["", *HEADER, "IER, lenient", "DER, lenient"], lines, "<" + ">" * 7))
        for p_known, are_right in labels.items():
            right = f"{sum(are_right)} of {len(are_right)}"
            print(f"--segments --p_known {p_known:g}: {right} labels of the reference get the right name")
    return EXIT_DONE


def answers(store: SpeakerStore, meeting: Meeting, config: TimelinesBenchmark) -> Iterator[tuple[str, list[Turn]]]:
    """Yield the turns that each system finds in a meeting."""
    yield "windows of 2 s", find_turns(store, meeting.path, lazy_encoder("campplus", device="cpu"))
    for p_known in PRIORS:
        turns = find_turns(store, meeting.path, encoder_of(config), p_known=p_known, **TIMELINE_OF_SPEECH)
        yield f"--vad --p_known {p_known:g}", turns


def are_named_right(store: SpeakerStore, meeting: Meeting, p_known: float) -> list[bool]:
    """Return whether each label of the reference gets the right name, by the segments that are scored."""
    kept = []
    for each in meeting.segments:
        own = Timeline([Segment(each.start, each.end)]).crop(meeting.scored, mode="intersection")
        kept += [replace(each, start=part.start, duration=part.duration) for part in own]
    labels = name_labels(store, meeting.path, lazy_encoder("campplus", device="cpu"), segments=kept, p_known=p_known)
    return [each.speaker == (each.label if each.label in meeting.enrolment else UNKNOWN) for each in labels]


def encoder_of(config: TimelinesBenchmark) -> LazyEncoder:
    """Return campplus with speech detection."""
    return lazy_encoder("campplus", device="cpu", speech_detection={"threshold": config.vad_threshold})


def by_folder(config: TimelinesBenchmark) -> Iterator[tuple[str, list[Meeting]]]:
    """Yield each folder with its recordings."""
    for folder in config.meetings:
        paths = [
            path
            for path in sorted((folder / "wav").iterdir())
            if not config.recordings or path.stem in config.recordings
        ]
        yield folder.name, [read_meeting(path, config.enrolled, config.left_out) for path in paths]
    if config.clips is not None and config.names:
        paths = [config.clips / "wav" / f"{name}.flac" for name in config.names]
        yield config.clips.name, [read_meeting(path, config.enrolled_clips, 0) for path in paths]


def read_meeting(path: Path, enrolled: float, left_out: int) -> Meeting:
    """Read the reference of a recording, and choose the first turns of its speakers for the enrolment."""
    segments = read_rttm(path.parents[1] / "rttm" / f"{path.stem}.rttm")
    alone = spans_alone((each.speaker, (each.start, each.end)) for each in segments)
    speakers = sorted(alone)[: len(alone) - left_out]
    enrolment = {speaker: first_turns(alone[speaker], enrolled) for speaker in speakers}
    return Meeting(path, segments, {speaker: spans for speaker, spans in enrolment.items() if spans})


def first_turns(spans: Sequence[Span], seconds: float) -> list[Span]:
    """Return the first of some spans, up to a length (seconds), and to half of their length if that is less."""
    usable = [span for span in spans if span[1] - span[0] >= MIN_SECONDS]
    left = min(seconds, sum(end - start for start, end in usable) / 2)
    chosen = []
    for start, end in usable:
        chosen.append((start, min(end, start + max(left, MIN_SECONDS))))
        left -= chosen[-1][1] - start
        if left < MIN_SECONDS:
            break
    return chosen


@contextmanager
def store_of(meeting: Meeting, encoder: LazyEncoder) -> Iterator[SpeakerStore]:
    """Make a store of the speakers of a meeting."""
    verifier = SpeakerVerifier.ready()
    with (
        TemporaryDirectory() as folder,
        SpeakerStore.create(Path(folder) / "speakers.db", verifier) as store,
    ):
        for speaker, spans in meeting.enrolment.items():
            parts = [
                Utterance(meeting.path, speaker, "", start=round(start, 6), duration=round(end - start, 6))
                for start, end in spans
            ]
            store.enroll(speaker, [Recording.of(row) for row in verifier.embed(parts, encoder)])
        yield store


if __name__ == "__main__":
    run_one_of({"choose": (TimelinesBenchmark, main_choose), "score": (TimelinesBenchmark, main_score)})
