"""How well strangers are told from the speakers of a classifier, and the threshold that tells them."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.fitting import Chosen, Job, fit_heads, rows_of
from evaluation.protocol import Parts, Rows
from evaluation.records import Record
from features import FeatureSet
from heads import FittedHead, HeadError, create_head, create_scaler
from heads.classifier import log_odds, mean_logits
from metrics import detection_identification_rate, equal_error_rate, equal_error_threshold, ratio_interval

logger = logging.getLogger(__name__)

# Groups of speakers that are left out of the training in turn.
FOLDS = 4
# The head whose scores, likelihood ratios, tell strangers best where the probabilities do not.
DETECTOR = "plda"
PROBABILITY = "probability"


@dataclass(frozen=True, eq=False)
class Rejection:
    """How a classifier tells strangers.

    Attributes
    ----------
    threshold : float
        What a recording must reach.
    detector : FittedHead or None
        Whose highest score must reach it; None are the classifier's own log-odds of the likeliest speaker.
    figures : dict
        ``by`` (what tells strangers), ``n_strangers`` (speakers who were left out), ``false_alarm`` (share of the test
        recordings of speakers who are known that are called unknown), ``miss`` (share of the strangers' that are given
        a name), both with ``_low`` and ``_high`` (95 % intervals over speakers), ``dir_at_far_0.01``
        (`metrics.detection_identification_rate`); ``split_by`` and ``seed`` of the one split that they are of.
    """

    threshold: float
    detector: FittedHead | None
    figures: Record


@dataclass(frozen=True, eq=False)
class _Fold:
    """Scores of a classifier without some speakers, by what tells strangers: higher is surer.

    `calibration` and `test` have the scores of known speakers' recordings and those of strangers'; `right` tells which
    of the known test recordings are given the right name, `labels` whose the test recordings of both are.
    """

    calibration: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    test: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    right: NDArray[np.bool_]
    labels: tuple[Rows, Rows]


def calibrate_rejection(
    members: Sequence[FittedHead], sets: Sequence[FeatureSet], scaler: str, parts: Parts, seed: int
) -> Rejection | None:
    """Leave speakers out of the training in turn, and find the score below which a recording is a stranger's.

    The threshold is that of equal errors on recordings that the test does not have; the figures are of the test
    recordings, each fold's by the threshold that the strangers of the other folds give.

    Parameters
    ----------
    members : sequence of FittedHead
        Of the classifier.
    sets : sequence of FeatureSet
        For each member the set that it was trained on, as it was given it.
    scaler : str
        Name of the members' scaler.
    parts : Parts
        The classifier's split.
    seed : int
        Of the folds.

    Returns
    -------
    Rejection or None
        None if there are too few speakers or recordings to leave some out.
    """
    folds = []
    labels = sets[0].labels.numpy()
    speakers = np.random.default_rng(seed).permutation(np.unique(labels[parts.fit]))
    if len(speakers) < 3:
        return None
    for left_out in np.array_split(speakers, min(FOLDS, len(speakers))):
        fold = _leave_out(members, sets, scaler, parts, np.isin(labels, left_out))
        if isinstance(fold, str):
            logger.info("No threshold for strangers was calibrated: %s", fold)
            return None
        folds.append(fold)
    shared = set.intersection(*(set(fold.calibration) for fold in folds))
    ways = [way for way in (PROBABILITY, DETECTOR) if way in shared]
    pooled = {way: _pool([fold.calibration[way] for fold in folds]) for way in ways}
    way = min(ways, key=lambda name: equal_error_rate(*pooled[name]))
    # The detector of all speakers is fitted as the members were.
    detector = _fit_detector(sets[0], scaler, parts.train) if way == DETECTOR else None
    if way == DETECTOR and detector is None:
        way = PROBABILITY
    return Rejection(equal_error_threshold(*pooled[way]), detector, _figures(folds, way, len(speakers)))


def _leave_out(
    members: Sequence[FittedHead], sets: Sequence[FeatureSet], scaler: str, parts: Parts, strange: NDArray[np.bool_]
) -> _Fold | str:
    """Train the members and the detector without some speakers; or say why that cannot be done."""
    fit, validation, test = (rows[~strange[rows]] for rows in (parts.fit, parts.validation, parts.test))
    strangers = [rows[strange[rows]] for rows in (np.concatenate([parts.fit, parts.validation]), parts.test)]
    if not min(len(validation), len(test), *map(len, strangers)):
        return "too few recordings to leave speakers out"
    edges = np.cumsum([len(test), len(strangers[0])])
    split = Parts(fit, validation, fit, np.concatenate([test, *strangers]))
    jobs = [
        Job(member.name, given, [member.head.hyper_parameters()]) for member, given in zip(members, sets, strict=True)
    ]
    detectors = [] if sets[0].layers else [Job(DETECTOR, sets[0], [{}])]
    results = {id(job): result for job, result in fit_heads([*jobs, *detectors], scaler, split)}
    chosen = []
    for job in jobs:
        result = results[id(job)]
        if isinstance(result, str):
            return result
        chosen.append(result)
    val_logits, logits = (
        mean_logits([getattr(each, part) for each in chosen]) / np.float32(members[0].temperature)
        for part in ("val_logits", "test_logits")
    )
    scores = {PROBABILITY: [log_odds(part) for part in (val_logits, logits)]}
    for result in (results[id(job)] for job in detectors):
        if isinstance(result, Chosen):
            scores[DETECTOR] = [part.max(axis=1).astype(np.float64) for part in (result.val_logits, result.test_logits)]
    calibration, tested = {}, {}
    for way, (of_validation, of_test) in scores.items():
        known, calibrating, strange_test = np.split(of_test, edges)
        calibration[way], tested[way] = (of_validation, calibrating), (known, strange_test)
    answers = chosen[0].fitted.head.classes_[logits[: len(test)].argmax(axis=1)]
    labels = sets[0].labels.numpy()
    return _Fold(calibration, tested, answers == labels[test], (labels[test], labels[strangers[1]]))


def _figures(folds: Sequence[_Fold], way: str, n_strangers: int) -> Record:
    """Return the rates on the test recordings, those of each fold by the threshold that the others give."""
    wrong: tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]]] = [], []
    for number, fold in enumerate(folds):
        others = [other.calibration[way] for other in (*folds[:number], *folds[number + 1 :])]
        threshold = equal_error_threshold(*_pool(others))
        known, strange = fold.test[way]
        wrong[0].append(known < threshold)
        wrong[1].append(strange >= threshold)
    figures: Record = {"by": way, "n_strangers": n_strangers}
    for side, name in enumerate(("false_alarm", "miss")):
        labels, errors = np.concatenate([fold.labels[side] for fold in folds]), np.concatenate(wrong[side])
        low, high = ratio_interval(np.bincount(labels, errors), np.bincount(labels).astype(np.float64))
        figures |= {name: float(errors.mean()), f"{name}_low": low, f"{name}_high": high}
    known, strange = (np.concatenate([fold.test[way][side] for fold in folds]) for side in (0, 1))
    right = np.concatenate([fold.right for fold in folds])
    return figures | {"dir_at_far_0.01": detection_identification_rate(known, right, strange, 0.01)}


def _pool(
    sides: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return labels and scores of known speakers' and strangers' recordings."""
    known, strange = (np.concatenate([side[number] for side in sides]) for number in (0, 1))
    return np.repeat([True, False], [len(known), len(strange)]), np.concatenate([known, strange])


def _fit_detector(features: FeatureSet, scaler: str, rows: Rows) -> FittedHead | None:
    X, y = rows_of(features, rows)
    try:
        fitted = create_scaler(scaler).fit(X, torch.from_numpy(y))
        head = create_head(DETECTOR).fit(fitted.transform(X), y)
    except HeadError:
        return None
    return FittedHead(fitted, head, DETECTOR, features.encoder, features.audio.crop if features.audio else None)


def about_strangers(figures: Record | None) -> list[str]:
    """Say how well strangers are told, in sentences."""
    if not figures:
        return []
    by = "its own probability" if figures["by"] == PROBABILITY else f"scores of {figures['by']}"
    miss, false_alarm = (
        f"{_percent(figures[name])} % ({_percent(figures[f'{name}_low'])} to {_percent(figures[f'{name}_high'])})"
        for name in ("miss", "false_alarm")
    )
    return [
        f"strangers ({figures['n_strangers']} left out in turn, by {figures['split_by']}, {by}): {miss} get a name",
        f"known speakers by that threshold: {false_alarm} get none; DIR at FAR 1 %: "
        f"{_percent(figures['dir_at_far_0.01'])}",
    ]


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"
