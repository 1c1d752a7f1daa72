"""`Utterance` and `Corpus`: the recordings of a corpus, and their speakers."""

import hashlib
import logging
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Literal

from audio import AudioError, read_audio
from files import (
    InputError,
    count_of,
    html_table,
    is_file_name,
    is_missing,
    listing,
    normal_form,
    note_of_rest,
    short_repr,
)

logger = logging.getLogger(__name__)

# Numbers of speakers and of utterances that a notebook shows.
SHOWN_SPEAKERS, SHOWN_UTTERANCES = 10, 5

# The splits that a corpus may give.
Split = Literal["train", "validation", "test"]


class CorpusError(InputError):
    """A corpus cannot be read, downloaded or split as requested."""


@dataclass(frozen=True)
class Utterance:
    """A file, or a segment of a file, in which one speaker speaks.

    Attributes
    ----------
    path : Path
        The file.
    speaker : str
        Name of the speaker.
    session : str
        Name of the recording session, such as a chapter, a meeting or a day. Utterances of one session share acoustic
        conditions, which can leak from the training set into the test set. If there is no session, the speaker's name.
    start : float
        Start of the segment (seconds).
    duration : float or None
        Length of the segment (seconds); None is to the end of the file.
    root : Path
        Root folder of the corpus; `id` is relative to it.
    split : str or None
        The split that the corpus gives: ``train``, ``validation`` or ``test``; None if it gives none.
    channel : int or None
        Number of the channel of the file, from 0; None is the mean of all channels.

    Examples
    --------
    >>> Utterance(Path("voices/ann/1.wav"), "ann", "monday", root=Path("voices")).id
    'ann/1.wav'
    >>> Utterance(Path("voices/meeting.wav"), "ann", "monday", start=1.5, duration=2.25, root=Path("voices")).id
    'meeting.wav#1.5-2.25'
    >>> Utterance(Path("voices/call.wav"), "ann", "monday", root=Path("voices"), channel=1).id
    'call.wav#channel1'
    """

    path: Path
    speaker: str
    session: str
    start: float = 0.0
    duration: float | None = None
    root: Path = field(default=Path(), kw_only=True, repr=False)
    split: Split | None = field(default=None, kw_only=True)
    channel: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        # Strings are accepted too.
        if not isinstance(self.path, Path):
            object.__setattr__(self, "path", Path(self.path))
        if not isinstance(self.root, Path):
            object.__setattr__(self, "root", Path(self.root))
        # One name has one spelling; `Corpus` refuses names that are no texts.
        for name in ("speaker", "session"):
            given = getattr(self, name)
            if isinstance(given, str) and not given.isascii():
                object.__setattr__(self, name, normal_form(given))
        if not 0 <= self.start < math.inf or not (self.duration is None or 0 < self.duration < math.inf):
            raise CorpusError(
                f"{self.path}: the span starts at {self.start:g} s and lasts {self.duration} s; expected a start of 0 "
                "or more and a duration above 0."
            )
        if self.channel is not None and not (isinstance(self.channel, Integral) and self.channel >= 0):
            raise CorpusError(
                f"{self.path}: the channel is {self.channel!r}; expected a number from 0, or None for the mean of all."
            )

    @property
    def id(self) -> str:
        """POSIX path relative to `root`, plus ``#start-duration`` for a segment and ``#channelN`` for a channel.

        It does not depend on where `root` is.
        Its letters are in Unicode's normal form NFC, whatever form the names of the files have.
        """
        path, root = os.fspath(self.path), os.path.join(self.root, "")
        if path.startswith(root) and f"{os.sep}." not in path:  # the usual case; relpath is 10 times slower
            relative = path[len(root) :].replace(os.sep, "/")
        else:
            try:
                relative = Path(os.path.relpath(path, root)).as_posix()
            except ValueError:  # another drive on Windows
                relative = self.path.as_posix()
        relative = normal_form(relative)  # the id of a file is the same on systems that decompose letters
        channel = "" if self.channel is None else f"#channel{self.channel}"
        if not self.start and self.duration is None:
            return f"{relative}{channel}"
        duration = "" if self.duration is None else _format_seconds(self.duration)
        return f"{relative}#{_format_seconds(self.start)}-{duration}{channel}"


def _format_seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Problem:
    """A problem that `Corpus.validate` found.

    Attributes
    ----------
    kind : str
        ``missing``, ``empty``, ``unreadable``, ``duplicate`` or ``single_utterance``.
    subject : str
        Id of the utterance, or name of the speaker.
    message : str
        Description of the problem, with the subject.
    """

    kind: Literal["missing", "empty", "unreadable", "duplicate", "single_utterance"]
    subject: str
    message: str


@dataclass(frozen=True)
class Corpus:
    """An immutable, ordered collection of utterances.

    Attributes
    ----------
    utterances : tuple of Utterance
        Utterances, in the order of the layout's reader; their ids are unique.
    root : Path
        Root folder; the ids are relative to it.
    name : str
        Name of the corpus, a part of the names of the files that are made from it.
    """

    utterances: tuple[Utterance, ...]
    root: Path
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "utterances", tuple(self.utterances))
        missing = {name for name in {utterance.speaker for utterance in self.utterances} if is_missing(name)}
        if missing:
            unnamed = [utterance.id for utterance in self.utterances if is_missing(utterance.speaker)]
            raise CorpusError(
                f"{self.root}: the speaker {next(iter(missing))!r} stands for a missing name; it is the speaker of "
                f"{listing(unnamed)}. Give these recordings a speaker, or leave them out."
            )
        if not is_file_name(self.name):
            raise CorpusError(f"The corpus {self.name!r} cannot be used in a file name; give another name.")
        for utterance_id, count in Counter(self.ids).most_common(1):
            if count > 1:
                same = [utterance for utterance in self.utterances if utterance.id == utterance_id]
                listed = f"the utterance {utterance_id} is listed {count} times; list it once."
                raise CorpusError(f"{self.root}: {_describe_forms(same) or listed}")

    def __len__(self) -> int:
        return len(self.utterances)

    def __repr__(self) -> str:
        return short_repr(self, self._summary())

    def _repr_html_(self) -> str:
        """Return the numbers of utterances and sessions of the first speakers, and the first utterances."""
        counts = Counter(utterance.speaker for utterance in self.utterances)
        sessions = Counter(speaker for speaker, _ in {(each.speaker, each.session) for each in self.utterances})
        first = self.speakers[:SHOWN_SPEAKERS]
        speakers = html_table(
            ["speaker", "utterances", "sessions"],
            [[speaker, str(counts[speaker]), str(sessions[speaker])] for speaker in first],
            "<>>",
            title=f"Corpus {self._summary()}",
            notes=note_of_rest(len(first), len(self.speakers), "speaker"),
        )
        listed = self.utterances[:SHOWN_UTTERANCES]
        utterances = html_table(
            ["id", "speaker", "session"],
            [[each.id, each.speaker, each.session] for each in listed],
            "<<<",
            notes=note_of_rest(len(listed), len(self), "utterance"),
        )
        return speakers + utterances

    def _summary(self) -> str:
        n_sessions = len({utterance.session for utterance in self.utterances})
        counts = f"{count_of(len(self), 'utterance')} of {count_of(len(self.speakers), 'speaker')}"
        return f"{self.name}: {counts} in {count_of(n_sessions, 'session')}, in {self.root}"

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    def with_channel(self, channel: int | None) -> "Corpus":
        """Return the corpus with another channel of its recordings; utterances that have a channel keep it.

        Parameters
        ----------
        channel : int or None
            Number of the channel, from 0; None changes nothing.

        Raises
        ------
        CorpusError
            An utterance is listed with this channel, and without a channel too.
        """
        if channel is None:
            return self
        kept = {each.id for each in self.utterances if each.channel is not None}
        if kept:
            subject = f"{count_of(len(kept), 'utterance')} {'keeps' if len(kept) == 1 else 'keep'}"
            logger.info("%s: %s the channel that the manifest gives", self.root, subject)
        given = [each if each.channel is not None else replace(each, channel=channel) for each in self.utterances]
        for before, after in zip(self.utterances, given, strict=True):
            if before is not after and after.id in kept:
                raise CorpusError(
                    f"{self.root}: {before.id} is listed without a channel, and with channel {channel}; with --channel "
                    f"{channel}, both are {after.id}. Leave out --channel, or change one of the two lines."
                )
        return replace(self, utterances=tuple(given))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Ids of the utterances, in the same order."""
        return tuple(utterance.id for utterance in self.utterances)

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers, sorted."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    def validate(self) -> tuple[Problem, ...]:
        """Decode all utterances and return the problems that are found.

        Returns
        -------
        tuple of Problem
            Files that are missing, empty or unreadable; utterances of different speakers with the same samples, also
            in different containers; speakers with one utterance, which is enough for training but not for testing.
        """
        problems = []
        owners: dict[bytes, list[Utterance]] = defaultdict(list)
        with ThreadPoolExecutor() as pool:  # decoding and hashing release the interpreter lock
            for utterance, checked in zip(self.utterances, pool.map(_content, self.utterances), strict=True):
                if isinstance(checked, AudioError):
                    kind = checked.fault if checked.fault in ("missing", "empty") else "unreadable"
                    problems.append(Problem(kind, utterance.id, f"{utterance.id}: {checked.reason}"))
                else:
                    owners[checked].append(utterance)
        problems += [problem for same in owners.values() if (problem := _duplicate(same))]
        for speaker, count in Counter(utterance.speaker for utterance in self.utterances).items():
            if count == 1:
                message = f"Speaker {speaker} has one utterance, which is enough for training but not for testing."
                problems.append(Problem("single_utterance", speaker, message))
        return tuple(problems)


def _describe_forms(same: Sequence[Utterance]) -> str | None:
    """Return that utterances with one id are in files whose names look the same, or None if they are in one file."""
    first, second = same[0].path, next((each.path for each in same if each.path != same[0].path), same[0].path)
    if first == second or normal_form(str(first)) != normal_form(str(second)):
        return None
    one, other = next(names for names in zip(first.parts, second.parts, strict=True) if names[0] != names[1])
    return (
        f"the names {one!a} and {other!a} look the same, but are written in two Unicode forms (NFC and NFD), and both "
        f"have the utterance {same[0].id}. Rename one of them so that they look different."
    )


def _content(utterance: Utterance) -> bytes | AudioError:
    """Return a digest of the decoded samples, which is the same for WAV and FLAC, or the error."""
    try:
        waveform = read_audio(
            utterance.path, None, utterance.start, duration=utterance.duration, channel=utterance.channel
        )
    except AudioError as error:
        return error
    return hashlib.sha256(waveform.numpy().tobytes()).digest()


def _duplicate(same: list[Utterance]) -> Problem | None:
    if len({utterance.speaker for utterance in same}) < 2:
        return None
    listing = ", ".join(f"{utterance.id} (speaker {utterance.speaker})" for utterance in same)
    return Problem("duplicate", same[0].id, f"The same audio is listed for several speakers: {listing}.")
