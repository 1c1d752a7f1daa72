"""Corpora of real speech, and draws from them: enrolled speakers, and recordings that are compared with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from corpora import Corpus, Utterance, load_corpus
from features import FeatureSet
from metrics import cllr, equal_error_rate, min_cllr
from verification import Backend, Calibration, Conditions

WHOLE = 0.0
# A chapter of dev-clean that is perhaps not read by its speaker.
SUSPECT = "148538"
MAX_PROBES = 2_000
DRAWS = 10
# Minimum length of a recording in `open_set_draws` (seconds).
MIN_OPEN_SET = 2.9


@dataclass(frozen=True, eq=False)
class Recordings:
    """Vectors of recordings and of parts of them.

    Attributes
    ----------
    backend : Backend
    vectors : Tensor (N, K)
        Mapped by the backend.
    speakers, sessions, recordings : ndarray (N,)
        int64. Rows with the same number in `recordings` are the same recording or parts of it.
    lengths : ndarray (N,)
        Length of the part (seconds), or `WHOLE`.
    seconds : ndarray (N,)
        Length of the audio (seconds).
    """

    backend: Backend
    vectors: torch.Tensor
    speakers: NDArray[np.int64]
    sessions: NDArray[np.int64]
    recordings: NDArray[np.int64]
    lengths: NDArray[np.float64]
    seconds: NDArray[np.float64]

    def select(self, kept: NDArray[np.bool_]) -> "Recordings":
        """Return only some of the rows."""
        arrays = (getattr(self, name)[kept] for name in ("speakers", "sessions", "recordings", "lengths", "seconds"))
        return Recordings(self.backend, self.vectors[torch.from_numpy(kept)], *arrays)


@dataclass(frozen=True, eq=False)
class Draw:
    """Scores of probes against randomly chosen enrolled speakers, and scores of the enrolled speakers' own recordings.

    Attributes
    ----------
    scores : ndarray (P, N)
    is_target, is_used : ndarray (P, N)
        bool; a probe is not compared with a speaker who is enrolled from its session or from its recording.
    conditions : Conditions
        Conditions of the scores, arrays (1, N) and (P, 1).
    own_scores : ndarray (M,)
        Scores of enrolled recordings against the other enrolled speakers, for the self-calibration.
    own_conditions : Conditions
    """

    scores: NDArray[np.float64]
    is_target: NDArray[np.bool_]
    is_used: NDArray[np.bool_]
    conditions: Conditions
    own_scores: NDArray[np.float64]
    own_conditions: Conditions


@dataclass(frozen=True, eq=False)
class Trials:
    """Trials of one corpus: labels, scores and conditions, arrays (n,)."""

    labels: NDArray[np.bool_]
    scores: NDArray[np.float64]
    conditions: Conditions


def open_corpus(data_dir: Path, name: str) -> Corpus:
    """Load a corpus by its name in the tables."""
    if name == "AMI":
        return ami_corpus(data_dir / "ami_clips")
    folders = {"open_voices": "open_voices/manifest.csv", "speechocean762": "speechocean762"}
    corpus = load_corpus(data_dir / folders.get(name, f"LibriSpeech/{name}"))
    kept = tuple(utterance for utterance in corpus if SUSPECT not in utterance.session)
    return Corpus(kept, corpus.root, corpus.name)


def ami_corpus(root: Path) -> Corpus:
    """Return the parts of at least 1 s of the meetings in which one speaker speaks alone, at most 5 s each."""
    utterances = []
    for rttm in sorted((root / "rttm").glob("*.rttm")):
        fields = [line.split() for line in rttm.read_text().splitlines()]
        turns = [(float(each[3]), float(each[3]) + float(each[4]), each[7]) for each in fields]
        for start, end, speaker in turns:
            alone = [(start, end)]
            for other_start, other_end, other in turns:
                if other != speaker:
                    cut = [((a, min(b, other_start)), (max(a, other_end), b)) for a, b in alone]
                    alone = [part for pair in cut for part in pair if part[1] > part[0]]
            for first, last in alone:
                count = max(int((last - first) // 5), 1)
                length = (last - first) / count
                utterances += [
                    Utterance(
                        path=root / "wav" / f"{rttm.stem}.flac",
                        speaker=speaker,
                        session=rttm.stem,
                        start=round(first + number * length, 2),
                        duration=round(length - 0.02, 2),
                    )
                    for number in range(count)
                    if length >= 1.02
                ]
    return Corpus(tuple(utterances), root, "AMI")


def recordings_of(
    features: FeatureSet, backend: Backend, origin: dict[str, tuple[int, float]] | None = None
) -> Recordings:
    """Return the rows of a set of features, mapped by a backend, with the recordings that they are parts of.

    `origin` has the number of the recording and the length of the part for each id; by default all are whole.
    """
    parts = [(number, WHOLE) if origin is None else origin[name] for number, name in enumerate(features.ids)]
    numbers, lengths = zip(*parts, strict=True)
    return Recordings(
        backend=backend,
        vectors=backend.embed(features.features.float()),
        speakers=features.labels.numpy(),
        sessions=features.sessions.numpy(),
        recordings=np.array(numbers),
        lengths=np.array(lengths),
        seconds=features.durations.double().numpy(),
    )


def draw(
    corpus: Recordings,
    random: np.random.Generator,
    *,
    n_speakers: int | None,
    n_recordings: int,
    enrolled: Sequence[float],
    compared: Sequence[float],
) -> Draw | None:
    """Enrol random speakers, and compare recordings of everybody with them.

    Parameters
    ----------
    corpus : Recordings
    random : Generator
    n_speakers : int or None
        Number of enrolled speakers; None enrols all. None is returned if the corpus has too few.
    n_recordings : int
        Number of recordings that each is enrolled with, from one session if the speaker has several.
    enrolled, compared : sequence of float
        Lengths of the recordings to enrol with, and of those that are compared.
    """
    choices: dict[int, tuple[NDArray[np.int64], bool]] = {}
    usable = np.flatnonzero(np.isin(corpus.lengths, enrolled))
    for speaker in np.unique(corpus.speakers[usable]).tolist():
        rows = usable[corpus.speakers[usable] == speaker]
        sessions = np.unique(corpus.sessions[rows])
        has_several = len(np.unique(corpus.sessions[corpus.speakers == speaker])) > 1
        for session in random.permutation(sessions):
            chosen = one_per_recording(corpus, rows[corpus.sessions[rows] == session], random)[:n_recordings]
            if len(chosen) == n_recordings:
                choices[speaker] = (chosen, has_several)
                break
    if len(choices) < max(n_speakers or 2, 2):
        return None
    names = random.permutation(list(choices))[:n_speakers].tolist()
    rows = np.stack([choices[name][0] for name in names])
    models = torch.stack([corpus.backend.combine(corpus.vectors[each]) for each in rows])
    counts = torch.full((len(names),), n_recordings)
    enrolled_seconds = corpus.seconds[rows].mean(1)
    probes = random.permutation(np.flatnonzero(np.isin(corpus.lengths, compared)))[:MAX_PROBES]
    is_target = corpus.speakers[probes][:, None] == np.array(names)
    same_recording = (corpus.recordings[probes][:, None, None] == corpus.recordings[rows]).any(2)
    same_session = corpus.sessions[probes][:, None] == corpus.sessions[rows[:, 0]]
    is_excluded = same_recording | (same_session & np.array([choices[name][1] for name in names]))
    own_rows = rows.reshape(-1)
    own_scores = corpus.backend.score_speakers(corpus.vectors[own_rows], models, counts).double().numpy()
    is_other = np.repeat(np.arange(len(names)), n_recordings)[:, None] != np.arange(len(names))
    first, second = np.nonzero(is_other)
    return Draw(
        scores=corpus.backend.score_speakers(corpus.vectors[probes], models, counts).double().numpy(),
        is_target=is_target,
        is_used=~(is_excluded & is_target),
        conditions=Conditions(n_recordings, enrolled_seconds[None], corpus.seconds[probes][:, None]),
        own_scores=own_scores[is_other],
        own_conditions=Conditions(n_recordings, enrolled_seconds[second], corpus.seconds[own_rows][first]),
    )


def one_per_recording(corpus: Recordings, rows: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """Return rows in random order, without several parts of one recording."""
    shuffled = random.permutation(rows)
    first = np.unique(corpus.recordings[shuffled], return_index=True)[1]
    kept: NDArray[np.int64] = random.permutation(shuffled[first])
    return kept


def flatten(found: Draw, random: np.random.Generator, max_nontargets: int) -> Trials:
    """Return the trials of a draw: all targets, and at most `max_nontargets` random nontargets."""
    targets = np.argwhere(found.is_target & found.is_used)
    nontargets = np.argwhere(~found.is_target)
    nontargets = nontargets[random.permutation(len(nontargets))[:max_nontargets]]
    first, second = np.concatenate([targets, nontargets]).T
    counts, enrolled, seconds = (
        np.broadcast_to(each, found.scores.shape)[first, second]
        for each in (found.conditions.counts, found.conditions.enrolled_seconds, found.conditions.seconds)
    )
    return Trials(found.is_target[first, second], found.scores[first, second], Conditions(counts, enrolled, seconds))


def join(parts: Sequence[Trials]) -> Trials:
    """Join trials."""
    counts, enrolled, seconds = (
        np.concatenate([np.asarray(getattr(part.conditions, name)) for part in parts])
        for name in ("counts", "enrolled_seconds", "seconds")
    )
    return Trials(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.scores for part in parts]),
        Conditions(counts, enrolled, seconds),
    )


def open_set_draws(corpus: Recordings, speakers: Sequence[int], recordings: Sequence[int], seed: int) -> Iterator[Draw]:
    """Draw enrolled speakers several times, with recordings of at least 3 s."""
    random = np.random.default_rng(seed)
    usable = (WHOLE, 3.0, 5.0, 10.0)
    long_enough = corpus.select(corpus.seconds >= MIN_OPEN_SET)
    for n_speakers in speakers:
        for n_recordings in recordings:
            for _ in range(DRAWS):
                found = draw(
                    long_enough,
                    random,
                    n_speakers=n_speakers,
                    n_recordings=n_recordings,
                    enrolled=usable,
                    compared=usable,
                )
                if found is not None:
                    yield found


def figures(labels: NDArray[np.bool_], llrs: NDArray[np.float64]) -> list[float]:
    """Return Cllr, minimum Cllr, EER, false acceptance and false rejection at a log-likelihood ratio of 0."""
    accepted, rejected = (llrs[~labels] >= 0).mean(), (llrs[labels] < 0).mean()
    return [
        cllr(labels, llrs),
        min_cllr(labels, llrs),
        equal_error_rate(labels, llrs),
        float(accepted),
        float(rejected),
    ]


def error_counts(
    open_set: Calibration, llrs: NDArray[np.float64], is_target: NDArray[np.bool_], *, p_known: float = 0.5
) -> NDArray[np.float64]:
    """Return the errors of identification among N enrolled speakers, and the numbers of recordings they are shares of.

    Parameters
    ----------
    open_set : Calibration
        Calibration of the highest log-likelihood ratio of a recording.
    llrs, is_target : ndarray (n, N)
    p_known : float
        Prior probability that the speaker is enrolled.

    Returns
    -------
    ndarray (2, 3)
        Accepted recordings of unknown speakers, rejected and misnamed ones of enrolled speakers; and recordings of
        unknown, enrolled and enrolled speakers.
    """
    accepted = open_set.probabilities(llrs.max(axis=1), p_known, Conditions(llrs.shape[1])) >= 0.5
    is_known, is_right = is_target.any(axis=1), is_target[np.arange(len(llrs)), llrs.argmax(axis=1)]
    errors = [(accepted & ~is_known).sum(), (~accepted & is_known).sum(), (accepted & is_known & ~is_right).sum()]
    return np.array([errors, [(~is_known).sum(), is_known.sum(), is_known.sum()]], dtype=np.float64)
