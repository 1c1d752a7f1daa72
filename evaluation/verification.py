"""Compare backends on trials: error rates with intervals, calibrated costs, pictures, files."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.comparison import origin_of, versions, without_nan, write_csv
from evaluation.pictures import Scored
from evaluation.records import Record
from evaluation.table import format_notes, format_table
from evaluation.verification_report import det_records, histogram_records, lowest, operating_points
from features import FeatureSet, write_atomically
from metrics import cllr, equal_error_rate, min_cllr, min_dcf, trial_interval
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

# The figures of a row that have intervals, in this order.
FIGURES: dict[str, Callable[..., float]] = {
    "eer": equal_error_rate,
    "min_dcf_0.01": lambda labels, scores, weights=None: min_dcf(labels, scores, 0.01, weights=weights),
    "min_dcf_0.05": lambda labels, scores, weights=None: min_dcf(labels, scores, 0.05, weights=weights),
}
# Scores are sorted into some times so many bins for the intervals, so that a draw costs one count of the trials.
BINS = 1_000
# What the report draws, of tables of these names.
PICTURES = ("det_curve", "score_histogram")


@dataclass(frozen=True, eq=False)
class Verification:
    """What `compare_backends` found.

    Attributes
    ----------
    rows : list of dict
        One for each backend and kind of trials; EER as a fraction.
    scored : list of Scored
        One for each backend, of all trials.
    notes : list of str
        What one has to know beside the table, in sentences.
    ids : tuple of str
        Utterances that were scored, by the rows of the trials.
    origins : list of dict
        Of the vectors their encoder's spec, their number, and a digest of all their audio.
    """

    rows: list[Record]
    scored: list[Scored]
    notes: list[str]
    ids: tuple[str, ...]
    origins: list[Record] = field(default_factory=list)

    def table(self) -> str:
        """Return the rows as a table, the EER in percent, with 95 % intervals over speakers, and the notes."""
        header = ["backend", "trials", "targets", "nontargets", "EER", "95 % interval", "minDCF 0.01", "0.05", "Cllr"]
        lines = [
            [
                row["backend"],
                row["trials"],
                str(row["n_target"]),
                str(row["n_nontarget"]),
                _percent(row["eer"]),
                f"{_percent(row['eer_low'], 1)} - {_percent(row['eer_high'], 1)}",
                _number(row["min_dcf_0.01"]),
                _number(row["min_dcf_0.05"]),
                _number(row["cllr"]),
            ]
            for row in self.rows
        ]
        lines[self.rows.index(lowest(self.rows))][0] += " *"
        meaning = "* the lowest equal error rate (EER, in percent) of all trials; 95 % intervals over speakers"
        return f"{format_table(header, lines, '<<>>>>>>>')}\n{format_notes([meaning, *self.notes])}"

    def save(self, folder: Path, command: str) -> list[Path]:
        """Write ``metrics.json``, ``metrics.csv``, ``det_curve.csv`` and ``score_histogram.csv``; returns the paths.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        content = {
            "rows": self.rows,
            "operating_points": operating_points(self.scored),
            "origins": self.origins,
            "notes": self.notes,
            "command": command,
            "versions": versions(),
        }
        # Of an earlier run, none of it would be of this one; what says that there are results comes last.
        for name in (
            "metrics.json",
            "report.html",
            *(f"{name}.{kind}" for name in PICTURES for kind in ("csv", "png")),
        ):
            (folder / name).unlink(missing_ok=True)
        text = json.dumps(without_nan(content), indent=2, allow_nan=False)
        return [
            write_csv(folder / "metrics.csv", self.rows),
            write_csv(folder / "det_curve.csv", det_records(self.scored)),
            write_csv(folder / "score_histogram.csv", histogram_records(self.scored)),
            write_atomically(folder / "metrics.json", lambda file: file.write(text.encode())),
        ]


def compare_backends(
    features: FeatureSet,
    backends: Sequence[str] = ("cosine",),
    trials: Trials | None = None,
    train_features: FeatureSet | None = None,
    normalise: bool = False,
    seed: int = 0,
    triplets: int | None = None,
) -> Verification:
    """Score trials by backends that never heard the speakers.

    Without features to train on, half of the speakers train and the other half is scored, unless no backend has to be
    trained. Costs of calibrated scores (Cllr) come from calibrating each half of the scored speakers on the other.

    Parameters
    ----------
    features : FeatureSet
        (N, D), of the trials.
    backends : sequence of str
        Names from `BACKENDS`.
    trials : Trials, optional
        Rows of `features`; by default all pairs of those that are scored.
    train_features : FeatureSet, optional
        Of other speakers, by the same encoder.
    normalise : bool
        AS-norm, the training speakers being the cohort.
    seed : int
        Of the halves, the intervals and the triplets.
    triplets : int, optional
        So many are drawn of the speakers that are scored, in place of all pairs.

    Returns
    -------
    Verification

    Raises
    ------
    InputError
        Training speakers are scored, trials of one kind alone, features of several layers, NaN scores.
    """
    made = [create_backend(name) for name in dict.fromkeys(backends)]
    if not made:
        raise BackendError("There is no backend to compare; give one at least.")
    notes = []
    needs_training = normalise or any(backend.is_trained for backend in made)
    if needs_training and train_features is None:
        if trials is not None:
            raise BackendError(
                "With a list of trials a backend has to be trained on other features: give --train_features, or the "
                "backend cosine."
            )
        train_features, features = split_speakers(features, seed)
        counts = [len(np.unique(part.labels.numpy())) for part in (train_features, features)]
        notes.append(f"trained on {counts[0]} of the speakers, chosen by seed {seed}; the other {counts[1]} are scored")
    elif train_features is not None:
        notes.append(f"trained on {train_features.corpus}, {len(train_features)} utterances")
        _check_strangers(train_features, features)
    if trials is None:
        trials = all_pairs(features) if triplets is None else random_triplets(features, triplets, seed)
    n_targets = int(trials.labels.sum())
    if not 0 < n_targets < len(trials):
        raise TrialError(
            f"There are {n_targets} target and {len(trials) - n_targets} nontarget trials; error rates need both kinds."
        )
    notes += _about(trials, features, normalise)
    kinds = _kinds(trials, features)
    rows, scored = [], []
    for backend in made:
        scores = _score(backend, features, trials, train_features, normalise)
        scored.append(Scored(backend.name, trials, scores))
        llrs = _calibrated(trials, scores, features, seed)
        for kind, chosen in kinds.items():
            part = trials.select(chosen)
            rows.append(
                {
                    "features": features.corpus,
                    "encoder": features.encoder.get("name"),
                    "backend": backend.name,
                    "as_norm": normalise,
                    "trials": kind,
                    "n_target": int(part.labels.sum()),
                    "n_nontarget": int((~part.labels).sum()),
                    **_figures(part, scores[chosen], llrs[chosen], features, seed),
                }
            )
    sets = {"scored": features} | ({} if train_features is None else {"trained on": train_features})
    origins = [origin_of(name, given) for name, given in sets.items()]
    return Verification(rows, scored, notes, features.ids, origins)


def _check_strangers(train: FeatureSet, features: FeatureSet) -> None:
    """Refuse to train on recordings that are scored, whatever the speakers are called there."""
    if train.audio is None or features.audio is None:
        return
    sides = [{digest.tobytes() for digest in audio.digest.numpy()} for audio in (train.audio, features.audio)]
    if sides[0] & sides[1]:
        raise BackendError(
            f"{len(sides[0] & sides[1])} recordings are both trained on and scored, which would flatter the backend; "
            "give other --train_features."
        )


def _about(trials: Trials, features: FeatureSet, normalise: bool) -> list[str]:
    """Return what one has to know of the trials, in sentences; refuse labels that the speakers contradict."""
    speakers = features.labels.numpy()
    wrong = np.flatnonzero((speakers[trials.first] == speakers[trials.second]) != trials.labels)
    if len(wrong):
        one, other = (features.ids[side[wrong[0]]] for side in (trials.first, trials.second))
        raise TrialError(
            f"{len(wrong)} trials have another label than their speakers say, the first is {one} with {other}; give "
            "the list that belongs to these features."
        )
    notes = ["scores are normalised by the nearest recordings of the training speakers"] * normalise
    n_selves = int((trials.first == trials.second).sum())
    if n_selves:
        notes.append(f"{n_selves} targets compare a recording with itself, which flatters the figures")
    if not cross_session(trials, features)[trials.labels].any():
        notes.append("no target is of two sessions: how much of the likeness is the recording cannot be told")
    return notes


def _kinds(trials: Trials, features: FeatureSet) -> dict[str, NDArray[np.bool_]]:
    """Return all trials and, where targets are of one session and of two, both sorts of them with all nontargets."""
    kinds = {"all": np.ones(len(trials), bool)}
    apart = cross_session(trials, features)
    if apart[trials.labels].any() and not apart[trials.labels].all():
        kinds |= {"cross-session": apart | ~trials.labels, "same-session": ~apart | ~trials.labels}
    return kinds


def _score(
    backend: Backend, features: FeatureSet, trials: Trials, train: FeatureSet | None, normalise: bool
) -> NDArray[np.float32]:
    if train is not None:
        backend.fit(train)
    scores = backend.score_trials(features, trials.first, trials.second)
    if normalise and train is not None:
        cohort_speakers = {train.speakers[label] for label in train.labels.tolist()}
        used = features.labels[torch.from_numpy(np.union1d(trials.first, trials.second))].tolist()
        if cohort_speakers & {features.speakers[label] for label in used}:
            raise BackendError("Speakers of the cohort are scored too, which would flatter the scores; give others.")
        mapped, cohort = backend.embed(features.features), backend.embed(train.features)
        scores = as_norm(backend, mapped, cohort, trials.first, trials.second, scores)
    spoiled = np.flatnonzero(~np.isfinite(scores))
    if len(spoiled):
        pair = [features.ids[side[spoiled[0]]] for side in (trials.first, trials.second)]
        raise BackendError(
            f"{len(spoiled)} scores of the backend {backend.name!r} are no numbers, the first is that of {pair[0]} and "
            f"{pair[1]}; the features hold NaN or infinity. Extract them again."
        )
    return scores


def _figures(
    trials: Trials, scores: NDArray[np.float32], llrs: NDArray[np.float64], features: FeatureSet, seed: int
) -> Record:
    figures: Record = {name: figure(trials.labels, scores) for name, figure in FIGURES.items()}
    figures["min_cllr"] = min_cllr(trials.labels, scores)
    known = ~np.isnan(llrs)
    both = known.any() and 0 < trials.labels[known].sum() < known.sum()
    figures["cllr"] = cllr(trials.labels[known], llrs[known]) if both else math.nan
    low, high = _intervals(trials, scores, features, seed)
    for number, name in enumerate(FIGURES):
        figures |= {f"{name}_low": float(low.flat[number]), f"{name}_high": float(high.flat[number])}
    return figures


def _intervals(
    trials: Trials, scores: NDArray[np.float32], features: FeatureSet, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bounds of `FIGURES`, of scores that are sorted into bins."""
    speakers = features.labels.numpy()
    # Fine where targets are, where nontargets are, and among the highest nontargets, which decide the costs of rare
    # targets; equal scores share a bin.
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


def _calibrated(trials: Trials, scores: NDArray[np.float32], features: FeatureSet, seed: int) -> NDArray[np.float64]:
    """Return log-likelihood ratios (n_trials,), those of each half of the speakers calibrated by the other's trials.

    NaN for trials across both halves, one of whose speakers each calibration has heard; and all, where a half has no
    targets.
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


def _percent(share: float, digits: int = 2) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.{digits}f}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
