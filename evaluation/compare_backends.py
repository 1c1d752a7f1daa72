"""Compare backends on trials: error rates with intervals, and costs of calibrated scores."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from encoders import spec_differences
from evaluation.backend_comparison import BackendComparison
from evaluation.error_curves import ScoredTrials
from evaluation.head_comparison import origin_of
from evaluation.leaks import has_local_labels
from evaluation.notes import describe_seen_speakers
from features import FeatureSet, audio_numbers
from files import Record, count_of
from metrics import MIN_BOOTSTRAP_SPEAKERS, cllr, equal_error_rate, min_cllr, min_dcf, trial_interval
from verification import (
    Backend,
    BackendError,
    Calibration,
    CalibrationError,
    TrialError,
    Trials,
    all_pairs,
    as_norm,
    create_backend,
    cross_session,
    random_triplets,
    split_speakers,
)

# Figures with intervals, in the order of the intervals.
FIGURES: dict[str, Callable[..., float]] = {
    "eer": equal_error_rate,
    "min_dcf_0.01": lambda labels, scores, weights=None: min_dcf(labels, scores, 0.01, weights=weights),
    "min_dcf_0.05": lambda labels, scores, weights=None: min_dcf(labels, scores, 0.05, weights=weights),
}
# Number of bins for each part of the scores. A bootstrap draw weights bins, so that it need not sort the scores again.
BINS = 1_000


def compare_backends(
    features: FeatureSet,
    backends: str | Sequence[str] = ("cosine",),
    *,
    trials: Trials | None = None,
    train_features: FeatureSet | None = None,
    normalise: bool = False,
    seed: int = 0,
    triplets: int | None = None,
) -> BackendComparison:
    """Score trials with backends that were not trained on the speakers.

    Without features to train on, backends that need training are trained on half of the speakers and score the other
    half. For the cost of calibrated scores (Cllr), each half of the scored speakers is calibrated on the other half.

    Parameters
    ----------
    features : FeatureSet
        (N, D), of the trials.
    backends : str or sequence of str
        Names from `BACKENDS`.
    trials : Trials, optional
        Pairs of rows of `features`; by default all pairs of the scored rows.
    train_features : FeatureSet, optional
        Features of other speakers, from the same encoder.
    normalise : bool
        Whether to normalise scores (AS-norm), with the training speakers as the cohort.
    seed : int
        Random seed of the halves, the intervals and the triplets.
    triplets : int, optional
        Number of triplets to draw from the scored speakers, instead of all pairs.

    Returns
    -------
    BackendComparison

    Raises
    ------
    InputError
        Training speakers are scored, there are no targets or no nontargets, the features have several layers, or scores
        are NaN or infinite.
    """
    names = [backends] if isinstance(backends, str) else backends
    made = [create_backend(name) for name in dict.fromkeys(names)]
    if not made:
        raise BackendError("There is no backend to compare; give at least one.")
    needs_training = normalise or any(backend.is_trained for backend in made)
    notes = []
    if needs_training and train_features is None:
        if trials is not None:
            raise BackendError(
                "With a list of trials, a backend has to be trained on other features: give --train_features, or the "
                "backend cosine."
            )
        train_features, features = split_speakers(features, seed)
        counts = [len(np.unique(part.labels.numpy())) for part in (train_features, features)]
        notes.append(
            f"trained on {counts[0]} of the speakers, selected by seed {seed}; the other {counts[1]} are scored"
        )
    elif train_features is not None:
        notes.append(f"trained on {train_features.corpus}, {len(train_features)} utterances")
        _check_no_overlap(train_features, features)
    if trials is None:
        trials = all_pairs(features) if triplets is None else random_triplets(features, triplets, seed)
    trials, left_out = _without_same_audio(trials, features)
    notes += [*left_out, *describe_seen_speakers(features), *_describe_trials(trials, features, normalise)]
    if normalise and train_features is not None:
        _check_cohort(train_features, features, trials)
    rows, scored = [], []
    for backend in made:
        scores = _score(backend, features, trials, train=train_features, normalise=normalise)
        scored.append(ScoredTrials(backend.name, trials, scores))
        about = {
            "features": features.corpus,
            "encoder": features.encoder.get("name"),
            "backend": backend.name,
            "as_norm": normalise,
        }
        rows += [{**about, **figures} for figures in _figures_by_kind(trials, scores, features, seed=seed)]
    notes += _describe_missing(rows[0], trials, features)
    sets = {"scored": features} | ({} if train_features is None else {"trained on": train_features})
    origins = [origin_of(name, given) for name, given in sets.items()]
    return BackendComparison(rows, scored, notes, ids=features.ids, origins=origins)


def _check_no_overlap(train: FeatureSet, features: FeatureSet) -> None:
    """Refuse to train on recordings that are scored too, even if their speakers have other names."""
    shared = 0
    if train.audio is not None and features.audio is not None:  # segments of one file are too
        sides = [{digest.tobytes() for digest in audio.digest.numpy()} for audio in (train.audio, features.audio)]
        shared = len(sides[0] & sides[1])
    if not spec_differences(train.encoder, features.encoder):
        one, other = audio_numbers(train, features)
        shared = max(shared, len(np.intersect1d(one, other)))
    if shared:
        verb = "is" if shared == 1 else "are"
        raise BackendError(
            f"{count_of(shared, 'recording')} {verb} both trained on and scored, so the error rates would be "
            "optimistic; give other --train_features."
        )


def _check_cohort(train: FeatureSet, features: FeatureSet, trials: Trials) -> None:
    """Refuse to normalise scores with recordings of speakers that are scored."""
    cohort_speakers = {train.speakers[label] for label in train.labels.tolist()}
    used = features.labels[torch.from_numpy(np.union1d(trials.first, trials.second))].tolist()
    if cohort_speakers & {features.speakers[label] for label in used}:
        raise BackendError(
            "Speakers of the cohort are scored too, so the error rates would be optimistic; give features of other "
            "speakers to train on."
        )


def _without_same_audio(trials: Trials, features: FeatureSet) -> tuple[Trials, list[str]]:
    """Return the trials of two recordings, and a sentence that counts those of a recording with itself or a copy.

    Raises
    ------
    TrialError
        There are no targets or no nontargets left.
    """
    [numbers] = audio_numbers(features)
    same = numbers[trials.first] == numbers[trials.second]
    left_out = [f"left out: {count_of(int(same.sum()), 'trial')} of a recording with itself or a copy of it"]
    trials, left_out = (trials.select(~same), left_out) if same.any() else (trials, [])
    n_targets = int(trials.labels.sum())
    if not 0 < n_targets < len(trials):
        raise TrialError(
            f"There are {n_targets} target and {len(trials) - n_targets} nontarget trials"
            f"{''.join(f' ({note})' for note in left_out)}; error rates need both kinds. Give at least two speakers, "
            "and two recordings of one of them."
        )
    return trials, left_out


def _describe_trials(trials: Trials, features: FeatureSet, normalise: bool) -> list[str]:
    """Describe the trials in sentences, and refuse labels that contradict the speakers."""
    speakers = features.labels.numpy()
    wrong = np.flatnonzero((speakers[trials.first] == speakers[trials.second]) != trials.labels)
    if len(wrong):
        one, other = (features.ids[side[wrong[0]]] for side in (trials.first, trials.second))
        raise TrialError(
            f"The labels of {len(wrong)} trials contradict their speakers, the first is {one} with {other}; give the "
            "list that belongs to these features."
        )
    notes = ["scores are normalised by the most similar recordings of the training speakers"] if normalise else []
    if not cross_session(trials, features)[trials.labels].any():
        notes.append("no target is of two sessions: part of the similarity may be due to the recording, not the voice")
    n_between = int(cross_session(trials, features)[~trials.labels].sum())
    if n_between and has_local_labels(features):
        notes.append(
            f"labels of speakers are local to a session: {count_of(n_between, 'nontarget')} of two sessions may be of "
            "one person"
        )
    return notes


def _describe_missing(row: Record, trials: Trials, features: FeatureSet) -> list[str]:
    """State why the intervals and the Cllr of all trials are missing, if they are."""
    n_speakers = len(np.unique(features.labels.numpy()[np.union1d(trials.first, trials.second)]))
    scored = f"the trials are of {count_of(n_speakers, 'speaker')}"
    notes = []
    if math.isnan(row["eer_low"]):
        needed = f"at least {MIN_BOOTSTRAP_SPEAKERS}, and target and nontarget trials among those drawn"
        notes.append(f"no intervals: {scored}; a bootstrap over speakers needs {needed}")
    if math.isnan(row["cllr"]):
        notes.append(
            f"no Cllr: {scored}; each half of the speakers calibrates the other half, and needs target and nontarget "
            "trials of its own"
        )
    return notes


def _kinds(trials: Trials, features: FeatureSet) -> dict[str, NDArray[np.bool_]]:
    """Return masks of all trials and, if there are targets within and across sessions, of each with all nontargets."""
    kinds = {"all": np.ones(len(trials), bool)}
    apart = cross_session(trials, features)
    if apart[trials.labels].any() and not apart[trials.labels].all():
        kinds |= {"cross-session": apart | ~trials.labels, "same-session": ~apart | ~trials.labels}
    return kinds


def _score(
    backend: Backend, features: FeatureSet, trials: Trials, *, train: FeatureSet | None, normalise: bool
) -> NDArray[np.float32]:
    """Train a backend and score the trials."""
    if train is not None:
        backend.fit(train)
    scores = backend.score_trials(features, trials.first, trials.second)
    if normalise and train is not None:
        mapped, cohort = backend.embed(features.features), backend.embed(train.features)
        scores = as_norm(backend, mapped, cohort, first=trials.first, second=trials.second, scores=scores)
    spoiled = np.flatnonzero(~np.isfinite(scores))
    if len(spoiled):
        pair = [features.ids[side[spoiled[0]]] for side in (trials.first, trials.second)]
        raise BackendError(
            f"{len(spoiled)} scores of the backend {backend.name!r} are NaN or infinite, the first is that of "
            f"{pair[0]} and {pair[1]}; the features hold NaN or infinity. Extract them again."
        )
    return scores


def _figures_by_kind(trials: Trials, scores: NDArray[np.float32], features: FeatureSet, *, seed: int) -> list[Record]:
    """Return the figures of all trials, and of those across and within sessions."""
    llrs = _calibrated(trials, scores, features, seed=seed)
    records = []
    for kind, mask in _kinds(trials, features).items():
        part = trials.select(mask)
        counts = {"n_target": int(part.labels.sum()), "n_nontarget": int((~part.labels).sum())}
        figures = _figures(part, scores[mask], llrs[mask], features=features, seed=seed)
        records.append({"trials": kind, **counts, **figures})
    return records


def _figures(
    trials: Trials, scores: NDArray[np.float32], llrs: NDArray[np.float64], *, features: FeatureSet, seed: int
) -> Record:
    figures: Record = {name: figure(trials.labels, scores) for name, figure in FIGURES.items()}
    figures["min_cllr"] = min_cllr(trials.labels, scores)
    known = ~np.isnan(llrs)
    both = known.any() and 0 < trials.labels[known].sum() < known.sum()
    figures["cllr"] = cllr(trials.labels[known], llrs[known]) if both else math.nan
    low, high = _intervals(trials, scores, features, seed=seed)
    for number, name in enumerate(FIGURES):
        figures |= {f"{name}_low": float(low.flat[number]), f"{name}_high": float(high.flat[number])}
    return figures


def _intervals(
    trials: Trials, scores: NDArray[np.float32], features: FeatureSet, *, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bounds of the intervals of `FIGURES`, computed from binned scores."""
    speakers = features.labels.numpy()
    # Bins are fine among targets, among nontargets, and among the highest nontargets, on which minDCF depends. Equal
    # scores share a bin.
    even, tail = np.linspace(0, 1, BINS), 1 - np.geomspace(1e-7, 0.1, BINS)
    targets, nontargets = scores[trials.labels], scores[~trials.labels]
    parts = ((targets, even), (nontargets, even), (nontargets, tail))
    edges = np.unique(np.concatenate([np.quantile(side, at, method="nearest") for side, at in parts]))
    cells = 2 * np.searchsorted(edges, scores, side="right") + trials.labels
    n_bins = len(edges) + 1
    labels, values = np.tile([False, True], n_bins), np.repeat(np.arange(n_bins), 2)

    def figures(weights: NDArray[np.float64]) -> list[float]:
        counts = np.bincount(cells, weights, 2 * n_bins)
        return [figure(labels, values, weights=counts) for figure in FIGURES.values()]

    low, high = trial_interval(figures, speakers[trials.first], speakers[trials.second], n_draws=200, seed=seed)
    if low.shape != (len(FIGURES),):
        low, high = (np.full(len(FIGURES), math.nan) for _ in range(2))
    return low, high


def _calibrated(trials: Trials, scores: NDArray[np.float32], features: FeatureSet, *, seed: int) -> NDArray[np.float64]:
    """Return log-likelihood ratios (n_trials,): each half of the speakers is calibrated on the other half.

    They are NaN for trials between the halves, since each calibration has used one of the speakers, and for all trials
    if a half cannot be calibrated.
    """
    speakers = features.labels.numpy()
    present = np.unique(speakers[np.concatenate([trials.first, trials.second])])
    half = np.isin(speakers, np.random.default_rng(seed).permutation(present)[: len(present) // 2])
    sides = half[trials.first].astype(int) + half[trials.second]
    maps = []
    for side in (0, 2):
        try:
            maps.append(Calibration.fit(trials.labels[sides == side], scores[sides == side]))
        except CalibrationError:
            return np.full(len(scores), math.nan)
    by_first, by_second = (each.llrs(scores) for each in maps)
    llrs: NDArray[np.float64] = np.select([sides == 0, sides == 2], [by_second, by_first], math.nan)
    return llrs
