"""Tuning: the settings that are tried, and their selection."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from evaluation import compare_heads, fitting
from evaluation.fitting import Arrays, FitJob, Settings, fit_heads, settings_to_try
from evaluation.protocol import split_rows
from features import FeatureSet
from heads import HEADS, HeadSource, search_space

MadeUp = Callable[..., FeatureSet]


@pytest.mark.parametrize("name", HEADS)
def test_heads_try_the_given_settings_first_and_the_same_number(name: str) -> None:
    tried = settings_to_try(name, {"lr": 0.5, "shrinkage": 0.25, "epochs": 3, "seed": 1}, 9, seed=0)
    assert len(tried) == (9 if search_space(name) else 1)
    assert all(set(search_space(name)) <= set(settings) for settings in tried[1:])
    if "lr" in search_space(name):
        assert tried[0] == {"lr": 0.5, "epochs": 3, "seed": 1}
        assert all(settings["epochs"] == 3 for settings in tried)
    assert settings_to_try(name, {}, 9, seed=0) == settings_to_try(name, {}, 9, seed=0)
    assert settings_to_try(name, {"seed": 1}, 1, seed=0)[0].keys() <= {"seed"}


def test_learning_rates_cover_five_decades_evenly() -> None:
    rates = np.log10([settings["lr"] for settings in settings_to_try("linear", {}, 17, seed=3)[1:]])
    assert rates.min() < -4.4
    assert rates.max() > -0.6
    assert np.diff(np.sort(rates)).max() < 1.0


def test_tuning_replaces_a_bad_learning_rate(made_up: MadeUp) -> None:
    options = {"lr": 1e-7, "epochs": 30, "device": "cpu"}
    features = made_up(n_sessions=1)
    given = compare_heads(features, ["linear", "centroid"], options=options)
    tuned = compare_heads(features, ["linear", "centroid"], options=options, tune=8)
    assert given.rows[0]["val_accuracy"] + 0.2 < tuned.rows[0]["val_accuracy"]
    assert given.rows[0]["settings"] == ""
    assert tuned.rows[0]["settings"].startswith("lr=")
    assert tuned.rows[1]["settings"] == "as given"
    assert "tuned: 8 settings of each head (nothing to tune: centroid) on each split" in tuned.table()
    selected = tuned.classifier.members[0].head.hyper_parameters()
    assert f"lr={selected['lr']:.4g}" in tuned.rows[0]["settings"]


def test_parallel_fits_equal_sequential_ones(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    features = made_up(n_sessions=1)
    parts = split_rows(features, "utterance", (0.8, 0, 0.2), seed=0)
    results_of: list[list[Any]] = []
    for cores in (1, 2):
        monkeypatch.setattr("evaluation.fitting._n_cores", lambda cores=cores: cores)
        jobs = [
            FitJob(name, features, settings_to_try(name, {"epochs": 5, "device": "cpu"}, 4, seed=0))
            for name in ("mlp", "lda")
        ]
        results = [result for _, result in fit_heads(jobs, "standard", parts)]
        assert not any(isinstance(result, str) for result in results)
        results_of.append(results)
    for alone, parallel in zip(*results_of, strict=True):
        assert alone.settings == parallel.settings
        np.testing.assert_allclose(alone.val_logits, parallel.val_logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(alone.test_logits, parallel.test_logits, rtol=1e-4, atol=1e-5)


def test_setting_that_cannot_be_fitted_is_not_selected(made_up: MadeUp) -> None:
    features = made_up(n_sessions=1)
    parts = split_rows(features, "utterance", (0.8, 0.1, 0.1), seed=0)
    settings = [{"shrinkage": 2.0}, {"shrinkage": 0.5}]
    ((_, result),) = fit_heads([FitJob("lda", features, settings)], "standard", parts)
    assert not isinstance(result, str)
    assert result.settings == {"shrinkage": 0.5}
    ((_, sentence),) = fit_heads([FitJob("lda", features, settings[:1])], "standard", parts)
    assert isinstance(sentence, str)
    assert sentence.startswith("shrinkage is 2; expected ")


def test_heads_on_a_gpu_are_tuned_in_one_process(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    features = made_up(n_sessions=1)
    parts = split_rows(features, "utterance", (0.8, 0.1, 0.1), seed=0)
    trained: list[str] = []
    fit_one = fitting._fit_one

    def record_and_fit(source: HeadSource, settings: Settings, arrays: Arrays) -> Any:
        trained.append(source.name)
        on_cpu = {"device": "cpu", "epochs": 2} if source.name == "linear" else {}
        return fit_one(source, {**settings, **on_cpu}, arrays)

    n_workers: list[int] = []

    def run_here(n_jobs: int) -> Any:
        n_workers.append(n_jobs)
        return lambda work: [task[0](*task[1], **task[2]) for task in work]

    monkeypatch.setattr(fitting, "_fit_one", record_and_fit)
    monkeypatch.setattr(fitting, "Parallel", run_here)
    monkeypatch.setattr(fitting, "_n_cores", lambda: 4)
    monkeypatch.setattr(fitting, "resolve_device", lambda device: torch.device("cuda" if device == "auto" else device))
    jobs = [FitJob(name, features, settings_to_try(name, {}, 3, seed=0)) for name in ("linear", "lda")]
    assert not any(isinstance(result, str) for _, result in fit_heads(jobs, "standard", parts))
    assert n_workers == [3]  # one for each setting of lda; those of linear are fitted in turn on the device
    assert sorted(trained) == 3 * ["lda"] + 3 * ["linear"]
