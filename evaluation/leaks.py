"""Find what the test set shares with the training set: sessions, and audio."""

from collections.abc import Mapping, Sequence

import numpy as np

from corpora import Indices, SplitBy, describe_left_out
from evaluation.protocol import SplitRows, has_sessions, single_session_speakers
from features import MEAN_CHANNEL, FeatureSet, audio_numbers
from files import count_of


def find_leaks(features: FeatureSet, splits: Mapping[SplitBy, Sequence[SplitRows]]) -> list[str]:
    """Describe the sessions and the audio that the test set shares with the training set, in sentences.

    Validation rows count as training rows, since they select the head. Recordings that are listed under several
    speakers are described too.

    Parameters
    ----------
    features : FeatureSet
        With provenance of its audio, segments of one file that overlap are found; without it, only rows with equal
        vectors.
    splits : mapping of {"utterance", "session", "given"} to sequence of SplitRows
        One split for each seed.
    """
    [numbers], leaks = audio_numbers(features), []
    for split_by, own in splits.items():
        leaks += _describe_sessions(features, own, split_by)
        leaks += _describe_audio(features, own, split_by, numbers=numbers)
    return leaks + _describe_duplicates(features, numbers)


def _describe_sessions(features: FeatureSet, splits: Sequence[SplitRows], split_by: SplitBy) -> list[str]:
    sessions = features.sessions.numpy()
    tested = [rows for rows in splits if len(rows.test)]
    leaks: list[str] = []
    if not has_sessions(features):
        leaks.append(_describe_single_sessions(features))
        if split_by == "session":
            leaks.append("no speaker can be tested in a new session; split by utterance instead")
    if split_by == "given":
        leaks += describe_left_out(features.labels.numpy(), features.given_splits, names=features.speakers)
    shared = [np.isin(sessions[rows.test], sessions[_seen(rows)]).mean() for rows in tested]
    n_single, n_speakers = max(single_session_speakers(features, rows) for rows in splits), len(features.speakers)
    if n_single == n_speakers and split_by == "session" and has_sessions(features):
        leaks.append("split by session: no speaker has two sessions to train on, so known sessions select the head")
    elif n_single and has_sessions(features):
        leaks.append(
            f"split by session: {n_single} of {count_of(n_speakers, 'speaker')} have too few sessions to train on and "
            "could not take part in the selection of the head"
        )
    if has_sessions(features) and any(shared):
        speakers = " of other speakers" if split_by == "session" else ""
        leaks.append(
            f"split by {split_by}: {100 * np.mean(shared):.0f} % of test utterances are from sessions with training "
            f"utterances{speakers}"
        )
    return leaks


def _describe_single_sessions(features: FeatureSet) -> str:
    """Describe that each speaker has one session, which is named after the speaker if the corpus gives none."""
    pairs = {*zip(features.sessions.tolist(), features.labels.tolist(), strict=True)}
    if all(features.session_names[session] == features.speakers[label] for session, label in pairs):
        return (
            "no speaker has a second session: part of the accuracy may be due to the recording, not the voice; if the "
            "names of files have sessions, extract with --pattern, such as '{speaker}_{session}_*'"
        )
    return (
        "no speaker has a second session: the test utterances of a speaker are from the session of the training "
        "utterances, so part of the accuracy may be due to the recording, not the voice; where labels are local to a "
        "session, such as those of meetings, a person in two sessions counts as two speakers"
    )


def has_local_labels(features: FeatureSet) -> bool:
    """Return whether the names of all speakers begin with that of their session, as labels of meetings do."""
    pairs = {*zip(features.sessions.tolist(), features.labels.tolist(), strict=True)}
    return all(features.speakers[label].startswith(f"{features.session_names[session]}_") for session, label in pairs)


def _describe_audio(
    features: FeatureSet, splits: Sequence[SplitRows], split_by: SplitBy, *, numbers: Indices
) -> list[str]:
    of_test = {row for rows in splits for row in _shared(features, rows.test, _seen(rows), numbers=numbers)}
    of_validation = {
        row
        for rows in splits
        for fold in rows.folds
        for row in _shared(features, fold.validation, fold.fit, numbers=numbers)
    }
    return [
        f"split by {split_by}: the audio of {count_of(len(shared), f'{part} utterance')}, whole or in part, is in "
        f"training too, so the {part} figures may be optimistic: {_first_ids(features, sorted(shared))}"
        for part, shared in (("test", of_test), ("validation", of_validation))
        if shared
    ]


def _describe_duplicates(features: FeatureSet, numbers: Indices) -> list[str]:
    speaker_of: dict[int, int] = {}
    rows = []
    for row, (number, speaker) in enumerate(zip(numbers.tolist(), features.labels.tolist(), strict=True)):
        if speaker_of.setdefault(number, speaker) != speaker:
            rows.append(row)
    if not rows:
        return []
    listing = _first_ids(features, rows)
    return [f"{count_of(len(rows), 'recording')} listed under a second speaker, so labels are wrong: {listing}"]


def _first_ids(features: FeatureSet, rows: Sequence[int]) -> str:
    """Name the first three of some rows."""
    return ", ".join(features.ids[row] for row in rows[:3]) + (", ..." if len(rows) > 3 else "")


def _seen(rows: SplitRows) -> Indices:
    """Return the rows of training and of validation."""
    return np.union1d(rows.train, rows.validation)


def _shared(features: FeatureSet, rows: Indices, others: Indices, *, numbers: Indices) -> set[int]:
    """Return the rows that share their audio, or a part of it, with the other rows."""
    copies = set(rows[np.isin(numbers[rows], numbers[others])].tolist())
    return copies if features.audio is None else copies | _overlapping(features, rows, others)


def _overlapping(features: FeatureSet, rows: Indices, others: Indices) -> set[int]:
    """Return the rows whose segments of a file overlap with those of the other rows.

    Segments of two channels overlap if they have one speaker, such as in two microphones of an array. Two speakers in
    two channels, such as those of a telephone call, share no audio.
    """
    audio = features.audio
    assert audio is not None
    digests = np.unique(audio.digest.numpy(), axis=0, return_inverse=True)[1].reshape(-1)
    rows = rows[np.isin(digests[rows], digests[others])]
    if not len(rows):
        return set()
    channels, labels = audio.channel.numpy(), features.labels.numpy()
    starts, lengths = audio.start.numpy(), np.nan_to_num(audio.duration.numpy(), nan=np.inf)
    ends = starts + (lengths if audio.crop is None else np.minimum(lengths, audio.crop))
    others_of_file: dict[int, list[int]] = {}
    for row in others[np.isin(digests[others], digests[rows])].tolist():
        others_of_file.setdefault(int(digests[row]), []).append(row)
    overlapping = set()
    for row in rows.tolist():
        same_file = np.array(others_of_file[int(digests[row])])
        shares = (starts[same_file] < ends[row]) & (starts[row] < ends[same_file])
        is_apart = (channels[same_file] != channels[row]) & (labels[same_file] != labels[row])
        is_apart &= (channels[same_file] != MEAN_CHANNEL) & (channels[row] != MEAN_CHANNEL)
        if (shares & ~is_apart).any():
            overlapping.add(row)
    return overlapping
