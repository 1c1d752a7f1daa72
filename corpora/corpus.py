"""`Utterance` and `Corpus`: which stretches of which files are spoken by whom."""

import hashlib
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from audio import AudioError, InputError, read_audio


class CorpusError(InputError):
    """A corpus cannot be read, or holds too little for what was asked."""


@dataclass(frozen=True)
class Utterance:
    """One stretch of one speaker in one file.

    Attributes
    ----------
    path : Path
        The file.
    speaker : str
        Who speaks.
    session : str
        What a leak would share: a chapter, a meeting, a day of recording. Without any, the speaker's name.
    start : float
        Where the stretch begins (seconds).
    duration : float or None
        Its length (seconds); None is to the end of the file.
    root : Path
        The corpus's root, which `id` is relative to.
    """

    path: Path
    speaker: str
    session: str
    start: float = 0.0
    duration: float | None = None
    root: Path = field(default=Path(), kw_only=True, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.start < math.inf or not (self.duration is None or 0 < self.duration < math.inf):
            raise CorpusError(
                f"{self.path}: the span starts at {self.start:g} s and lasts {self.duration} s; expected a start of 0 "
                "or more and a duration above 0."
            )

    @property
    def id(self) -> str:
        """POSIX path relative to the corpus's root, plus ``#start-duration`` for a segment: it survives a move."""
        path, root = os.fspath(self.path), os.path.join(self.root, "")
        if path.startswith(root) and f"{os.sep}." not in path:  # the usual case: relpath is 10 times slower
            relative = path[len(root) :].replace(os.sep, "/")
        else:
            try:
                relative = Path(os.path.relpath(path, root)).as_posix()
            except ValueError:  # another drive of Windows
                relative = self.path.as_posix()
        if not self.start and self.duration is None:
            return relative
        return f"{relative}#{_seconds(self.start)}-{'' if self.duration is None else _seconds(self.duration)}"


def _seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Problem:
    """Something that `Corpus.validate` found.

    Attributes
    ----------
    kind : str
        ``missing``, ``empty``, ``unreadable``, ``duplicate`` or ``single_utterance``.
    subject : str
        The utterance's id, or the speaker.
    message : str
        A sentence that says it whole.
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
        In the order of the layout's reader; ids are unique.
    root : Path
        The folder that the ids are relative to.
    name : str
        Goes into the names of the files made from the corpus.
    """

    utterances: tuple[Utterance, ...]
    root: Path
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "utterances", tuple(self.utterances))
        for utterance_id, count in Counter(self.ids).most_common(1):
            if count > 1:
                raise CorpusError(f"{self.root}: the utterance {utterance_id} is listed {count} times; list it once.")

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Ids of the utterances, in their order."""
        return tuple(utterance.id for utterance in self.utterances)

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers, sorted."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    def validate(self) -> tuple[Problem, ...]:
        """Decode everything and tell what is wrong with it.

        Returns
        -------
        tuple of Problem
            Files that are missing, empty or unreadable; audio that two speakers share, sample by sample and whatever
            the container; speakers with one utterance, who can be trained on but not tested.
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
                message = f"Speaker {speaker} has one utterance: enough to train on, too few to test."
                problems.append(Problem("single_utterance", speaker, message))
        return tuple(problems)


def _content(utterance: Utterance) -> bytes | AudioError:
    """Digest of the decoded samples, so that the same recording in WAV and in FLAC is one."""
    try:
        waveform = read_audio(utterance.path, None, utterance.start, utterance.duration)
    except AudioError as error:
        return error
    return hashlib.sha256(waveform.numpy().tobytes()).digest()


def _duplicate(same: list[Utterance]) -> Problem | None:
    if len({utterance.speaker for utterance in same}) < 2:
        return None
    listing = ", ".join(f"{utterance.id} (speaker {utterance.speaker})" for utterance in same)
    return Problem("duplicate", same[0].id, f"The same audio stands under several speakers: {listing}.")
