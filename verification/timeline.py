"""Who speaks when in a long recording, among those who are enrolled."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from audio import AudioError, span_seconds, window_starts
from corpora import Utterance
from encoders import Encoder, LazyEncoder
from heads import UNKNOWN
from verification.store import SpeakerStore
from verification.store_file import StoreError
from verification.verifier import SHORTEST


@dataclass(frozen=True)
class Turn:
    """A stretch of a recording in which one speaker is heard.

    Attributes
    ----------
    start, end : float
        Seconds.
    speaker : str
        An enrolled one, or `UNKNOWN`.
    probability : float
        Of that speaker, mean over the windows.
    """

    start: float
    end: float
    speaker: str
    probability: float


def find_turns(
    store: SpeakerStore,
    path: Path,
    encoder: Encoder | LazyEncoder,
    window: float = 2.0,
    hop: float = 0.5,
    p_known: float = 0.5,
    progress: bool = False,
) -> list[Turn]:
    """Slide windows over a recording, and name the speaker of each.

    Where one window ends and the next begins is halfway between their middles. Windows that are all zero are silence,
    and no one's turn; any other sound is judged as a voice is.

    Parameters
    ----------
    store : SpeakerStore
    path : Path
        Audio file.
    encoder : Encoder or LazyEncoder
        Of the store.
    window, hop : float
        Length of a window, and from one to the next (seconds).
    p_known : float
        How probable it is, before anything is heard, that an enrolled speaker speaks.
    progress : bool
        Show a progress bar, on a terminal.

    Raises
    ------
    StoreError
        The file, or a part of it, cannot be read or is too short, nobody is enrolled, or the windows make no sense:
        an encoder that hears no more than a crop or a clip cannot hear a longer window.
    """
    store.check_not_empty()
    heard_of_each = [length for length in (store.verifier.crop, encoder.spec.get("clip_seconds")) if length is not None]
    if window > min(heard_of_each, default=window):
        raise StoreError(
            f"The windows are {window:g} s long, of which {min(heard_of_each):g} s would be heard; give --window "
            f"{min(heard_of_each):g} or less."
        )
    if window < SHORTEST or not 0 < hop <= window:
        raise StoreError(
            f"The windows are {window:g} s long and {hop:g} s apart; expected {SHORTEST:g} s or more, and a distance "
            "above 0 and up to their length."
        )
    try:
        seconds = span_seconds(path, 0.0, None)
    except AudioError as error:
        raise StoreError(str(error)) from error
    rate = encoder.sample_rate
    starts = np.array(window_starts(round(seconds * rate), round(window * rate), max(round(hop * rate), 1))) / rate
    length = min(window, seconds)
    windows = [Utterance(path, speaker="", session="", start=start, duration=length) for start in starts.tolist()]
    rows = store.verifier.listen(windows, encoder)
    heard = list(tqdm(rows, "Listening", len(windows), unit="window", disable=None if progress else True))
    faults = [row for row in heard if row.vector is None and row.fault != "silent"]
    if faults or all(row.vector is None for row in heard):
        first = (faults or heard)[0]
        raise StoreError(f"{path}: from {first.utterance.start:.2f} s on: {first.error}")
    edges = np.concatenate([[0.0], (starts[1:] + starts[:-1] + length) / 2, [seconds]]).tolist()
    judged = store.identify(heard, 1, p_known)
    named = [
        (start, end, found.speakers[0], found.probabilities[0])
        for start, end, found in zip(edges, edges[1:], judged, strict=False)
        if found.error is None
    ]
    return _join(named)


def _join(named: Sequence[tuple[float, float, str, float]]) -> list[Turn]:
    """Join neighbours of one speaker."""
    groups: list[list[tuple[float, float, str, float]]] = []
    for part in named:
        if groups and groups[-1][-1][1:3] == (part[0], part[2]):
            groups[-1].append(part)
        else:
            groups.append([part])
    return [
        Turn(group[0][0], group[-1][1], group[0][2], float(np.mean([share for *_, share in group]))) for group in groups
    ]


def to_rttm(turns: Sequence[Turn], path: Path) -> str:
    """Write the turns of enrolled speakers in NIST's Rich Transcription Time Marked form.

    A space within a name, which would divide it there, becomes an underscore.
    """
    lines = [
        f"SPEAKER {_word(path.stem)} 1 {turn.start:.3f} {turn.end - turn.start:.3f} <NA> <NA> {_word(turn.speaker)} "
        "<NA> <NA>\n"
        for turn in turns
        if turn.speaker != UNKNOWN
    ]
    return "".join(lines)


def _word(name: str) -> str:
    return "_".join(name.split()) or "_"
