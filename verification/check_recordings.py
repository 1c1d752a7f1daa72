"""Check recordings before a speaker is enrolled with them: why one cannot be enrolled, and what is doubtful."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audio import AudioError, SpeechDetector, measure_level, span_seconds
from corpora import Utterance
from embedding import Row
from encoders import Encoder, LazyEncoder
from files import count_of, format_percent, normal_form
from heads import UNKNOWN
from verification.doubtful import THRESHOLD, find_mismatches
from verification.enroll_rows import read_recordings
from verification.enrolment import Recording
from verification.halves import Segments, compare_halves, halves_of
from verification.store import SpeakerStore
from verification.store_file import check_name

# docs/enrolment.md has the shares of recordings with and without these faults that have a warning.

# Length (seconds) below which a recording has too little speech: with 2 s, the equal error rate of campplus is 6.4 %
# where whole recordings have 5.9 %; with 1 s, it is 10.5 %.
MIN_SPEECH = 2.0
# Share of the samples that are in clipped peaks above which a recording is clipped. Of 21 recordings of LibriSpeech
# that were raised to full scale, none had half of it; raised by 6 dB more, nine tenths had more.
MAX_CLIPPED = 5e-4
# Root mean square (dBFS) below which a recording is too quiet. 99 of 100 recordings of LibriSpeech, open_voices and
# speechocean762 are above -39.
MIN_RMS = -50.0
# Log-likelihood ratio below which the halves of a recording are not of one speaker. It is above 0, because the halves
# have the same channel. Recordings with less speech (seconds) are not compared. With 2, 3 and 4 s, 6, 1 and 0 % of 80
# recordings of speechocean762 are below, and 96, 97 and 96 % of those in which another speaker follows at half.
MIN_AGREEMENT, MIN_BOTH_HALVES = 1.0, 3.0


@dataclass(frozen=True, eq=False)
class CheckedRecording:
    """A recording, and what is known against enrolling a speaker with it.

    Attributes
    ----------
    row : Row
    error : str or None
        A sentence that says why it cannot be enrolled; None if it can.
    warnings : tuple of str
        Sentences that say what is doubtful about a recording that can be enrolled.
    """

    row: Row
    error: str | None = None
    warnings: tuple[str, ...] = ()


def check_recordings(
    store: SpeakerStore,
    name: str,
    rows: Sequence[Row],
    *,
    encoder: Encoder | LazyEncoder,
    detector: SpeechDetector | None = None,
) -> list[CheckedRecording]:
    """Check recordings that a speaker is to be enrolled with; nothing is stored.

    Parameters
    ----------
    store : SpeakerStore
    name : str
        Name of the speaker, who may be enrolled already.
    rows : sequence of Row
        Rows of the recordings from `SpeakerVerifier.embed`.
    encoder : Encoder or LazyEncoder
        Encoder of the store, which embeds the halves of recordings.
    detector : SpeechDetector, optional
        Without it, speech is not measured, and all of a recording counts as speech.

    Returns
    -------
    list of CheckedRecording
        One for each row, in their order.

    Raises
    ------
    StoreError
        No speaker can have the name, or the store cannot be read.
    VerifierError
        The encoder is not that of the store.
    """
    check_name(name)
    checked, recordings = _find_errors(store, normal_form(name), rows)
    warnings: dict[int, list[str]] = {number: [] for number in recordings}
    spoken: dict[int, Segments] = {}
    for number in list(recordings):
        try:
            warnings[number] += _check_level(rows[number].utterance)
            spoken[number] = _find_speech(rows[number].utterance, detector)
        except AudioError as error:  # the file has changed since it was embedded
            checked[number] = CheckedRecording(rows[number], error.reason)
            del recordings[number], warnings[number]
    for found in (
        _check_speech(spoken) if detector is not None else {},
        _check_halves(store, {number: rows[number].utterance for number in recordings}, spoken, encoder=encoder),
        _check_others(store, normal_form(name), recordings),
        _check_enrolled(store, normal_form(name), {number: rows[number] for number in recordings}),
    ):
        for number, sentence in found.items():
            warnings[number].append(sentence)
    for number, sentences in warnings.items():
        checked[number] = replace(checked[number], warnings=tuple(sentences))
    return checked


def _find_errors(
    store: SpeakerStore, name: str, rows: Sequence[Row]
) -> tuple[list[CheckedRecording], dict[int, Recording]]:
    """Return the rows with their errors, and the recordings of those without one, by number."""
    checked, readable = [CheckedRecording(row) for row in rows], dict[int, Recording]()
    for number, row in enumerate(rows):
        found, failed = read_recordings([row])
        if failed:
            checked[number] = replace(checked[number], error=failed[0][1])
        else:
            readable[number] = found[0][1]
    known = store.with_known_digests(list(readable.values()))
    first: dict[bytes, int] = {}
    recordings: dict[int, Recording] = {}
    for number, recording, owner in zip(readable, known, store.owners(known), strict=True):
        error = None
        if owner == name:
            error = f"{name} is already enrolled with this recording"
        elif owner:  # a background recording has an empty name
            error = f"this recording is already enrolled as {owner}"
        elif recording.digest in first:
            error = f"it is the same audio as {Path(recordings[first[recording.digest]].path).name}"
        else:
            first[recording.digest] = number
            recordings[number] = recording
        checked[number] = replace(checked[number], error=error)
    return checked, recordings


def _check_level(utterance: Utterance) -> list[str]:
    """Describe what is wrong with the level of a recording."""
    level = measure_level(utterance.path, utterance.start, utterance.duration, channel=utterance.channel)
    sentences = []
    if level.clipped > MAX_CLIPPED:
        share = max(100 * level.clipped, 0.1)
        sentences.append(
            f"it is clipped: {share:.1f} % of it are peaks that were cut off; record it again at a lower level"
        )
    if level.rms < MIN_RMS:
        sentences.append(
            f"it is too quiet: {-level.rms:.0f} dB below full scale, expected at most {-MIN_RMS:.0f}; record it again "
            "closer to the microphone, or at a higher level"
        )
    return sentences


def _find_speech(utterance: Utterance, detector: SpeechDetector | None) -> Segments:
    """Return the segments with speech in a recording; all of it without a detector."""
    path, start, duration, channel = utterance.path, utterance.start, utterance.duration, utterance.channel
    if detector is not None:
        return detector.find_in_file(path, start, duration, channel=channel)
    return [(0.0, span_seconds(path, start, duration, channel=channel, with_counting=True))]


def _seconds(speech: Segments) -> float:
    return sum(end - begin for begin, end in speech)


def _check_speech(spoken: dict[int, Segments]) -> dict[int, str]:
    """Describe, by number, which recordings have too little speech."""
    sentences = {}
    for number, speech in spoken.items():
        if not speech:
            sentences[number] = "no speech was found in it"
        elif (seconds := _seconds(speech)) < MIN_SPEECH:
            sentences[number] = f"it has only {seconds:.1f} s of speech; record at least {MIN_SPEECH:g} s"
    return sentences


def _check_halves(
    store: SpeakerStore,
    utterances: dict[int, Utterance],
    spoken: dict[int, Segments],
    *,
    encoder: Encoder | LazyEncoder,
) -> dict[int, str]:
    """Describe, by number, which recordings may have two voices."""
    compared = [number for number in utterances if _seconds(spoken[number]) >= MIN_BOTH_HALVES]
    halves = [halves_of(utterances[number], spoken[number]) for number in compared]
    ratios = zip(compared, compare_halves(store, halves, encoder), strict=True) if halves else ()
    return {
        number: "its two halves do not sound like one speaker, so there may be two voices in it (score "
        f"{ratio:.2f}, threshold {MIN_AGREEMENT:.2f})"
        for number, ratio in ratios
        if ratio is not None and ratio < MIN_AGREEMENT
    }


def _check_others(store: SpeakerStore, name: str, recordings: dict[int, Recording]) -> dict[int, str]:
    """Describe, by number, which recordings do not match the others of the speaker, as `enroll_rows` does."""
    if not recordings:
        return {}
    is_enrolled = name in {speaker.name for speaker in store.speakers()}
    mismatches = find_mismatches(
        list(recordings.values()),
        store.recordings(name) if is_enrolled else [],
        backend=store.verifier.backend,
        calibration=store.own_calibration().calibration,
    )
    numbers = {recording.path: number for number, recording in recordings.items()}
    kind = f"{'earlier' if is_enrolled else 'other'} recording"
    return {
        numbers[each.path]: f"it does not match the {count_of(len(each.others), kind)} of {name} and may be of another "
        f"person (score {each.score:.2f}, threshold {THRESHOLD:.2f})"
        for each in mismatches
    }


def _check_enrolled(store: SpeakerStore, name: str, rows: dict[int, Row]) -> dict[int, str]:
    """Describe, by number, which recordings `identify` would assign to another enrolled speaker."""
    if not rows or not len(store):
        return {}
    sentences = {}
    for number, prediction in zip(rows, store.identify(list(rows.values()), top_k=1), strict=True):
        [other], [probability] = prediction.speakers, prediction.probabilities
        if other not in (name, UNKNOWN):
            share = format_percent(probability)
            sentences[number] = f"it sounds like {other}, who is enrolled (probability {share} %)"
    return sentences
