"""Enrol speakers with embedded recordings, and return a reason for each recording that is not enrolled."""

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace

from embedding import Row
from features import FeatureSet
from files import InputError
from verification.enrolment import Recording, is_too_short, recording_name, recordings_of
from verification.store import Existing, SpeakerStore
from verification.store_file import StoreError, check_origin, name_problem
from verification.verifier import MIN_SECONDS
from verification.voices import Voices

# Maximum number of skipped recordings that are listed.
SHOWN = 10


@dataclass(frozen=True)
class EnrolmentResult:
    """Recordings that were enrolled, and reasons for the others.

    Attributes
    ----------
    n_added : int
        Number of recordings that were added to the store.
    skipped, failed : tuple of (str, str)
        Recording and reason. Skipped recordings need no action, because the speaker already has them.
    doubtful : tuple of str
        A sentence for each speaker with a recording that does not match the speaker's other recordings. It is enrolled.
    absent : tuple of str
        Speakers without an enrolled recording, because all of their recordings failed.
    """

    n_added: int
    skipped: tuple[tuple[str, str], ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    doubtful: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def reasons(self) -> list[str]:
        """Return a line for each recording that failed, and for the first `SHOWN` that were skipped or are doubtful."""
        lines = [f"failed: {name}: {reason}" for name, reason in self.failed]
        if self.absent:
            lines.append(f"no recording of these speakers could be used: {', '.join(self.absent)}")
        lines += _first_lines("skipped", [f"{name}: {reason}" for name, reason in self.skipped])
        return lines + _first_lines("warning", self.doubtful)


def _first_lines(kind: str, lines: Sequence[str]) -> list[str]:
    """Return the first `SHOWN` lines, and the number of the others."""
    more = [f"{kind}: {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return [f"{kind}: {line}" for line in lines[:SHOWN]] + more


def enroll_rows(store: SpeakerStore, rows: Sequence[Row], existing: Existing = "refuse") -> EnrolmentResult:
    """Enrol the speakers of some utterances; a recording that cannot be used does not stop the others.

    Parameters
    ----------
    store : SpeakerStore
    rows : sequence of Row
        Rows from `SpeakerVerifier.embed`; their utterances have the names of the speakers.
    existing : str
        As in `SpeakerStore.enroll`.

    Raises
    ------
    StoreError
        A speaker is enrolled already, and `existing` is ``refuse``; or all recordings failed.
    """
    recordings, failed = read_recordings(rows)
    result = _enroll(store, recordings, existing, failed=failed)
    absent = {row.utterance.speaker for row in rows} - {speaker for speaker, _ in recordings}
    return replace(result, absent=tuple(sorted(absent)))


def enroll_feature_set(store: SpeakerStore, features: FeatureSet, existing: Existing = "refuse") -> EnrolmentResult:
    """Enrol all speakers of a set of features (N, D); a recording that cannot be used does not stop the others.

    Raises
    ------
    StoreError
        As in `enroll_rows`, or the features were made by another encoder.
    """
    store.check_features(features)
    short = is_too_short(features).numpy()
    reason = f"it is shorter than {MIN_SECONDS:g} s"
    skipped = [(name, reason) for name, is_short in zip(features.ids, short, strict=True) if is_short]
    speakers = recordings_of(features.select(~short))
    recordings = [(speaker, recording) for speaker, each in speakers for recording in each]
    return _enroll(store, recordings, existing, skipped=skipped)


def enroll_voices(
    store: SpeakerStore, voices: Voices, existing: Existing = "refuse", *, source: str = "the exported file"
) -> EnrolmentResult:
    """Enrol all speakers of an exported store; a recording that cannot be used does not stop the others.

    The background recordings are added too, if the verifier of the store is adapted.

    Parameters
    ----------
    store : SpeakerStore
    voices : Voices
    existing : str
        As in `SpeakerStore.enroll`.
    source : str
        Where the voices are from, for error messages.

    Raises
    ------
    StoreError
        As in `enroll_rows`, or the voices were made by another encoder.
    """
    check_origin(store.path, store.verifier, source, encoder=voices.encoder, crop=voices.crop)
    result = _enroll(store, [(name, each) for name, recordings in voices.speakers for each in recordings], existing)
    if voices.background and store.verifier.self_calibration is not None:
        store.add_background(voices.background)
    return result


def _enroll(
    store: SpeakerStore,
    recordings: Sequence[tuple[str, Recording]],
    existing: Existing,
    *,
    skipped: Sequence[tuple[str, str]] = (),
    failed: Sequence[tuple[str, str]] = (),
) -> EnrolmentResult:
    """Enrol speakers with the recordings that can be used; `skipped` and `failed` are recordings that cannot."""
    problems = {speaker: name_problem(speaker) for speaker, _ in recordings}
    failed = [*failed, *((each.path, reason) for speaker, each in recordings if (reason := problems[speaker]))]
    recordings = [(speaker, each) for speaker, each in recordings if not problems[speaker]]
    known = store.with_known_digests([recording for _, recording in recordings])
    recordings = [(speaker, recording) for (speaker, _), recording in zip(recordings, known, strict=True)]
    owners = store.owners(known)
    speakers = {speaker for speaker, _ in recordings}
    for speaker in sorted(speakers) if existing == "refuse" else ():
        store.check_name(speaker, is_enrolled=False)
    # The earlier recordings of a speaker who is replaced do not count. But a speaker without a new recording is not
    # replaced, and then keeps the earlier recordings, which can leave another speaker without a new recording.
    replaced = speakers if existing == "replace" else set()
    assigned = _assign(recordings, owners, replaced)
    while (kept := replaced & assigned.accepted.keys()) != replaced:
        replaced = kept
        assigned = _assign(recordings, owners, replaced)
    failed, skipped = [*failed, *assigned.failed], [*skipped, *assigned.skipped]
    if failed and not assigned.accepted and not skipped:
        raise StoreError(f"{': '.join(failed[0])}. No speaker was enrolled.")
    n_added = store.enroll_speakers(assigned.accepted.items(), existing)
    doubtful = store.find_mismatches(assigned.accepted)
    return EnrolmentResult(n_added, skipped=tuple(skipped), failed=tuple(failed), doubtful=tuple(doubtful.values()))


@dataclass(frozen=True)
class _Assigned:
    """New recordings of each speaker, and reasons for the recordings that are not enrolled."""

    accepted: defaultdict[str, list[Recording]] = field(default_factory=lambda: defaultdict(list))
    skipped: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def _assign(recordings: Sequence[tuple[str, Recording]], owners: Sequence[str | None], replaced: Set[str]) -> _Assigned:
    """Assign each recording to its speaker, unless the recording is enrolled or assigned already.

    `owners` are the speakers that the recordings are enrolled as; those in `replaced` do not count.
    """
    assigned = _Assigned()
    speaker_of: dict[bytes, str] = {}
    for (speaker, recording), owner in zip(recordings, owners, strict=True):
        if not owner or owner in replaced:
            owner = speaker_of.get(recording.digest)
        if owner is None:
            speaker_of[recording.digest] = speaker
            assigned.accepted[speaker].append(recording)
        elif owner == speaker:
            assigned.skipped.append((recording.path, f"{speaker} is already enrolled with this recording"))
        else:
            assigned.failed.append((recording.path, f"this recording of {speaker} is already enrolled as {owner}"))
    return assigned


def read_recordings(rows: Sequence[Row]) -> tuple[list[tuple[str, Recording]], list[tuple[str, str]]]:
    """Return the speakers and recordings of the rows that can be used, and the others with a reason."""
    recordings, failed = [], []
    for row in rows:
        name = recording_name(row.utterance)
        if row.vector is None:
            failed.append((name, str(row.error)))
            continue
        try:
            recordings.append((row.utterance.speaker, Recording.of(row)))
        except InputError as error:  # the file was removed after it was embedded
            failed.append((name, str(error)))
    return recordings, failed


def add_background_rows(store: SpeakerStore, rows: Sequence[Row]) -> EnrolmentResult:
    """Add background recordings, as `SpeakerStore.add_background` does.

    Raises
    ------
    StoreError
        As in `SpeakerStore.add_background`.
    """
    recordings, failed = read_recordings(rows)
    added: dict[bytes, Recording] = {}
    skipped = []
    known = store.with_known_digests([recording for _, recording in recordings])
    for recording, owner in zip(known, store.owners(known), strict=True):
        if owner:
            skipped.append((recording.path, f"it is enrolled as {owner}"))
        elif owner is not None or recording.digest in added:
            skipped.append((recording.path, "it is a background recording already"))
        else:
            added[recording.digest] = recording
    return EnrolmentResult(store.add_background(list(added.values())), tuple(skipped), tuple(failed))
