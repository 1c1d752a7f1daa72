"""Fit heads, with the given settings or with those that validation selects."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import qmc

from corpora import Indices
from encoders import resolve_device
from evaluation.protocol import SplitRows
from features import FeatureSet
from heads import FittedHead, Head, HeadError, MinibatchHead, create_head, create_scaler, head_options, search_space
from metrics import log_loss, top_k_accuracy

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
    fitted : FittedHead
        The head to test, fitted on all of the training part. Its temperature is 1.
    settings : dict
        Settings of the head.
    val_logits : ndarray (n_validation, n_classes)
        Logits of the same head, fitted without the validation rows.
    test_logits : ndarray (n_test, n_classes)
    seconds : float
        Time of the fits with all settings.
    history : list of dict
        Figures of each epoch, if the head is trained in epochs (`MinibatchHead.history_`).
    """

    fitted: FittedHead
    settings: Settings
    val_logits: NDArray[np.float32]
    test_logits: NDArray[np.float32]
    seconds: float
    history: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class _Fit:
    """A head that was fitted with one setting.

    Attributes
    ----------
    head : Head or None
        None if it could not be fitted.
    problem : str
        Why it could not be fitted, in a sentence.
    seconds : float
    logits : ndarray (n_validation, n_classes)
    score : (float, float)
        Validation accuracy and negative validation log loss; higher is better.
    """

    head: Head | None
    problem: str
    seconds: float
    logits: NDArray[np.float32]
    score: tuple[float, float] = (-1.0, 0.0)


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
    """Fit heads, and select the settings of each by validation accuracy (ties are broken by validation log loss).

    Several settings are fitted in parallel on a CPU.

    Yields
    ------
    (FitJob, SelectedHead or str)
        A head that cannot be fitted is replaced by a sentence that says why. Jobs of the same features are adjacent.
    """
    for features in {id(job.features): job.features for job in jobs}.values():
        own = [job for job in jobs if job.features is features]
        try:
            table = _Table(features, scaler, rows)
        except ValueError as error:
            yield from ((job, str(error)) for job in own)
            continue
        fits = _fit_all([(job.name, settings) for job in own for settings in job.settings], table, len(own))
        for job in own:
            n_settings = len(job.settings)
            yield job, _select(job, fits[:n_settings], table, rows=rows)
            fits = fits[n_settings:]


def _fit_all(tasks: Sequence[tuple[str, Settings]], table: "_Table", n_jobs: int) -> list[_Fit]:
    """Fit each head with each of its settings; if heads have several, those on the CPU are fitted in parallel."""
    on_cpu = [_device_of(name, settings) == "cpu" for name, settings in tasks]
    n_workers = min(_n_cores(), sum(on_cpu)) if len(tasks) > n_jobs else 1
    work = (
        delayed(_fit_one)(name, settings, table.arrays)
        for (name, settings), parallel in zip(tasks, on_cpu, strict=True)
        if parallel
    )
    done = iter(Parallel(n_jobs=max(n_workers, 1))(work))
    return [
        next(done) if parallel else _fit_one(name, settings, table.arrays)
        for (name, settings), parallel in zip(tasks, on_cpu, strict=True)
    ]


def _device_of(name: str, settings: Settings) -> str:
    """Return the type of the device that a head will be trained on."""
    return resolve_device(settings.get("device", "auto")).type if "device" in head_options(name) else "cpu"


class _Table:
    """Scaled training and validation rows, computed once for several heads."""

    def __init__(self, features: FeatureSet, scaler: str, rows: SplitRows) -> None:
        X, y = rows_of(features, rows.fit)
        X_val, y_val = rows_of(features, rows.validation)
        self.scaler = create_scaler(scaler).fit(X, torch.from_numpy(y))
        # As numpy arrays, which joblib shares with its workers.
        self.arrays: Arrays = self.scaler.transform(X).numpy(), y, self.scaler.transform(X_val).numpy(), y_val


def _fit_one(name: str, settings: Settings, arrays: Arrays) -> _Fit:
    started = time.perf_counter()
    X, y, X_val, y_val = arrays
    # joblib maps large arrays read-only, and torch needs writable ones.
    X, X_val = (rows if rows.flags.writeable else rows.copy() for rows in (X, X_val))
    try:
        head = create_head(name, **settings).fit(X, y, X_val, y_val)
        logits = head.decision_function(X_val)
    except ValueError as error:
        seconds, no_logits = time.perf_counter() - started, np.zeros((0, 0), np.float32)
        return _Fit(head=None, problem=str(error), seconds=seconds, logits=no_logits)
    score = validation_score(y_val, logits, head.classes_)
    seconds = time.perf_counter() - started
    return _Fit(head=head, problem="", seconds=seconds, logits=logits, score=(score[0], -score[1]))


def _select(job: FitJob, fits: Sequence[_Fit], table: _Table, *, rows: SplitRows) -> SelectedHead | str:
    """Return the head with the best settings, fitted on all of the training part."""
    best = max(range(len(fits)), key=lambda number: fits[number].score)
    fit, settings = fits[best], job.settings[best]
    seconds = sum(each.seconds for each in fits)
    if fit.head is None:
        return fit.problem
    head, fitted_scaler = fit.head, table.scaler
    history = head.history_ if isinstance(head, MinibatchHead) else ()
    if len(rows.train) > len(rows.fit):
        started = time.perf_counter()
        again = {**settings, "epochs": head.best_epoch_} if isinstance(head, MinibatchHead) else settings
        X, y = rows_of(job.features, rows.train)
        fitted_scaler = create_scaler(table.scaler.name).fit(X, torch.from_numpy(y))
        try:
            head = create_head(job.name, **again).fit(fitted_scaler.transform(X), y)
        except HeadError as error:
            return str(error)
        seconds += time.perf_counter() - started
    features = job.features
    crop = features.audio.crop if features.audio else None
    fitted = FittedHead(scaler=fitted_scaler, head=head, name=job.name, encoder=features.encoder, crop=crop)
    return SelectedHead(
        fitted=fitted,
        settings=settings,
        val_logits=fit.logits,
        test_logits=fitted.logits(rows_of(features, rows.test)[0]),
        seconds=seconds,
        history=history,
    )


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


def validation_score(y_val: Indices, logits: NDArray[np.float32], classes: Indices) -> tuple[float, float]:
    """Return the validation accuracy and the validation log loss."""
    return top_k_accuracy(y_val, logits, 1, classes=classes), log_loss(y_val, logits, classes)


def rows_of(features: FeatureSet, rows: Indices) -> tuple[torch.Tensor, Indices]:
    """Return the vectors of rows, and the numbers of their speakers."""
    index = torch.from_numpy(rows)
    return features.features[index], features.labels[index].numpy()


def _n_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
