"""Find who speaks when in a long recording, with a sliding window."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio import AudioError, SpeechDetector, SpeechSettings, span_seconds, window_starts
from corpora import Span, Utterance
from encoders import Encoder, LazyEncoder
from files import PathLike, track
from verification.evidence import MAX_CANDIDATES, Evidence
from verification.smoothing import NOBODY, absorb_short_turns, most_probable_path, runs_of
from verification.store import SpeakerStore
from verification.store_file import StoreError
from verification.turns import Turn
from verification.verifier import MIN_SECONDS

logger = logging.getLogger(__name__)

# With smoothing, turns are found with a threshold that is this much lower (log-likelihood ratio), and each turn is then
# identified with the threshold itself.
LENIENCE = 4.0
# Pauses in speech up to this length (seconds) do not end a turn.
MAX_PAUSE = 0.5


class _Window(NamedTuple):
    """A window that is embedded, and the part of the recording that its decision is for (seconds)."""

    start: float
    length: float
    first: float
    end: float


@dataclass(frozen=True, eq=False)
class WindowScores:
    """Scores of the n windows of a recording in order of time.

    Attributes
    ----------
    evidence : Evidence
    spans : ndarray (n, 2)
        float64, start and end of the part of the recording that the decision about a window is for (seconds).
    vectors : Tensor (n, D)
        Embeddings of the windows.
    """

    evidence: Evidence
    spans: NDArray[np.float64]
    vectors: Tensor

    def choices(self, switch_cost: float, min_turn: float) -> NDArray[np.int64]:
        """Choose a speaker for each window, as an index into the names of the evidence, or `NOBODY`; return (n,).

        With a cost, the choices only divide the recording into turns, so they are lenient: the threshold is lower by
        `LENIENCE`.
        """
        if not switch_cost:
            return absorb_short_turns(self.evidence.best(), self.spans, min_turn)
        # A change of the speaker costs nothing where speech begins after a pause.
        stretches = runs_of(np.zeros(len(self.spans), np.int64), self.spans)
        rows = self.evidence.rows(LENIENCE)
        paths = [most_probable_path(islice(rows, last + 1 - first), switch_cost) for first, last in stretches]
        return absorb_short_turns(np.concatenate(paths), self.spans, min_turn)

    def turns(self, choices: NDArray[np.int64]) -> list[Turn]:
        """Return the turns of chosen speakers."""
        names, probabilities = self.evidence.names, self.evidence.probabilities_of(choices)
        return [
            Turn(
                start=float(self.spans[first, 0]),
                end=float(self.spans[last, 1]),
                speaker=names[choices[first]],
                probability=float(probabilities[first : last + 1].mean()),
            )
            for first, last in runs_of(choices, self.spans)
            if choices[first] != NOBODY
        ]


def find_turns(
    store: SpeakerStore,
    path: PathLike,
    encoder: Encoder | LazyEncoder,
    *,
    window: float = 2.0,
    hop: float = 0.5,
    p_known: float = 0.5,
    channel: int | None = None,
    speech: Sequence[Span] | None = None,
    switch_cost: float = 0.0,
    min_turn: float = 0.0,
    progress: bool = False,
) -> list[Turn]:
    """Identify the speaker of each window of a recording, and join adjacent windows of the same speaker into turns.

    The boundary between two adjacent windows is halfway between their centres. Windows of digital silence belong
    to no turn. With speech detection, windows and turns are within the speech; without it, any other sound counts as
    a voice.

    Parameters
    ----------
    store : SpeakerStore
    path : path-like
        Audio file.
    encoder : Encoder or LazyEncoder
        Encoder of the store.
    window, hop : float
        Length of a window, and distance between the starts of two windows (seconds).
    p_known : float
        Prior probability that the speaker of a window is enrolled.
    channel : int, optional
        Number of the channel of the recording, from 0; None is the mean of all.
    speech : sequence of (float, float), optional
        Start and end (seconds) of the speech in the recording, in which pauses of up to `MAX_PAUSE` do not end a turn.
        By default, it is what the encoder's speech detection finds, or all of the recording if it has none.
    switch_cost : float
        Log-likelihood ratio that a change of the speaker must gain (`most_probable_path`), except after a pause. Each
        turn is then identified by the mean vector of its windows (`identify_turns`). With 0, each window is decided
        alone.
    min_turn : float
        Minimum length of a turn (seconds; `absorb_short_turns`).
    progress : bool
        Whether to show the progress, as `files.track` does.

    Returns
    -------
    list of Turn
        Turns in order of time; none if there is no speech.

    Raises
    ------
    StoreError
        The file or a part of it cannot be read or is too short, no speaker is enrolled, or `window` is too short or is
        longer than the crop of the verifier or the clip length of the encoder.
    VerifierError
        The encoder is not that of the store.
    """
    scores = score_windows(
        store,
        path,
        encoder,
        window=window,
        hop=hop,
        p_known=p_known,
        channel=channel,
        speech=speech,
        progress=progress,
    )
    if scores is None:
        return []
    choices = scores.choices(switch_cost, min_turn)
    if not switch_cost:
        return scores.turns(choices)
    return identify_turns(store, scores, choices, p_known=p_known)


def score_windows(
    store: SpeakerStore,
    path: PathLike,
    encoder: Encoder | LazyEncoder,
    *,
    window: float = 2.0,
    hop: float = 0.5,
    p_known: float = 0.5,
    channel: int | None = None,
    speech: Sequence[Span] | None = None,
    progress: bool = False,
) -> WindowScores | None:
    """Score the windows of a recording against the enrolled speakers, for `find_turns`; None if there is no speech."""
    path = Path(path)
    store.check_not_empty()
    _check_windows(store, encoder, window, hop=hop)
    try:
        seconds = span_seconds(path, channel=channel)
    except AudioError as error:
        raise StoreError(str(error)) from error
    detection = encoder.spec.get("speech_detection")
    if detection is not None:
        if speech is None:
            detector, limit = SpeechDetector(SpeechSettings.from_spec(detection)), encoder.spec.get("max_bandwidth")
            try:
                speech = detector.find_in_file(path, max_bandwidth=limit, channel=channel)
            except AudioError as error:
                if error.fault != "silent":
                    raise StoreError(str(error)) from error
                logger.warning("%s", error)  # perhaps there are channels that cancel each other
                return None
        encoder = _without_detection(encoder)
    spans = [(0.0, seconds)] if speech is None else _without_pauses(speech, seconds)
    placed = [each for span in spans for each in _windows(span, window, hop, recording=(encoder.sample_rate, seconds))]
    if not placed:
        return None
    windows = [
        Utterance(path, speaker="", session="", start=each.start, duration=each.length, channel=channel)
        for each in placed
    ]
    embedded = store.verifier.embed(windows, encoder)
    rows = list(track(embedded, "Embedding", len(windows), unit="window", visible=progress))
    faults = [row for row in rows if row.vector is None and row.fault != "silent"]
    if faults or all(row.vector is None for row in rows):
        first = (faults or rows)[0]
        raise StoreError(
            f"{path}: the window that starts at {first.utterance.start:.2f} s cannot be used: {first.error}"
        )
    vectors = [row.vector for row in rows if row.vector is not None]
    lengths = torch.tensor([row.seconds for row in rows if row.vector is not None])
    found = store.candidates(torch.stack(vectors), lengths, top_k=MAX_CANDIDATES, p_known=p_known)
    parts = np.array([each[2:] for each, row in zip(placed, rows, strict=True) if row.vector is not None])
    return WindowScores(Evidence.of(found), spans=parts, vectors=torch.stack(vectors))


def identify_turns(
    store: SpeakerStore, scores: WindowScores, choices: NDArray[np.int64], *, p_known: float = 0.5
) -> list[Turn]:
    """Return turns whose boundaries are given by choices (n,), each identified by the mean vector of its windows.

    A turn is longer than a window, so the decision whether its speaker is enrolled is more certain. Adjacent turns of
    the same speaker are joined.
    """
    runs = [(first, last) for first, last in runs_of(choices, scores.spans) if choices[first] != NOBODY]
    if not runs:
        return []
    times = np.array([(scores.spans[first, 0], scores.spans[last, 1]) for first, last in runs])
    vectors = torch.stack([scores.vectors[first : last + 1].mean(0) for first, last in runs])
    lengths = torch.from_numpy(times[:, 1] - times[:, 0]).float()
    found = store.candidates(vectors, lengths, top_k=MAX_CANDIDATES, p_known=p_known)
    evidence = Evidence.of(found)
    decided = evidence.best()
    probabilities = evidence.probabilities_of(decided)
    turns = []
    for first, last in runs_of(decided, times):
        own, speaker = times[first : last + 1], evidence.names[decided[first]]
        mean = np.average(probabilities[first : last + 1], weights=own[:, 1] - own[:, 0])
        turns.append(Turn(start=float(own[0, 0]), end=float(own[-1, 1]), speaker=speaker, probability=float(mean)))
    return turns


def _without_detection(encoder: Encoder | LazyEncoder) -> LazyEncoder:
    """Return the encoder as one that leaves out no pauses: in a window alone, speech is not detected reliably."""
    spec = {key: value for key, value in encoder.spec.items() if key != "speech_detection"}
    if isinstance(encoder, LazyEncoder):
        return LazyEncoder(spec, encoder.max_duration, lambda: encoder.encoder)
    return LazyEncoder(spec, encoder.max_duration, lambda: encoder)


def _check_windows(store: SpeakerStore, encoder: Encoder | LazyEncoder, window: float, *, hop: float) -> None:
    """Raise `StoreError` if windows of this length cannot be embedded, or do not cover the recording."""
    limits = {"encoder": encoder.spec.get("clip_seconds"), "verifier": store.verifier.crop}
    longest, owner = min(((length, owner) for owner, length in limits.items() if length), default=(window, ""))
    if window > longest:
        raise StoreError(
            f"--window is {window:g} s, but the {owner} uses at most {longest:g} s of audio; give --window {longest:g} "
            "or less."
        )
    if window < MIN_SECONDS or not 0 < hop <= window:
        raise StoreError(
            f"The windows are {window:g} s long and {hop:g} s apart; expected a length of at least {MIN_SECONDS:g} s, "
            "and a hop above 0 and at most as long as the window."
        )


def _without_pauses(speech: Sequence[Span], seconds: float) -> list[Span]:
    """Return spans of speech, joined where the pause between them is short, and cut at the end of the recording."""
    joined: list[Span] = []
    for start, end in sorted(speech):
        if start >= seconds:
            break
        if joined and start - joined[-1][1] <= MAX_PAUSE:
            start = joined.pop()[0]
        joined.append((start, min(end, seconds)))
    return joined


def _windows(span: Span, window: float, hop: float, *, recording: tuple[int, float]) -> list[_Window]:
    """Return the windows of a span of a recording of this rate (Hz) and length (s), and the part of the span of each.

    A window in a span shorter than `MIN_SECONDS` begins before it and ends after it.
    """
    rate, seconds = recording
    start, end = span
    length = min(max(window, MIN_SECONDS), max(end - start, min(MIN_SECONDS, seconds)))
    if end - start < length:
        begin = min(max((start + end - length) / 2, 0.0), seconds - length)
        return [_Window(begin, length, first=start, end=end)]
    n_samples = round((end - start) * rate)
    starts = start + np.array(window_starts(n_samples, round(window * rate), max(round(hop * rate), 1))) / rate
    edges = np.concatenate([[start], (starts[1:] + starts[:-1] + length) / 2, [end]])
    return [_Window(*each) for each in zip(starts.tolist(), [length] * len(starts), edges[:-1], edges[1:], strict=True)]
