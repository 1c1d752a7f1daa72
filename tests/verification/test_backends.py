"""Backends: scores against reference formulas, and error rates on speakers that they were not trained on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from features import FeatureSet
from heads import HeadError
from metrics import cllr, equal_error_rate, min_cllr
from verification import (
    BACKENDS,
    BackendError,
    Calibration,
    CalibrationError,
    Conditions,
    all_pairs,
    as_norm,
    create_backend,
    split_speakers,
)

PUBLISHED = Path(__file__).parents[3] / "shared/data/published/audiosep_unet_librispeech_devclean_features.pt"

Voices = Callable[..., FeatureSet]


@pytest.fixture(scope="module")
def halves(voices: Voices) -> tuple[FeatureSet, FeatureSet]:
    return split_speakers(voices())


def eer_of(name: str, halves: tuple[FeatureSet, FeatureSet]) -> float:
    train, scored = halves
    trials = all_pairs(scored)
    scores = create_backend(name).fit(train).score_trials(scored, trials.first, trials.second)
    return equal_error_rate(trials.labels, scores)


def test_variation_within_speakers_halves_the_eer_of_cosine(halves: tuple[FeatureSet, FeatureSet]) -> None:
    eers = {name: eer_of(name, halves) for name in BACKENDS}
    assert eers["cosine"] > 0.3
    assert max(eers["within"], eers["lda"], eers["plda"]) < eers["cosine"] / 2


@pytest.mark.parametrize("name", BACKENDS)
def test_score_all_equals_scores_of_pairs(name: str, halves: tuple[FeatureSet, FeatureSet]) -> None:
    train, scored = halves
    backend = create_backend(name).fit(train)
    trials, rows = all_pairs(scored), backend.embed(scored.features)
    table = backend.score_all(rows, rows).numpy()
    found = backend.score_trials(scored, trials.first, trials.second)
    np.testing.assert_allclose(found, table[trials.first, trials.second], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(table, table.T, rtol=1e-3, atol=1e-3)


def test_plda_scores_two_recordings_by_likelihood_ratio(halves: tuple[FeatureSet, FeatureSet]) -> None:
    train, scored = halves
    backend = create_backend("plda").fit(train)
    rows = backend.embed(scored.features)
    between = np.diag(backend.state_dict()["between"].double().numpy())
    eye = np.eye(len(between))
    same = np.block([[between + eye, between], [between, between + eye]])
    for one, other in ((0, 1), (0, 30), (5, 200)):
        pair = rows[[one, other]].double().numpy()
        expected = multivariate_normal.logpdf(pair.ravel(), cov=same) - sum(
            multivariate_normal.logpdf(row, cov=between + eye) for row in pair
        )
        assert float(backend.score_pairs(rows[one : one + 1], rows[other : other + 1])) == pytest.approx(
            expected, abs=0.02
        )


def test_plda_scores_several_recordings_by_likelihood_ratio(
    halves: tuple[FeatureSet, FeatureSet],
) -> None:
    train, scored = halves
    backend = create_backend("plda").fit(train)
    rows = backend.embed(scored.features)
    between = np.diag(backend.state_dict()["between"].double().numpy())

    def log_density(*which: int) -> float:
        """Return the joint log density of recordings of one speaker."""
        covariance = np.kron(np.ones((len(which),) * 2), between) + np.eye(len(which) * len(between))
        return float(multivariate_normal.logpdf(rows[list(which)].double().numpy().ravel(), cov=covariance))

    enrolled = [(0, 1, 2), (12,), (24, 25, 30, 31, 26)]
    probes = [3, 13, 200]
    models = torch.stack([backend.combine(rows[list(each)]) for each in enrolled])
    counts = torch.tensor([len(each) for each in enrolled])
    expected = [
        [log_density(probe, *each) - log_density(probe) - log_density(*each) for each in enrolled] for probe in probes
    ]
    np.testing.assert_allclose(backend.score_speakers(rows[probes], models, counts), expected, atol=0.02)
    # Models with equal counts are computed in another way.
    alone = backend.score_speakers(rows[probes], models[2:], counts[2:])
    np.testing.assert_allclose(alone, np.array(expected)[:, 2:], atol=0.02)


@pytest.mark.parametrize("name", BACKENDS)
def test_model_of_one_recording_scores_as_the_recording(name: str, halves: tuple[FeatureSet, FeatureSet]) -> None:
    train, scored = halves
    backend = create_backend(name).fit(train)
    rows = backend.embed(scored.features)
    models = torch.stack([backend.combine(rows[number : number + 1]) for number in range(0, 240, 12)])
    found = backend.score_speakers(rows[1:9], models, torch.ones(20, dtype=torch.int64))
    np.testing.assert_allclose(found, backend.score_all(rows[1:9], rows[0:240:12]), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", BACKENDS)
def test_more_enrolment_recordings_lower_the_eer(name: str, halves: tuple[FeatureSet, FeatureSet]) -> None:
    train, scored = halves
    backend = create_backend(name).fit(train)
    rows, labels = backend.embed(scored.features), scored.labels.numpy()
    probes = np.arange(240) % 12 >= 6
    errors = []
    for count in (1, 6):
        models = torch.stack([backend.combine(rows[start : start + count]) for start in range(0, 240, 12)])
        scores = backend.score_speakers(rows[probes], models, torch.full((20,), count)).numpy()
        is_target = labels[probes][:, None] == labels[::12]
        errors.append(equal_error_rate(is_target.ravel(), scores.ravel()))
    assert errors[1] < errors[0]


def test_cosine_backend_gives_cosines(halves: tuple[FeatureSet, FeatureSet]) -> None:
    _, scored = halves
    found = create_backend("cosine").score_trials(scored, np.array([0, 3]), np.array([9, 100]))
    for score, (one, other) in zip(found, ((0, 9), (3, 100)), strict=True):
        a, b = scored.features[one].numpy(), scored.features[other].numpy()
        assert score == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "cosine"])
def test_training_speakers_are_not_scored(name: str, halves: tuple[FeatureSet, FeatureSet]) -> None:
    train, _ = halves
    backend = create_backend(name).fit(train)
    with pytest.raises(BackendError, match=f"'{name}' was trained on 2 of the speakers in the trials"):
        backend.score_trials(train, np.array([0]), np.array([239]))
    last = int(train.labels.max())
    names = [name if number == last else f"other {name}" for number, name in enumerate(train.speakers)]
    renamed = replace(train, speakers=tuple(names))
    rows = (train.labels != last).nonzero().flatten().numpy()
    assert len(backend.score_trials(renamed, rows[:1], rows[-1:])) == 1  # the training speaker has no scored row


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "cosine"])
def test_vectors_of_another_encoder_are_refused(name: str, halves: tuple[FeatureSet, FeatureSet]) -> None:
    train, scored = halves
    backend = create_backend(name).fit(replace(train, encoder={**train.encoder, "name": "another"}))
    with pytest.raises(BackendError, match="vectors of another encoder: name is 'made up' there, 'another' here"):
        backend.score_trials(scored, np.array([0]), np.array([1]))


def test_cosines_do_not_depend_on_the_scale(halves: tuple[FeatureSet, FeatureSet]) -> None:
    _, scored = halves
    trials = all_pairs(scored)
    expected = create_backend("cosine").score_trials(scored, trials.first, trials.second)
    for factor in (1e-20, 1e20):
        scaled = replace(scored, features=scored.features * factor)
        found = create_backend("cosine").score_trials(scaled, trials.first, trials.second)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_rows_with_infinity_are_refused(halves: tuple[FeatureSet, FeatureSet]) -> None:
    _, scored = halves
    with pytest.raises(BackendError, match=r"1 row contains NaN or infinity \(first: .*\.wav\)"):
        create_backend("whiten").fit(
            replace(scored, features=torch.cat([scored.features[:-1], scored.features[:1] / 0]))
        )


def test_halves_share_no_speaker_and_lose_none(voices: Voices) -> None:
    whole = voices()
    train, scored = split_speakers(whole, seed=3)
    sides = [{one.speakers[label] for label in one.labels.tolist()} for one in (train, scored)]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == set(whole.speakers)
    assert len(train) + len(scored) == len(whole)
    with pytest.raises(BackendError, match="The features are of 3 speakers"):
        split_speakers(whole.select(range(36)))


def test_unknown_backend_and_too_few_rows_are_refused(halves: tuple[FeatureSet, FeatureSet]) -> None:
    with pytest.raises(BackendError, match="Choose one of: cosine, whiten, within, lda, plda"):
        create_backend("cosin")
    train, _ = halves
    with pytest.raises(HeadError, match="more training rows than speakers"):
        create_backend("plda").fit(train.select(range(0, 240, 12)))


def test_as_norm_averages_standardised_scores_of_both_sides(halves: tuple[FeatureSet, FeatureSet]) -> None:
    train, scored = halves
    backend = create_backend("within").fit(train)
    mapped, cohort = backend.embed(scored.features), backend.embed(train.features)
    first, second = np.array([0, 5, 100]), np.array([1, 60, 200])
    scores = backend.score_trials(scored, first, second)
    found = as_norm(backend, mapped, cohort, first=first, second=second, scores=scores, top_k=50)
    table = np.sort((mapped @ cohort.T).numpy(), axis=1)[:, -50:]
    mean, deviation = table.mean(1), table.std(1, ddof=1)
    expected = [
        ((score - mean[one]) / deviation[one] + (score - mean[other]) / deviation[other]) / 2
        for score, one, other in zip(scores, first, second, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(BackendError, match="has 1 recordings"):
        as_norm(backend, mapped, cohort[:1], first=first, second=second, scores=scores)


def gaussian_trials(n: int = 40_000, seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return labels, and scores whose true log-likelihood ratio is 3 times the score."""
    random = np.random.default_rng(seed)
    labels = random.random(n) < 0.1
    return labels, random.normal(np.where(labels, 1.5, -1.5), 1.0)


def test_calibration_finds_the_likelihood_ratios() -> None:
    labels, scores = gaussian_trials()
    calibration = Calibration.fit(labels, 7 * scores + 40)
    assert calibration.slope * 7 == pytest.approx(3, rel=0.05)
    assert calibration.threshold(0.5) == pytest.approx(40, abs=0.3)
    test_labels, test_scores = gaussian_trials(seed=1)
    llrs = calibration.llrs(7 * test_scores + 40)
    assert cllr(test_labels, llrs) == pytest.approx(min_cllr(test_labels, test_scores), abs=0.01)
    probabilities = calibration.probabilities(7 * test_scores + 40, p_target=0.1)
    is_near_half = (probabilities > 0.4) & (probabilities < 0.6)
    assert test_labels[is_near_half].mean() == pytest.approx(0.5, abs=0.1)


def test_calibration_takes_a_count_into_account() -> None:
    random = np.random.default_rng(0)
    counts = random.choice([1, 4, 16], 60_000)
    labels = random.random(60_000) < np.where(counts == 1, 0.5, 0.02)  # the share of targets must not matter
    shifted = random.normal(np.where(labels, 1.5, -1.5), 1.0) + 0.7 * np.log(counts)
    calibration = Calibration.fit(labels, shifted, Conditions(counts))
    assert calibration.slope == pytest.approx(3, rel=0.05)
    assert calibration.growth == pytest.approx(-2.1, rel=0.05)
    assert calibration.offset == pytest.approx(0, abs=0.15)
    for count in (1, 16):
        assert calibration.threshold(0.5, Conditions(count)) == pytest.approx(0.7 * np.log(count), abs=0.1)
        assert calibration.llrs(calibration.threshold(0.2, Conditions(count)), Conditions(count)) == pytest.approx(
            np.log(4)
        )
    assert Calibration.fit(labels, shifted).growth == 0


def test_calibration_of_separable_and_inverted_scores() -> None:
    separable = Calibration.fit([1, 1, 0, 0], [3.0, 2.0, 1.0, 0.0])
    assert np.isfinite([separable.slope, separable.offset]).all()
    inverted = Calibration.fit([1, 1, 0, 0], [0.0, 1.0, 2.0, 3.0])
    assert (inverted.slope, inverted.offset) == (0, 0)  # a higher score is never evidence against the speaker
    assert inverted.threshold(0.1) == np.inf
    assert inverted.threshold(0.9) == -np.inf
    random = np.random.default_rng(0)
    is_target = np.repeat([True, False], 500)
    skewed = np.where(is_target, -3 * random.exponential(size=1000), random.exponential(size=1000))
    assert cllr(is_target, Calibration.fit(is_target, skewed).llrs(skewed)) == pytest.approx(1)


def test_calibration_needs_finite_scores_of_both_kinds() -> None:
    for labels, scores in (([1, 1], [0.0, 1.0]), ([1, 0], [0.0, np.nan]), ([], [])):
        with pytest.raises(CalibrationError, match="needs targets and nontargets with finite scores"):
            Calibration.fit(labels, scores)


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published features are missing (../shared/data)")
@pytest.mark.parametrize("seed", [0, 1])
def test_within_halves_the_error_on_the_published_features(seed: int) -> None:
    halves = split_speakers(FeatureSet.load(PUBLISHED), seed)
    assert eer_of("within", halves) < eer_of("cosine", halves) / 2


def test_features_with_layers_are_refused(halves: tuple[FeatureSet, FeatureSet]) -> None:
    layered = replace(halves[1], features=torch.stack([halves[1].features] * 3, dim=1))
    with pytest.raises(BackendError, match="have 3 layers; a backend needs features of one layer"):
        create_backend("cosine").score_trials(layered, np.array([0]), np.array([1]))
