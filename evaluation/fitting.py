"""Fit heads, with the settings asked for or with those that validation prefers."""

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

from encoders import resolve_device
from evaluation.protocol import Parts, Rows
from features import FeatureSet
from heads import Head, HeadError, create_head, create_scaler
from heads.fitted import FittedHead
from heads.minibatch import MinibatchHead
from heads.registry import head_options, search_space
from metrics import log_loss, top_k_accuracy

Settings = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Job:
    """One head to be fitted to a set of features, and the settings to try, the first of which is tried always."""

    name: str
    features: FeatureSet
    settings: Sequence[Settings]


@dataclass(frozen=True, eq=False)
class Chosen:
    """A head that was fitted and, if need be, chosen among its settings.

    Attributes
    ----------
    fitted : FittedHead
        For the test: fitted to all of train. Its temperature is 1.
    settings : dict
        Those that it was given.
    val_logits : ndarray (n_validation, n_classes)
        Of the head that was fitted to the rows without validation.
    test_logits : ndarray (n_test, n_classes)
    seconds : float
        Of all fits.
    history : list of dict
        Of each epoch, where the head is trained in epochs (`MinibatchHead.history_`).
    """

    fitted: FittedHead
    settings: Settings
    val_logits: NDArray[np.float32]
    test_logits: NDArray[np.float32]
    seconds: float
    history: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True, eq=False)
class _Trial:
    head: Head | None
    problem: str
    seconds: float
    logits: NDArray[np.float32]
    score: tuple[float, float] = (-1.0, 0.0)


def settings_to_try(name: str, options: Mapping[str, Any], budget: int, seed: int) -> list[Settings]:
    """Return the settings that tuning tries of a head: those given, and more that cover its search space evenly.

    Parameters
    ----------
    name : str
        A name of `HEADS`.
    options : mapping
        Hyper-parameters; those that the head does not have are left out.
    budget : int
        Settings in all; 1 is no tuning. A head without hyper-parameters to search has one.
    seed : int
        Of the points, which are those of a scrambled Halton sequence.
    """
    valid = head_options(name)
    given = {key: value for key, value in options.items() if key in valid}
    space = search_space(name)
    if budget <= 1 or not space:
        return [given]
    points = qmc.Halton(len(space), seed=seed).random(budget - 1)
    return [given] + [
        {**given, **{key: _at(choices, share) for (key, choices), share in zip(space.items(), point, strict=True)}}
        for point in points.tolist()
    ]


def _at(choices: Any, share: float) -> Any:
    """Return the value at a share of a list, or of a distribution."""
    return choices[int(share * len(choices))] if isinstance(choices, list) else float(choices.ppf(share))


def fit_heads(jobs: Sequence[Job], scaler: str, parts: Parts) -> Iterator[tuple[Job, Chosen | str]]:
    """Fit heads, and choose each one's settings by validation accuracy (of equals, by validation log loss).

    On a CPU, several settings are tried in parallel.

    Yields
    ------
    (Job, Chosen or str)
        A sentence in place of a head that cannot be fitted; in order where all jobs are of the same features.
    """
    for features in {id(job.features): job.features for job in jobs}.values():
        own = [job for job in jobs if job.features is features]
        try:
            table = _Table(features, scaler, parts)
        except ValueError as error:
            yield from ((job, str(error)) for job in own)
            continue
        trials = _try_all([(job.name, settings) for job in own for settings in job.settings], table, len(own))
        for job in own:
            first = len(job.settings)
            yield job, _choose(job, trials[:first], table, scaler, parts)
            trials = trials[first:]


def _try_all(tasks: Sequence[tuple[str, Settings]], table: "_Table", n_jobs: int) -> list["_Trial"]:
    """Fit each head with each settings: those on the CPU in parallel if there is more than one settings a head."""
    on_cpu = [_device_of(name, settings) == "cpu" for name, settings in tasks]
    n_workers = min(_n_cores(), sum(on_cpu)) if len(tasks) > n_jobs else 1
    work = (
        delayed(_try)(name, settings, *table.arrays)
        for (name, settings), parallel in zip(tasks, on_cpu, strict=True)
        if parallel
    )
    done = iter(Parallel(n_jobs=max(n_workers, 1))(work))
    return [
        next(done) if parallel else _try(name, settings, *table.arrays)
        for (name, settings), parallel in zip(tasks, on_cpu, strict=True)
    ]


def _device_of(name: str, settings: Settings) -> str:
    """Return the kind of device that a head will train on."""
    return resolve_device(settings.get("device", "auto")).type if "device" in head_options(name) else "cpu"


class _Table:
    """Scaled rows to fit and to choose by; what several heads share is computed once."""

    def __init__(self, features: FeatureSet, scaler: str, parts: Parts) -> None:
        X, y = rows_of(features, parts.fit)
        X_val, y_val = rows_of(features, parts.validation)
        self.scaler = create_scaler(scaler).fit(X, torch.from_numpy(y))
        # As numpy arrays, which joblib shares with its workers.
        self.arrays = self.scaler.transform(X).numpy(), y, self.scaler.transform(X_val).numpy(), y_val


def _try(
    name: str, settings: Settings, X: NDArray[np.float32], y: Rows, X_val: NDArray[np.float32], y_val: Rows
) -> _Trial:
    started = time.perf_counter()
    X, X_val = (rows if rows.flags.writeable else rows.copy() for rows in (X, X_val))  # torch wants no read-only map
    try:
        head = create_head(name, **settings).fit(X, y, X_val, y_val)
        logits = head.decision_function(X_val)
    except ValueError as error:
        return _Trial(None, str(error), time.perf_counter() - started, np.zeros((0, 0), np.float32))
    score = validation_score(y_val, logits, head.classes_)
    return _Trial(head, "", time.perf_counter() - started, logits, (score[0], -score[1]))


def _choose(job: Job, trials: Sequence[_Trial], table: _Table, scaler: str, parts: Parts) -> Chosen | str:
    best = max(range(len(trials)), key=lambda number: trials[number].score)
    trial, settings = trials[best], job.settings[best]
    seconds = sum(each.seconds for each in trials)
    if trial.head is None:
        return trial.problem
    head, fitted_scaler = trial.head, table.scaler
    history = head.history_ if isinstance(head, MinibatchHead) else ()
    if len(parts.train) > len(parts.fit):
        started = time.perf_counter()
        again = {**settings, "epochs": head.best_epoch_} if isinstance(head, MinibatchHead) else settings
        X, y = rows_of(job.features, parts.train)
        fitted_scaler = create_scaler(scaler).fit(X, torch.from_numpy(y))
        try:
            head = create_head(job.name, **again).fit(fitted_scaler.transform(X), y)
        except HeadError as error:
            return str(error)
        seconds += time.perf_counter() - started
    features = job.features
    crop = features.audio.crop if features.audio else None
    fitted = FittedHead(fitted_scaler, head, job.name, features.encoder, crop)
    return Chosen(fitted, settings, trial.logits, fitted.logits(rows_of(features, parts.test)[0]), seconds, history)


def fit_temperature(logits: NDArray[np.float32], labels: Rows, classes: Rows) -> float:
    """Return what to divide logits by so that the probabilities are those of the validation rows (Guo et al., 2017).

    Where few rows are right or wrong, a log-normal prior about 1 holds it back: ten rows without a mistake do not prove
    that there are none.

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


def validation_score(y_val: Rows, logits: NDArray[np.float32], classes: Rows) -> tuple[float, float]:
    """Return the accuracy and the log loss."""
    return top_k_accuracy(y_val, logits, 1, classes), log_loss(y_val, logits, classes)


def rows_of(features: FeatureSet, rows: Rows) -> tuple[torch.Tensor, Rows]:
    """Return some rows' vectors, and their speakers' numbers."""
    index = torch.from_numpy(rows)
    return features.features[index], features.labels[index].numpy()


def _n_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
