"""The comparison of backends: rows, intervals, calibration, pictures."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from evaluation import compare_backends
from features import FeatureSet
from metrics import cllr, equal_error_rate, min_dcf
from verification import BackendError, TrialError, Trials, all_pairs, create_backend, random_triplets

MadeUp = Callable[..., FeatureSet]


def test_rows_are_the_figures_of_their_trials(made_up: MadeUp) -> None:
    features = made_up(shift=2.0)
    found = compare_backends(features, ["cosine"])
    trials = all_pairs(features)
    scores = create_backend("cosine").score_trials(features, trials.first, trials.second)
    sessions = features.sessions.numpy()
    same = sessions[trials.first] == sessions[trials.second]
    kinds = {"all": np.ones(len(same), bool), "cross-session": ~same, "same-session": same | ~trials.labels}
    assert [row["trials"] for row in found.rows] == list(kinds)
    for row, chosen in zip(found.rows, kinds.values(), strict=True):
        labels = trials.labels[chosen]
        assert (row["n_target"], row["n_nontarget"]) == (labels.sum(), (~labels).sum())
        assert row["eer"] == equal_error_rate(labels, scores[chosen])
        assert row["min_dcf_0.05"] == min_dcf(labels, scores[chosen], 0.05)
        assert row["eer_low"] < row["eer"] < row["eer_high"]
        assert row["min_cllr"] <= row["cllr"] < 1
    assert found.rows[1]["eer"] > found.rows[2]["eer"]  # the session helps


def test_one_session_each_makes_one_kind_of_trials(made_up: MadeUp) -> None:
    assert [row["trials"] for row in compare_backends(made_up(n_sessions=1)).rows] == ["all"]


def test_backends_are_trained_on_the_speakers_that_are_not_scored(made_up: MadeUp) -> None:
    features = made_up(n_sessions=1)
    found = compare_backends(features, ["cosine", "within"])
    assert found.notes == ["trained on 6 of the speakers, chosen by seed 0; the other 6 are scored"]
    assert {row["n_target"] + row["n_nontarget"] for row in found.rows} == {120 * 119 // 2}
    train, scored = features.select(features.labels < 6), features.select(features.labels >= 6)
    given = compare_backends(scored, ["within"], train_features=train)
    backend = create_backend("within").fit(train)
    trials = all_pairs(scored)
    expected = equal_error_rate(trials.labels, backend.score_trials(scored, trials.first, trials.second))
    assert given.rows[0]["eer"] == expected
    with pytest.raises(BackendError, match="was trained on 6 of the speakers"):
        compare_backends(features, ["within"], train_features=train)
    with pytest.raises(BackendError, match="speakers of the cohort are scored too"):
        compare_backends(features, ["cosine"], train_features=train, normalise=True)
    with pytest.raises(BackendError, match="give --train_features"):
        compare_backends(features, ["within"], trials=random_triplets(features, 5))


def test_calibration_is_learned_on_the_other_half(made_up: MadeUp) -> None:
    """Scores that are no likelihood ratios at all cost little once they are calibrated on other speakers."""
    features = made_up(n_speakers=30, n_sessions=1, noise=0.3)
    row = compare_backends(features, ["cosine"]).rows[0]
    trials = all_pairs(features)
    raw = create_backend("cosine").score_trials(features, trials.first, trials.second)
    assert row["cllr"] < 0.7 * cllr(trials.labels, raw)
    assert row["cllr"] < row["min_cllr"] + 0.25


def test_trials_that_cannot_be_calibrated_have_no_calibrated_cost(made_up: MadeUp) -> None:
    features = made_up(n_speakers=3, n_sessions=1)
    few = Trials(np.array([0, 0, 1]), np.array([1, 20, 40]), np.array([True, False, False]))
    row = compare_backends(features, trials=few).rows[0]
    assert math.isnan(row["cllr"])
    assert not math.isnan(row["eer"])


def test_trials_of_one_kind_and_scores_that_are_no_numbers_are_refused(made_up: MadeUp) -> None:
    features = made_up(n_sessions=1)
    one_kind = Trials(np.array([0]), np.array([1]), np.array([True]))
    with pytest.raises(TrialError, match="1 target and 0 nontarget trials; error rates need both kinds"):
        compare_backends(features, trials=one_kind)
    spoiled = features.features.clone()
    spoiled[3] = torch.nan
    with pytest.raises(BackendError, match=r"are no numbers, the first is that of 0\.wav and 3\.wav"):
        compare_backends(replace(features, features=spoiled))


def test_the_files_hold_what_was_found(made_up: MadeUp, tmp_path: Path) -> None:
    found = compare_backends(made_up(), ["cosine", "whiten"])
    found.save(tmp_path, "a command")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["rows"] == found.rows
    assert metrics["command"] == "a command"
    for name in ("det_curve.png", "score_histogram.png"):
        assert matplotlib.image.imread(tmp_path / name).std() > 0.01
    lines = found.table().splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines[2:8]] == 3 * ["cosine"] + 3 * ["whiten"]


def test_the_same_seed_gives_the_same_rows(made_up: MadeUp) -> None:
    features = made_up()
    assert compare_backends(features, ["lda"], seed=1).rows == compare_backends(features, ["lda"], seed=1).rows
    assert compare_backends(features, ["lda"], seed=1).rows != compare_backends(features, ["lda"], seed=2).rows
