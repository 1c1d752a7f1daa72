"""`compare_backends`: rows, intervals, calibration, files."""

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
from evaluation.compare_backends import FIGURES
from features import FeatureSet
from files import VERSION, commit
from metrics import cllr, equal_error_rate, min_dcf, trial_interval
from reports import write_report
from verification import BackendError, TrialError, Trials, all_pairs, create_backend, random_triplets

MadeUp = Callable[..., FeatureSet]


def test_rows_have_the_figures_of_their_trials(made_up: MadeUp) -> None:
    features = made_up(shift=2.0)
    comparison = compare_backends(features, ["cosine"])
    trials = all_pairs(features)
    scores = create_backend("cosine").score_trials(features, trials.first, trials.second)
    sessions = features.sessions.numpy()
    same = sessions[trials.first] == sessions[trials.second]
    kinds = {"all": np.ones(len(same), bool), "cross-session": ~same, "same-session": same | ~trials.labels}
    assert [row["trials"] for row in comparison.rows] == list(kinds)
    for row, mask in zip(comparison.rows, kinds.values(), strict=True):
        labels = trials.labels[mask]
        assert (row["n_target"], row["n_nontarget"]) == (labels.sum(), (~labels).sum())
        assert row["eer"] == equal_error_rate(labels, scores[mask])
        assert row["min_dcf_0.05"] == min_dcf(labels, scores[mask], 0.05)
        assert row["eer_low"] < row["eer"] < row["eer_high"]
        assert row["min_cllr"] <= row["cllr"] < 1
    assert comparison.rows[1]["eer"] > comparison.rows[2]["eer"]  # targets of one session are more similar


def test_one_session_per_speaker_gives_one_kind_of_trials(made_up: MadeUp) -> None:
    assert [row["trials"] for row in compare_backends(made_up(n_sessions=1)).rows] == ["all"]


def test_backends_train_on_speakers_that_are_not_scored(made_up: MadeUp) -> None:
    features = made_up(n_sessions=1)
    comparison = compare_backends(features, ["cosine", "within"])
    assert comparison.notes[0] == "trained on 6 of the speakers, selected by seed 0; the other 6 are scored"
    assert "no target is of two sessions" in comparison.notes[1]
    assert {row["n_target"] + row["n_nontarget"] for row in comparison.rows} == {120 * 119 // 2}
    train, scored = features.select(features.labels < 6), features.select(features.labels >= 6)
    with_training_set = compare_backends(scored, ["within"], train_features=train)
    backend = create_backend("within").fit(train)
    trials = all_pairs(scored)
    expected = equal_error_rate(trials.labels, backend.score_trials(scored, trials.first, trials.second))
    assert with_training_set.rows[0]["eer"] == expected
    with pytest.raises(BackendError, match="120 recordings are both trained on and scored"):
        compare_backends(features, ["within"], train_features=train)
    others = features.select(np.setdiff1d(np.arange(240), np.arange(0, 120, 2)))  # of the same speakers
    with pytest.raises(BackendError, match="was trained on 6 of the speakers"):
        compare_backends(others, ["within"], train_features=train.select(np.arange(0, 120, 2)))
    with pytest.raises(BackendError, match="Speakers of the cohort are scored too"):
        compare_backends(others, ["cosine"], train_features=train.select(np.arange(0, 120, 2)), normalise=True)
    with pytest.raises(BackendError, match="no backend to compare"):
        compare_backends(features, [])
    drawn = compare_backends(features, ["within"], triplets=50)
    assert (drawn.rows[0]["n_target"], drawn.rows[0]["n_nontarget"]) == (50, 50)
    with pytest.raises(BackendError, match="give --train_features"):
        compare_backends(features, ["within"], trials=random_triplets(features, 5))


def test_calibration_on_the_other_half_lowers_the_cost(made_up: MadeUp) -> None:
    """Cosines are not likelihood ratios; calibrated on other speakers, they cost little."""
    features = made_up(n_speakers=30, n_sessions=1, noise=0.3)
    row = compare_backends(features, ["cosine"]).rows[0]
    trials = all_pairs(features)
    raw = create_backend("cosine").score_trials(features, trials.first, trials.second)
    assert row["cllr"] < 0.7 * cllr(trials.labels, raw)
    assert row["cllr"] < row["min_cllr"] + 0.25


def test_no_half_is_calibrated_on_itself(made_up: MadeUp) -> None:
    """One half of the speakers has low scores, the other high ones: a half would only fit its own calibration."""
    features = made_up(n_speakers=20, n_sessions=1, noise=0.3)
    first_half = np.random.default_rng(0).permutation(20)[:10]  # the halves of seed 0
    close = torch.from_numpy(np.isin(features.labels.numpy(), first_half))[:, None]
    shifted = torch.where(close, features.features + 40, features.features)  # far from zero all cosines are near 1
    row = compare_backends(replace(features, features=shifted)).rows[0]
    assert row["cllr"] > 0.9
    assert compare_backends(features).rows[0]["cllr"] < 0.6


def test_trials_that_cannot_be_calibrated_have_no_cllr(made_up: MadeUp) -> None:
    features = made_up(n_speakers=3, n_sessions=1)
    few = Trials(np.array([0, 0, 1]), np.array([1, 20, 40]), np.array([True, False, False]))
    row = compare_backends(features, trials=few).rows[0]
    assert math.isnan(row["cllr"])
    assert not math.isnan(row["eer"])


def test_trials_of_one_kind_and_nan_scores_are_refused(made_up: MadeUp) -> None:
    features = made_up(n_sessions=1)
    one_kind = Trials(np.array([0]), np.array([1]), np.array([True]))
    with pytest.raises(TrialError, match="1 target and 0 nontarget trials; error rates need both kinds"):
        compare_backends(features, trials=one_kind)
    spoiled = features.features.clone()
    spoiled[3] = torch.nan
    with pytest.raises(BackendError, match=r"1 row contains NaN or infinity \(first: 3\.wav\)"):
        compare_backends(replace(features, features=spoiled))


def test_files_hold_the_rows(made_up: MadeUp, tmp_path: Path) -> None:
    comparison = compare_backends(made_up(), ["cosine", "whiten"])
    comparison.save(str(tmp_path), "a command")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["rows"] == comparison.rows
    assert metrics["command"] == "a command"
    assert metrics["versions"]["voxprobe"] == VERSION
    assert metrics["versions"]["commit"] == commit()
    write_report(str(tmp_path))
    for name in ("det_curve.png", "score_histogram.png"):
        assert matplotlib.image.imread(tmp_path / name).std() > 0.01
    lines = comparison.table().splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines[2:8]] == 3 * ["cosine"] + 3 * ["whiten"]


def test_one_backend_is_given_by_its_name(made_up: MadeUp) -> None:
    assert compare_backends(made_up(), "lda").rows == compare_backends(made_up(), ["lda"]).rows


def test_same_seed_gives_the_same_rows(made_up: MadeUp) -> None:
    features = made_up()
    assert compare_backends(features, ["lda"], seed=1).rows == compare_backends(features, ["lda"], seed=1).rows
    assert compare_backends(features, ["lda"], seed=1).rows != compare_backends(features, ["lda"], seed=2).rows


def test_equal_scores_share_a_bin(made_up: MadeUp) -> None:
    constant = replace(made_up(n_sessions=1), features=torch.ones(240, 10))
    for trials in (all_pairs(constant), random_triplets(constant, 200)):
        row = compare_backends(constant, trials=trials).rows[0]
        assert row["eer_low"] == row["eer"] == row["eer_high"] == 0.5
        assert row["min_dcf_0.01_low"] == row["min_dcf_0.01"] == 1


def test_intervals_from_bins_are_those_of_the_scores(made_up: MadeUp) -> None:
    features = made_up(n_speakers=25, n_each=6, n_sessions=1, noise=0.5)
    trials = all_pairs(features)
    scores = create_backend("cosine").score_trials(features, trials.first, trials.second)
    speakers = features.labels.numpy()
    row = compare_backends(features).rows[0]
    for name, figure in FIGURES.items():
        low, high = trial_interval(
            lambda weights, figure=figure: figure(trials.labels, scores, weights=weights),  # type: ignore[misc]
            speakers[trials.first], speakers[trials.second], n_draws=200, seed=0,
        )  # fmt: skip
        assert row[f"{name}_low"] == pytest.approx(float(low), abs=0.01)
        assert row[f"{name}_high"] == pytest.approx(float(high), abs=0.01)


def test_trials_of_a_recording_with_itself_are_left_out_and_wrong_labels_refused(made_up: MadeUp) -> None:
    features = made_up(n_sessions=1)
    pairs = all_pairs(features)
    every = np.arange(240)
    selves = Trials(
        np.append(pairs.first, every), np.append(pairs.second, every), np.append(pairs.labels, np.full(240, True))
    )
    with_selves = compare_backends(features, trials=selves)
    assert "left out: 240 trials of a recording with itself or a copy of it" in with_selves.notes
    assert with_selves.rows == compare_backends(features).rows
    turned = Trials(pairs.first, pairs.second, ~pairs.labels)
    with pytest.raises(TrialError, match=r"labels of 28680 trials contradict their speakers.* 0\.wav with"):
        compare_backends(features, trials=turned)


def test_renaming_speakers_does_not_hide_shared_recordings(features: FeatureSet) -> None:
    renamed = replace(features, speakers=tuple(f"x{name}" for name in features.speakers))
    with pytest.raises(BackendError, match="40 recordings are both trained on and scored"):
        compare_backends(features, ["within"], train_features=renamed)


def test_trials_of_copies_are_left_out(made_up: MadeUp) -> None:
    features = made_up(n_sessions=1)
    of_one, of_other = (int((features.labels == label).nonzero()[0]) for label in (0, 1))
    rows = np.r_[np.arange(240), of_one, of_one, of_other]  # the last row is a copy under the name of another speaker
    labels = features.labels[rows]
    labels[-1] = 2
    copied = replace(features.select(rows), labels=labels, ids=tuple(map(str, range(243))))
    found = compare_backends(copied)
    assert "left out: 4 trials of a recording with itself or a copy of it" in found.notes
    assert found.rows[0]["n_target"] + found.rows[0]["n_nontarget"] == 243 * 242 // 2 - 4
    with pytest.raises(TrialError, match=r"0 target and 1 nontarget trials \(left out: 1 trial of a recording with"):
        compare_backends(copied, trials=Trials(np.array([of_one, 0]), np.array([240, 239]), np.array([True, False])))


def test_copies_of_training_recordings_are_not_scored(made_up: MadeUp) -> None:
    features = made_up(n_sessions=1)
    train, scored = features.select(features.labels < 6), features.select(features.labels >= 6)
    scored.features[3] = train.features[5] * (1 + 1e-6)
    with pytest.raises(BackendError, match="1 recording is both trained on and scored"):
        compare_backends(scored, ["within"], train_features=train)


def test_missing_figures_have_a_cause(made_up: MadeUp) -> None:
    found = compare_backends(made_up(n_speakers=3, n_sessions=1))
    assert np.isnan([found.rows[0]["eer_low"], found.rows[0]["cllr"]]).all()
    [intervals, cllr] = [note for note in found.notes if note.startswith("no ")][-2:]
    assert intervals.startswith(
        "no intervals: the trials are of 3 speakers; a bootstrap over speakers needs at least 4"
    )
    assert cllr.startswith("no Cllr: the trials are of 3 speakers; each half of the speakers calibrates the other half")
    assert not [note for note in compare_backends(made_up()).notes if note.startswith(("no intervals", "no Cllr"))]
