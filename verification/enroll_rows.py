"""Enrol speakers with embedded recordings, and return a reason for each recording that is not enrolled."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from embedding import Row
from features import FeatureSet
from files import InputError
from verification.enrolment import Recording, is_too_short, recording_name, recordings_of
from verification.store import Existing, SpeakerStore
from verification.store_file import StoreError
from verification.verifier import MIN_SECONDS

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
    """

    n_added: int
    skipped: tuple[tuple[str, str], ...] = ()
    failed: tuple[tuple[str, str], ...] = ()

    def reasons(self) -> list[str]:
        """Return a line for each recording that failed, and for the first `SHOWN` that were skipped."""
        lines = [f"failed: {name}: {reason}" for name, reason in self.failed]
        lines += [f"skipped: {name}: {reason}" for name, reason in self.skipped[:SHOWN]]
        more = len(self.skipped) - SHOWN
        return [*lines, f"skipped: {more} more"] if more > 0 else lines


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
        A speaker is enrolled already, and `existing` is ``refuse``; a name is invalid; or all recordings failed.
    """
    recordings, failed = read_recordings(rows)
    # The earlier recordings of a speaker who is replaced do not count.
    replaced = {speaker for speaker, _ in recordings} if existing == "replace" else set()
    accepted: defaultdict[str, list[Recording]] = defaultdict(list)
    speaker_of: dict[bytes, str] = {}
    skipped = []
    owners = store.owners([recording for _, recording in recordings])
    for (speaker, recording), owner in zip(recordings, owners, strict=True):
        if not owner or owner in replaced:
            owner = speaker_of.get(recording.digest)
        if owner is None:
            speaker_of[recording.digest] = speaker
            accepted[speaker].append(recording)
        elif owner == speaker:
            skipped.append((recording.path, f"{speaker} is already enrolled with this recording"))
        else:
            failed.append((recording.path, f"this recording of {speaker} is already enrolled as {owner}"))
    if failed and not accepted and not skipped:
        raise StoreError(f"{': '.join(failed[0])}. No speaker was enrolled.")
    n_added = store.enroll_speakers(accepted.items(), existing)
    return EnrolmentResult(n_added, tuple(skipped), tuple(failed))


def enroll_feature_set(store: SpeakerStore, features: FeatureSet, existing: Existing = "refuse") -> EnrolmentResult:
    """Enrol all speakers of a set of features (N, D), as `SpeakerStore.enroll_features` does.

    Raises
    ------
    StoreError
        As in `SpeakerStore.enroll_features`.
    """
    short = is_too_short(features).numpy()
    reason = f"it is shorter than {MIN_SECONDS:g} s"
    skipped = [(name, reason) for name, is_short in zip(features.ids, short, strict=True) if is_short]
    usable = features.select(~short)
    recordings = [(speaker, recording) for speaker, each in recordings_of(usable) for recording in each]
    owners = store.owners([recording for _, recording in recordings])
    n_added = store.enroll_features(usable, existing)
    seen = set()
    for (speaker, recording), owner in zip(recordings, owners, strict=True):
        # The recording of another speaker would have been an error.
        if recording.digest in seen or (owner and existing != "replace"):
            skipped.append((recording.path, f"{speaker} is already enrolled with this recording"))
        seen.add(recording.digest)
    return EnrolmentResult(n_added, tuple(skipped))


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
    owners = store.owners([recording for _, recording in recordings])
    for (_, recording), owner in zip(recordings, owners, strict=True):
        if owner:
            skipped.append((recording.path, f"it is enrolled as {owner}"))
        elif owner is not None or recording.digest in added:
            skipped.append((recording.path, "it is a background recording already"))
        else:
            added[recording.digest] = recording
    return EnrolmentResult(store.add_background(list(added.values())), tuple(skipped), tuple(failed))
