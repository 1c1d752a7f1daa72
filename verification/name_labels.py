"""Name the speakers of a diarisation: each of its labels gets an enrolled speaker, or is unknown."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from corpora import RttmSegment, Span, Utterance, spans_alone, union_of
from encoders import RELIABLE_SECONDS, Encoder, LazyEncoder, without_length_warning
from files import PathLike, format_percent, format_table, listing, track
from heads import UNKNOWN
from verification.evidence import MAX_CANDIDATES, Evidence
from verification.store import SpeakerStore
from verification.store_file import StoreError
from verification.turns import Turn
from verification.verifier import MIN_SECONDS

logger = logging.getLogger(__name__)

# Parts of segments with other speakers are used too if a label speaks alone for less than this (seconds).
ENOUGH_ALONE = 3.0
# Segments are embedded in pieces of at most this length (seconds).
MAX_PIECE = 10.0


@dataclass(frozen=True, kw_only=True)
class NamedLabel:
    """A label of a diarisation, and the enrolled speaker whose voice it is.

    Attributes
    ----------
    label : str
    speaker : str
        Name of an enrolled speaker, or `UNKNOWN`.
    probability : float
        Probability of the speaker; NaN if no segment can be used.
    similar : str
        Name of the most similar enrolled speaker, who may have another label; empty if no segment can be used.
    score : float
        Log-likelihood ratio of the speaker, for `UNKNOWN` of the most similar one; NaN if no segment can be used.
    threshold : float
        Score below which a speaker is unknown.
    seconds : float
        Length of the audio that was used (seconds).
    is_alone : bool
        Whether only parts in which no other label speaks were used.
    """

    label: str
    speaker: str
    probability: float = math.nan
    similar: str = ""
    score: float = math.nan
    threshold: float = math.nan
    seconds: float = 0.0
    is_alone: bool = True


def name_labels(
    store: SpeakerStore,
    path: PathLike,
    encoder: Encoder | LazyEncoder,
    *,
    segments: Sequence[RttmSegment],
    p_known: float = 0.5,
    allow_repeats: bool = False,
    channel: int | None = None,
    progress: bool = False,
) -> list[NamedLabel]:
    """Identify the speaker of each label of a diarisation, by the mean embedding of its segments.

    Parts in which several labels speak are used only for labels that speak alone for less than `ENOUGH_ALONE`. Labels
    without a part of at least 0.5 s are unknown.

    Parameters
    ----------
    store : SpeakerStore
    path : path-like
        Audio file.
    encoder : Encoder or LazyEncoder
        Encoder of the store.
    segments : sequence of RttmSegment
        Segments of this recording; their speakers are the labels.
    p_known : float
        Prior probability that the speaker of a label is enrolled.
    allow_repeats : bool
        Whether several labels may be of the same speaker. Otherwise, the speakers are assigned so that the sum of the
        scores above the threshold is highest.
    channel : int, optional
        Number of the channel of the recording, from 0; None is the mean of all.
    progress : bool
        Whether to show the progress, as `files.track` does.

    Returns
    -------
    list of NamedLabel
        Labels in the order of their first segments.

    Raises
    ------
    StoreError
        A part of the file cannot be read, no segment can be used, or no speaker is enrolled.
    VerifierError
        The encoder is not that of the store.
    """
    path = Path(path)
    store.check_not_empty()
    limits = (MAX_PIECE, encoder.spec.get("clip_seconds"), store.verifier.crop)
    longest = min(limit for limit in limits if limit)
    parts = _parts_of_labels(segments)
    pieces = [
        Utterance(path, label, session="", start=round(start, 6), duration=round(length, 6), channel=channel)
        for label, (spans, _) in parts.items()
        for start, length in _cut(spans, longest)
    ]
    sums: dict[str, Tensor] = {}
    seconds = dict.fromkeys(parts, 0.0)
    embedded = store.verifier.embed(pieces, without_length_warning(encoder))
    for row in track(embedded, "Embedding", len(pieces), unit="segment", visible=progress):
        label = row.utterance.speaker
        if row.vector is None:
            if row.fault in ("silent", "no_speech", "too_short"):
                continue
            raise StoreError(f"{path}: the part that starts at {row.utterance.start:.2f} s cannot be used: {row.error}")
        sums[label] = sums.get(label, torch.zeros_like(row.vector)) + row.seconds * row.vector
        seconds[label] += row.seconds
    if not sums:
        raise StoreError(f"{path}: no segment has {MIN_SECONDS:g} s of sound. Give longer segments.")
    short = [label for label in sums if seconds[label] < RELIABLE_SECONDS]
    if short:
        logger.warning("%s: labels with less than %g s of audio, whose names are much less reliable: %s", path,
                       RELIABLE_SECONDS, listing(short))  # fmt: skip
    lengths = torch.tensor([seconds[label] for label in sums])
    vectors = torch.stack(list(sums.values())) / lengths[:, None]
    found = store.candidates(vectors, lengths, top_k=max(len(sums), MAX_CANDIDATES), p_known=p_known)
    evidence = Evidence.of(found)
    names, table = evidence.names, np.stack(list(evidence.rows()))
    choices = evidence.best() if allow_repeats else _assign(table)
    probabilities = evidence.probabilities_of(choices)
    named = {}
    for place, (label, choice) in enumerate(zip(sums, choices.tolist(), strict=True)):
        similar = int(evidence.numbers[place, 0])
        score = table[place, similar if names[choice] == UNKNOWN else choice] + evidence.threshold
        named[label] = NamedLabel(
            label=label,
            speaker=names[choice],
            probability=float(probabilities[place]),
            similar=names[similar],
            score=float(score),
            threshold=evidence.threshold,
            seconds=seconds[label],
            is_alone=parts[label][1],
        )
    return [named.get(label) or NamedLabel(label=label, speaker=UNKNOWN) for label in parts]


def turns_of_labels(segments: Sequence[RttmSegment], labels: Sequence[NamedLabel]) -> list[Turn]:
    """Return the segments of a diarisation as turns of the speakers of their labels."""
    named = {each.label: each for each in labels}
    return [
        Turn(
            start=each.start,
            end=each.end,
            speaker=named[each.speaker].speaker,
            probability=named[each.speaker].probability,
            label=each.speaker,
        )
        for each in segments
    ]


def labels_table(labels: Sequence[NamedLabel]) -> str:
    """Format a table of labels."""
    lines = [
        [
            each.label,
            each.speaker,
            format_percent(each.probability),
            each.similar or "-",
            *("-" if math.isnan(number) else f"{number:.2f}" for number in (each.score, each.threshold)),
            f"{each.seconds:.1f}" + ("" if each.is_alone else " (with other speakers)"),
        ]
        for each in labels
    ]
    return format_table(
        ["label", "speaker", "percent", "most similar", "score", "threshold", "seconds used"], lines, "<<><>><"
    )


def repeats_of(labels: Sequence[NamedLabel]) -> list[str]:
    """Return a sentence for each label that is unknown only because another label has its speaker."""
    owners = {each.speaker: each.label for each in labels if each.speaker != UNKNOWN}
    return [
        f"{each.label} is most similar to {each.similar}, who has the label {owners[each.similar]}; give "
        "--allow_repeats if both are one person."
        for each in labels
        if each.speaker == UNKNOWN and each.score >= each.threshold and each.similar in owners
    ]


def _parts_of_labels(segments: Sequence[RttmSegment]) -> dict[str, tuple[list[Span], bool]]:
    """Return the parts of the segments of each label that are used, and whether the label speaks alone in them."""
    spans = [(each.speaker, (each.start, each.end)) for each in segments]
    parts = {}
    for label, alone in spans_alone(spans).items():
        long_enough = [span for span in alone if span[1] - span[0] >= MIN_SECONDS]
        is_alone = sum(end - start for start, end in long_enough) >= ENOUGH_ALONE
        if not is_alone:
            whole = union_of(span for speaker, span in spans if speaker == label)
            whole = [span for span in whole if span[1] - span[0] >= MIN_SECONDS]
            is_alone = whole == long_enough
            long_enough = whole
        parts[label] = long_enough, is_alone
    return parts


def _cut(spans: Sequence[Span], longest: float) -> list[Span]:
    """Return pieces (start, length) of spans that are at most this long (seconds); those of a span are equally long."""
    pieces = []
    for start, end in spans:
        count = math.ceil((end - start) / longest)
        length = (end - start) / count
        pieces += [(start + number * length, length) for number in range(count)]
    return pieces


def _assign(evidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Assign different speakers to labels, so that the sum of the evidence (n, k) is highest; return (n,) numbers.

    Any number of labels can be of the last speaker, who is unknown.
    """
    unknown = evidence.shape[1] - 1
    _, columns = linear_sum_assignment(
        np.hstack([evidence[:, :-1], np.zeros((len(evidence), len(evidence)))]), maximize=True
    )
    return np.asarray(np.minimum(columns, unknown), np.int64)
