"""Compare the two halves of a recording: if they do not agree, there may be two voices in it."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from corpora import Utterance
from encoders import Encoder, LazyEncoder
from verification.store import SpeakerStore

# Start and end of each segment with speech, in order (seconds from the start of the recording).
Segments = Sequence[tuple[float, float]]


def halves_of(utterance: Utterance, speech: Segments) -> tuple[Utterance, Utterance]:
    """Return the two parts of a recording that have half of its speech each, without the pauses around it."""
    remaining = sum(end - begin for begin, end in speech) / 2
    begin, end = speech[0][0], speech[-1][1]
    middle = begin
    for first, last in speech:
        middle = min(first + remaining, last)
        remaining -= last - first
        if remaining <= 0:
            break
    start = utterance.start
    return (
        replace(utterance, start=start + begin, duration=middle - begin),
        replace(utterance, start=start + middle, duration=end - middle),
    )


def compare_halves(
    store: SpeakerStore, halves: Sequence[tuple[Utterance, Utterance]], encoder: Encoder | LazyEncoder
) -> list[float | None]:
    """Return the log-likelihood ratios that the halves of recordings are of one speaker, as a store calibrates them.

    Of a recording with a half that cannot be used, such as one without a signal, None is returned.
    """
    verifier, calibration = store.verifier, store.own_calibration().calibration
    rows = list(verifier.embed([half for both in halves for half in both], encoder))
    ratios = list[float | None]()
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        if first.vector is None or second.vector is None:
            ratios.append(None)
            continue
        mapped = verifier.backend.embed(torch.stack([first.vector, second.vector]).float())
        score = float(verifier.backend.score_pairs(mapped[:1], mapped[1:]))
        ratios.append(float(calibration.pair_llrs(score, first.seconds, second.seconds)))
    return ratios
