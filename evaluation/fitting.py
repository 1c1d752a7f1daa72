"""Fit heads, with the given settings or with those that validation selects."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from corpora import Indices
from encoders import resolve_device
from evaluation.protocol import Fold, SplitRows
from features import FeatureSet, learned_bandwidth
from heads import (
    FittedHead,
    Head,
    HeadSource,
    MinibatchHead,
    create_head,
    create_scaler,
    head_options,
    head_source,
    search_space,
)
from metrics import log_loss, ranks, top_k_accuracy

Settings = dict[str, Any]
# Rows and labels for fitting, and for validation.
Arrays = tuple[NDArray[np.float32], Indices, NDArray[np.float32], Indices]


@dataclass(frozen=True, eq=False)
class FitJob:
    """A head to fit to a set of features, and the settings to try."""

    name: str
    features: FeatureSet
    settings: Sequence[Settings]


@dataclass(frozen=True, eq=False)
class SelectedHead:
    """A head with the best of its settings.

    Attributes
    ----------
    features : FeatureSet
        The set of the job.
    fitted : FittedHead
        The head to test, fitted on all of the training part. Its temperature is 1.
    settings : dict
        Settings of the head.
    validated : tuple of FittedHead
        For each fold, the head that was fitted without the validation rows.
    val_logits : ndarray (n_validation, n_classes)
        Logits of these heads for their validation rows, in the order of the folds.
    test_logits : ndarray (n_test, n_classes)
    seconds : float
        Time of the fits with all settings.
    history : list of dict
        Figures of each epoch, if the head is trained in epochs (`MinibatchHead.history_`).
    """

    features: FeatureSet
    fitted: FittedHead
    settings: Settings
    validated: tuple[FittedHead, ...]
    val_logits: NDArray[np.float32]
    test_logits: NDArray[np.float32]
    seconds: float
    history: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class _Fit:
    """A head that was fitted with one setting on one fold.

    Attributes
    ----------
    head : Head or None
        None if it could not be fitted.
    problem : str
        Why it could not be fitted, in a sentence.
    seconds : float
    logits : ndarray (n_validation, n_classes)
        Logits of the fold's validation rows.
    """

    head: Head | None
    problem: str
    seconds: float
    logits: NDArray[np.float32]


class ValidationFigures(NamedTuple):
    """Figures of a head on the validation rows.

    Attributes
    ----------
    temperature : float
        Divisor of the logits that calibrates them.
    accuracy : float
    log_loss : float
        With this temperature.
    """

    temperature: float
    accuracy: float
    log_loss: float


def settings_to_try(name: str, options: Mapping[str, Any], budget: int, *, seed: int) -> list[Settings]:
    """Return the settings that tuning tries for a head: the given ones, and more that cover its search space evenly.

    Parameters
    ----------
    name : str
        Name from `HEADS`.
    options : mapping
        Hyper-parameters; those that the head does not have are left out.
    budget : int
        Number of settings; 1 is no tuning. A head without hyper-parameters to search has one setting.
    seed : int
        Random seed of the scrambled Halton sequence that the settings come from.
    """
    valid = head_options(name)
    given = {key: value for key, value in options.items() if key in valid}
    space = search_space(name)
    if budget <= 1 or not space:
        return [given]
    from scipy.stats import qmc  # here, because it takes long to import

    points = qmc.Halton(len(space), seed=seed).random(budget - 1)
    settings = [given]
    for point in points.tolist():
        drawn = {key: _value_at(space[key], position) for key, position in zip(space, point, strict=True)}
        settings.append({**given, **drawn})
    return settings


def _value_at(choices: Any, position: float) -> Any:
    """Return the value at a position from 0 to 1 in a list, or that quantile of a distribution."""
    return choices[int(position * len(choices))] if isinstance(choices, list) else float(choices.ppf(position))


def fit_heads(jobs: Sequence[FitJob], scaler: str, rows: SplitRows) -> Iterator[tuple[FitJob, SelectedHead | str]]:
    """Fit heads, and select the settings of each by validation.

    The highest validation accuracy selects (ties are broken by the log loss), or the lowest log loss if the split has a
    cross-validation over sessions.

    Several settings are fitted in parallel on a CPU.

    Yields
    ------
    (FitJob, SelectedHead or str)
        A head that cannot be fitted is replaced by a sentence that says why. Jobs of the same features are adjacent.
    """
    for features in {id(job.features): job.features for job in jobs}.values():
        own = [job for job in jobs if job.features is features]
        try:
            tables = [_Table(features, scaler, fold) for fold in rows.folds]
        except ValueError as error:
            yield from ((job, str(error)) for job in own)
            continue
        fits = _fit_all([(job.name, settings) for job in own for settings in job.settings], tables, len(own))
        for job in own:
            yield job, _select(job, [next(fits) for _ in job.settings], tables, rows=rows)


def _fit_all(tasks: Sequence[tuple[str, Settings]], tables: Sequence["_Table"], n_jobs: int) -> Iterator[list[_Fit]]:
    """Fit each head with each of its settings on each fold; with several settings, those on the CPU in parallel."""
    each = [(head_source(name), settings, table.arrays) for name, settings in tasks for table in tables]
    on_cpu = [_device_of(name, settings) == "cpu" for name, settings in tasks for _ in tables]
    n_workers = min(_n_cores(), sum(on_cpu)) if len(tasks) > n_jobs else 1
    work = (delayed(_fit_one)(*task) for task, parallel in zip(each, on_cpu, strict=True) if parallel)
    done = iter(Parallel(n_jobs=max(n_workers, 1))(work))
    fits = [next(done) if parallel else _fit_one(*task) for task, parallel in zip(each, on_cpu, strict=True)]
    return (fits[first : first + len(tables)] for first in range(0, len(fits), len(tables)))


def _device_of(name: str, settings: Settings) -> str:
    """Return the type of the device that a head will be trained on."""
    return resolve_device(settings.get("device", "auto")).type if "device" in head_options(name) else "cpu"


class _Table:
    """Scaled training and validation rows of a fold, computed once for several heads."""

    def __init__(self, features: FeatureSet, scaler: str, fold: Fold) -> None:
        X, y = rows_of(features, fold.fit)
        X_val, y_val = rows_of(features, fold.validation)
        self.scaler = create_scaler(scaler).fit(X, torch.from_numpy(y))
        # As numpy arrays, which joblib shares with its workers.
        self.arrays: Arrays = self.scaler.transform(X).numpy(), y, self.scaler.transform(X_val).numpy(), y_val


def _fit_one(source: HeadSource, settings: Settings, arrays: Arrays) -> _Fit:
    started = time.perf_counter()
    X, y, X_val, y_val = arrays
    # joblib maps large arrays read-only, and torch needs writable ones.
    X, X_val = (rows if rows.flags.writeable else rows.copy() for rows in (X, X_val))
    try:
        head = source.create(**settings).fit(X, y, X_val, y_val)
        logits = head.decision_function(X_val)
    except ValueError as error:
        seconds, no_logits = time.perf_counter() - started, np.zeros((0, 0), np.float32)
        return _Fit(head=None, problem=str(error), seconds=seconds, logits=no_logits)
    return _Fit(head=head, problem="", seconds=time.perf_counter() - started, logits=logits)


def _select(
    job: FitJob, fits: Sequence[list[_Fit]], tables: Sequence[_Table], *, rows: SplitRows
) -> SelectedHead | str:
    """Return the head with the best settings, fitted on all of the training part."""
    y_val = rows_of(job.features, rows.validation)[1]
    keys = [_selection_key(of_setting, y_val, rows) for of_setting in fits]
    best = min(range(len(fits)), key=keys.__getitem__)
    settings, of_best = job.settings[best], fits[best]
    seconds = sum(fit.seconds for of_setting in fits for fit in of_setting)
    heads = [fit.head for fit in of_best if fit.head is not None]
    if len(heads) < len(of_best):
        return next(fit.problem for fit in of_best if fit.head is None)
    features = job.features
    fitted_on: dict[str, Any] = {
        "name": head_source(job.name).name,
        "encoder": features.encoder,
        "crop": features.audio.crop if features.audio else None,
        "bandwidth": learned_bandwidth(features, rows.train),
    }
    validated = tuple(
        FittedHead(scaler=table.scaler, head=head, **fitted_on) for head, table in zip(heads, tables, strict=True)
    )
    fitted = validated[0]
    if len(rows.train) > len(rows.folds[0].fit):
        started = time.perf_counter()
        try:
            fitted = refit_head(validated, features.select(rows.train.tolist()), settings, name=job.name)
        except ValueError as error:
            return str(error)
        seconds += time.perf_counter() - started
    X_test = rows_of(features, rows.test)[0]
    return SelectedHead(
        features=features,
        fitted=fitted,
        settings=settings,
        validated=validated,
        val_logits=np.concatenate([fit.logits for fit in of_best]),
        test_logits=fitted.logits(X_test) if len(X_test) else np.zeros((0, len(heads[0].classes_)), np.float32),
        seconds=seconds,
        history=heads[0].history_ if isinstance(heads[0], MinibatchHead) else (),
    )


def refit_head(validated: Sequence[FittedHead], features: FeatureSet, settings: Settings, *, name: str) -> FittedHead:
    """Fit a scaler and a head again on all rows of a set, with the name and the settings of heads that were validated.

    A head that is trained in epochs is trained for the number that was best by validation, the median over folds.

    Raises
    ------
    HeadError
        The head cannot be fitted to these rows.
    """
    first = validated[0]
    epochs = [member.head.best_epoch_ for member in validated if isinstance(member.head, MinibatchHead)]
    if epochs:
        settings = {**settings, "epochs": round(float(np.median(epochs)))}
    y = features.labels.numpy()
    scaler = create_scaler(first.scaler.name).fit(features.features, features.labels)
    head = create_head(name, **settings).fit(scaler.transform(features.features), y)
    return replace(first, scaler=scaler, head=head, bandwidth=learned_bandwidth(features))


def _selection_key(fits: Sequence[_Fit], y_val: Indices, rows: SplitRows) -> tuple[float, ...]:
    """Return the key of a setting, of which the lowest is selected."""
    if any(fit.head is None for fit in fits):
        return (np.inf, np.inf)
    classes = next(fit.head.classes_ for fit in fits if fit.head is not None)
    found = validate(y_val, np.concatenate([fit.logits for fit in fits]), classes, rows=rows)
    return (found.log_loss,) if rows.groups is not None else (-found.accuracy, found.log_loss)


def validate(y_val: Indices, logits: NDArray[np.float32], classes: Indices, *, rows: SplitRows) -> ValidationFigures:
    """Return the figures of a head on the validation rows of a split.

    With a cross-validation over sessions, they are means over the sessions that were held out, so that each session
    counts the same; rows that were validated by utterance count only if there are no others.

    Parameters
    ----------
    y_val : ndarray (n_validation,)
        Speakers.
    logits : ndarray (n_validation, n_classes)
    classes : ndarray (n_classes,)
        Class of each column, sorted.
    rows : SplitRows
        The split.
    """
    groups = rows.groups
    if groups is None or not (groups >= 0).any():
        temperature = fit_temperature(logits, y_val, classes)
        return ValidationFigures(
            temperature,
            top_k_accuracy(y_val, logits, 1, classes=classes),
            log_loss(y_val, logits / temperature, classes),
        )
    held_out = groups >= 0
    y_val, logits, groups = y_val[held_out], logits[held_out], groups[held_out]
    temperature = fit_temperature(logits, y_val, classes)
    losses = -log_softmax(logits.astype(np.float64) / temperature, axis=1)[
        np.arange(len(y_val)), np.searchsorted(classes, y_val)
    ]
    numbers = np.unique(groups, return_inverse=True)[1]
    counts = np.bincount(numbers)
    accuracy, loss = (
        float((np.bincount(numbers, values) / counts).mean()) for values in (ranks(y_val, logits, classes) == 0, losses)
    )
    return ValidationFigures(temperature, accuracy, loss)


def fit_temperature(logits: NDArray[np.float32], labels: Indices, classes: Indices) -> float:
    """Return the temperature that calibrates logits on the validation rows (Guo et al., 2017).

    A log-normal prior with median 1 regularises the temperature if there are few rows: ten rows without an error do not
    show that the error rate is zero.

    Parameters
    ----------
    logits : ndarray (n, n_classes)
    labels : ndarray (n,)
    classes : ndarray (n_classes,)
        Class of each column, sorted.

    Returns
    -------
    float
        From 0.01 to 1,000.
    """

    def cost(log_temperature: float) -> float:
        loss = log_loss(labels, logits / np.exp(log_temperature), classes)
        return len(labels) * loss + log_temperature**2 / 2

    return float(np.exp(minimize_scalar(cost, bounds=np.log([0.01, 1000.0]), method="bounded").x))


def rows_of(features: FeatureSet, rows: Indices) -> tuple[torch.Tensor, Indices]:
    """Return the vectors of rows, and the numbers of their speakers."""
    index = torch.from_numpy(rows)
    return features.features[index], features.labels[index].numpy()


def _n_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
