"""Calibrate the threshold below which a recording is rejected as an unknown speaker, and measure its error rates."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from corpora import Indices
from evaluation.fitting import FitJob, SelectedHead, fit_heads, rows_of
from evaluation.protocol import Fold, SplitRows
from features import FeatureSet, learned_bandwidth
from files import Record
from heads import PROBABILITY, FittedHead, HeadError, create_head, create_scaler, log_odds, mean_logits, min_speakers
from metrics import detection_identification_rate, equal_error_rate, equal_error_threshold, ratio_interval

logger = logging.getLogger(__name__)

# Number of groups of speakers that are held out of the training in turn.
SPEAKER_GROUPS = 4
# Head whose scores (log-likelihood ratios) are used if they detect unknown speakers better than the probabilities.
DETECTOR = "plda"

# Scores of the recordings of known and of unknown speakers.
Scores = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Rejection:
    """How a classifier rejects unknown speakers.

    Attributes
    ----------
    threshold : float
        Minimum score of a recording that is accepted.
    detector : FittedHead or None
        Head whose highest score is compared with the threshold; None is the classifier's own log-odds of the most
        probable speaker.
    figures : dict
        ``by`` (the score that is thresholded), ``n_unknown`` (number of speakers that were held out and
        have test recordings),
        ``known_rejected`` (share of the test recordings of known speakers that are rejected), ``unknown_accepted``
        (share of the recordings of unknown speakers that are accepted), both with ``_low`` and ``_high`` (95 %
        intervals over speakers), and ``dir_at_far_0.01`` (`metrics.detection_identification_rate`).
    """

    threshold: float
    detector: FittedHead | None
    figures: Record


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Scores of a classifier that was trained without some speakers.

    Attributes
    ----------
    calibration, test : dict
        For each kind of score, the scores of known and of unknown speakers; a higher score means more certain.
    right : ndarray (n_known_test,)
        bool, whether the speaker of a known test recording is identified correctly.
    labels : (ndarray, ndarray)
        Speakers of the test recordings, known and unknown.
    """

    calibration: dict[str, Scores]
    test: dict[str, Scores]
    right: NDArray[np.bool_]
    labels: tuple[Indices, Indices]


def calibrate_rejection(
    members: Sequence[FittedHead],
    sets: Sequence[FeatureSet],
    scaler: str,
    *,
    rows: SplitRows,
    train: Indices,
    seed: int,
) -> Rejection | None:
    """Hold speakers out of the training in turn, and find the score below which a recording is rejected.

    The threshold is that of equal errors on recordings that are not in the test set. The figures are measured on the
    test recordings, those of each fold at the threshold of the other folds.

    Parameters
    ----------
    members : sequence of FittedHead
        Members of the classifier.
    sets : sequence of FeatureSet
        For each member, the set that it was trained on.
    scaler : str
        Name of the members' scaler.
    rows : SplitRows
        The split that calibrates and tests; with a split by session, the figures are those of new sessions.
    train : ndarray of int64
        Rows that the members were fitted on.
    seed : int
        Random seed of the groups of speakers that are held out.

    Returns
    -------
    Rejection or None
        None if there are too few speakers or recordings to hold some out.
    """
    folds = []
    labels = sets[0].labels.numpy()
    speakers = np.random.default_rng(seed).permutation(np.unique(labels[rows.train]))
    n_needed = min_speakers([member.name for member in members])
    if len(speakers) < n_needed:
        logger.info("No threshold for unknown speakers was calibrated: at least %d speakers are needed.", n_needed)
        return None
    # Each group needs speakers with test recordings, which by session not all speakers have.
    speakers = speakers[np.argsort(~np.isin(speakers, labels[rows.test]), kind="stable")]
    groups = [speakers[first::SPEAKER_GROUPS] for first in range(min(SPEAKER_GROUPS, len(speakers)))]
    for number, held_out in enumerate(groups):
        fold = _hold_out(
            members, sets, scaler, rows=rows, number=number % len(rows.folds), is_unknown=np.isin(labels, held_out)
        )
        if isinstance(fold, str):
            logger.info("No threshold for unknown speakers was calibrated: %s", fold)
            return None
        folds.append(fold)
    shared = set.intersection(*(set(fold.calibration) for fold in folds))
    kinds = [kind for kind in (PROBABILITY, DETECTOR) if kind in shared and len(speakers) >= min_speakers([kind])]
    pooled = {kind: _pool([fold.calibration[kind] for fold in folds]) for kind in kinds}
    kind = min(kinds, key=lambda name: equal_error_rate(*pooled[name]))
    detector = _fit_detector(sets[0], scaler, train) if kind == DETECTOR else None
    if kind == DETECTOR and detector is None:
        kind = PROBABILITY
    return Rejection(equal_error_threshold(*pooled[kind]), detector, _figures(folds, kind))


def _hold_out(
    members: Sequence[FittedHead],
    sets: Sequence[FeatureSet],
    scaler: str,
    *,
    rows: SplitRows,
    number: int,
    is_unknown: NDArray[np.bool_],
) -> _HeldOut | str:
    """Train the members and the detector without the unknown speakers; return a sentence if that is not possible.

    Recordings of known speakers that calibrate are scored by heads that were fitted on a fold of the split. Their
    scores are put on the scale of the heads that were fitted on all training rows, which score all other recordings.
    """
    parts = rows.folds[number].fit, rows.held_out(number), rows.train, rows.test
    fit, validation, train, test = (part[~is_unknown[part]] for part in parts)
    training = np.union1d(rows.train, rows.validation)
    unknown, unknown_test = training[is_unknown[training]], rows.test[is_unknown[rows.test]]
    if not min(map(len, (validation, test, unknown, unknown_test))):
        return "too few recordings to hold speakers out"
    split = SplitRows(folds=[Fold(fit, validation)], train=train, test=test)
    jobs = [
        FitJob(member.name, given, [member.head.hyper_parameters()])
        for member, given in zip(members, sets, strict=True)
    ]
    detectors = [] if sets[0].layers else [FitJob(DETECTOR, sets[0], [{}])]
    results = {id(job): result for job, result in fit_heads([*jobs, *detectors], scaler, split)}
    temperature = np.float32(members[0].temperature)
    fitted = {PROBABILITY: [results[id(job)] for job in jobs], DETECTOR: [results[id(job)] for job in detectors]}
    calibration, tested = {}, {}
    for kind, selected in fitted.items():
        usable = [each for each in selected if isinstance(each, SelectedHead)]
        if len(usable) < len(selected) and kind == PROBABILITY:
            return next(each for each in selected if isinstance(each, str))
        if not usable:
            continue
        scores_of = partial(_scores, sets=sets, kind=kind, temperature=temperature)
        validated, final = [each.validated[0] for each in usable], [each.fitted for each in usable]
        # Scores of heads with fewer training sessions have another scale, which the unknown speakers show.
        before, after = scores_of(validated, unknown), scores_of(final, unknown)
        calibration[kind] = _rescaled(scores_of(validated, validation), before, after), after
        tested[kind] = scores_of(final, test), scores_of(final, unknown_test)
        if kind == PROBABILITY:
            logits = mean_logits([each.test_logits for each in usable])
            predictions = usable[0].fitted.head.classes_[logits.argmax(axis=1)]
    labels = sets[0].labels.numpy()
    return _HeldOut(calibration, tested, right=predictions == labels[test], labels=(labels[test], labels[unknown_test]))


def _scores(
    heads: Sequence[FittedHead], rows: Indices, *, sets: Sequence[FeatureSet], kind: str, temperature: np.float32
) -> NDArray[np.float64]:
    """Return the scores of rows: the log-odds of the heads' mean logits, or the detector's highest score."""
    logits = mean_logits([head.logits(rows_of(given, rows)[0]) for head, given in zip(heads, sets, strict=False)])
    return log_odds(logits / temperature) if kind == PROBABILITY else _highest(logits)


def _rescaled(
    scores: NDArray[np.float64], before: NDArray[np.float64], after: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Map scores linearly, so that other scores keep their mean and deviation: those before become those after."""
    if not before.std():
        return scores
    rescaled: NDArray[np.float64] = after.mean() + (scores - before.mean()) * (after.std() / before.std())
    return rescaled


def _highest(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the highest score of each row."""
    highest: NDArray[np.float64] = logits.max(axis=1).astype(np.float64)
    return highest


def _figures(folds: Sequence[_HeldOut], kind: str) -> Record:
    """Return the error rates on the test recordings, those of each fold at the threshold of the other folds."""
    rejected, accepted = [], []
    for number, fold in enumerate(folds):
        others = [other.calibration[kind] for other in (*folds[:number], *folds[number + 1 :])]
        threshold = equal_error_threshold(*_pool(others))
        known, unknown = fold.test[kind]
        rejected.append(known < threshold)
        accepted.append(unknown >= threshold)
    n_unknown = len(np.unique(np.concatenate([fold.labels[1] for fold in folds])))
    figures: Record = {"by": kind, "n_unknown": n_unknown}
    for side, (name, wrong) in enumerate((("known_rejected", rejected), ("unknown_accepted", accepted))):
        labels, errors = np.concatenate([fold.labels[side] for fold in folds]), np.concatenate(wrong)
        low, high = ratio_interval(np.bincount(labels, errors), np.bincount(labels).astype(np.float64))
        figures |= {name: float(errors.mean()), f"{name}_low": low, f"{name}_high": high}
    known, unknown = (np.concatenate([fold.test[kind][side] for fold in folds]) for side in (0, 1))
    right = np.concatenate([fold.right for fold in folds])
    return figures | {"dir_at_far_0.01": detection_identification_rate(known, right, unknown, false_accept=0.01)}


def _pool(sides: Sequence[Scores]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return labels (whether the speaker is known) and scores of all recordings."""
    known, unknown = (np.concatenate([side[number] for side in sides]) for number in (0, 1))
    return np.repeat([True, False], [len(known), len(unknown)]), np.concatenate([known, unknown])


def _fit_detector(features: FeatureSet, scaler: str, rows: Indices) -> FittedHead | None:
    """Fit the detector to some rows; return None if that is not possible."""
    X, y = rows_of(features, rows)
    try:
        fitted = create_scaler(scaler).fit(X, torch.from_numpy(y))
        head = create_head(DETECTOR).fit(fitted.transform(X), y)
    except HeadError:
        return None
    crop = features.audio.crop if features.audio else None
    return FittedHead(
        scaler=fitted,
        head=head,
        name=DETECTOR,
        encoder=features.encoder,
        crop=crop,
        bandwidth=learned_bandwidth(features, rows),
    )
