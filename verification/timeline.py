"""Find who speaks when in a long recording, with a sliding window."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from audio import AudioError, span_seconds, window_starts
from corpora import Utterance
from encoders import Encoder, LazyEncoder
from files import PathLike, track
from heads import UNKNOWN
from verification.store import SpeakerStore
from verification.store_file import StoreError
from verification.verifier import MIN_SECONDS


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A segment of a recording in which one speaker speaks.

    Attributes
    ----------
    start, end : float
        Start and end (seconds).
    speaker : str
        Name of an enrolled speaker, or `UNKNOWN`.
    probability : float
        Mean probability of the speaker over the windows of the turn.
    """

    start: float
    end: float
    speaker: str
    probability: float


def find_turns(
    store: SpeakerStore,
    path: PathLike,
    encoder: Encoder | LazyEncoder,
    *,
    window: float = 2.0,
    hop: float = 0.5,
    p_known: float = 0.5,
    channel: int | None = None,
    progress: bool = False,
) -> list[Turn]:
    """Identify the speaker of each window of a recording, and join adjacent windows of the same speaker into turns.

    The boundary between two adjacent windows is halfway between their centres. Windows of digital silence belong
    to no turn. Any other sound is treated as a voice.

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
    progress : bool
        Whether to show the progress, as `files.track` does.

    Raises
    ------
    StoreError
        The file or a part of it cannot be read or is too short, no speaker is enrolled, or `window` is too short or is
        longer than the crop of the verifier or the clip length of the encoder.
    VerifierError
        The encoder is not that of the store.
    """
    path = Path(path)
    store.check_not_empty()
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
    try:
        seconds = span_seconds(path, 0.0, None, channel=channel)
    except AudioError as error:
        raise StoreError(str(error)) from error
    rate = encoder.sample_rate
    starts = np.array(window_starts(round(seconds * rate), round(window * rate), max(round(hop * rate), 1))) / rate
    length = min(window, seconds)
    windows = [
        Utterance(path, speaker="", session="", start=start, duration=length, channel=channel)
        for start in starts.tolist()
    ]
    embedded = store.verifier.embed(windows, encoder)
    rows = list(track(embedded, "Embedding", len(windows), unit="window", visible=progress))
    faults = [row for row in rows if row.vector is None and row.fault not in ("silent", "no_speech")]
    if faults or all(row.vector is None for row in rows):
        first = (faults or rows)[0]
        raise StoreError(
            f"{path}: the window that starts at {first.utterance.start:.2f} s cannot be used: {first.error}"
        )
    edges = np.concatenate([[0.0], (starts[1:] + starts[:-1] + length) / 2, [seconds]]).tolist()
    predictions = store.identify(rows, 1, p_known)
    return _join(
        Turn(start=start, end=end, speaker=prediction.speakers[0], probability=prediction.probabilities[0])
        for (start, end), prediction in zip(pairwise(edges), predictions, strict=True)
        if prediction.error is None
    )


def _join(windows: Iterable[Turn]) -> list[Turn]:
    """Join adjacent windows of the same speaker into turns."""
    groups: list[list[Turn]] = []
    for window in windows:
        last = groups[-1][-1] if groups else None
        if last is not None and (last.end, last.speaker) == (window.start, window.speaker):
            groups[-1].append(window)
        else:
            groups.append([window])
    return [
        Turn(
            start=group[0].start,
            end=group[-1].end,
            speaker=group[0].speaker,
            probability=float(np.mean([turn.probability for turn in group])),
        )
        for group in groups
    ]


def to_rttm(turns: Sequence[Turn], path: PathLike, channel: int | None = None) -> str:
    """Return the turns of enrolled speakers in NIST's Rich Transcription Time Marked (RTTM) format.

    This format separates fields by spaces, so spaces in names are replaced by underscores. It counts channels from 1,
    which here also stands for the mean of all.
    """
    lines, number = [], 1 + (channel or 0)
    for turn in turns:
        if turn.speaker != UNKNOWN:
            times = f"{turn.start:.3f} {turn.end - turn.start:.3f}"
            lines.append(
                f"SPEAKER {_field(Path(path).stem)} {number} {times} <NA> <NA> {_field(turn.speaker)} <NA> <NA>\n"
            )
    return "".join(lines)


def _field(name: str) -> str:
    """Return a name without spaces, for one field of a line."""
    return "_".join(name.split()) or "_"
