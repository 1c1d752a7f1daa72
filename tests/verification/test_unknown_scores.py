"""`UnknownScores` and `SpeakerVerifier.prior_for`: thresholds for a given share of unknown speakers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from corpora import Utterance
from embedding import Row
from features import FeatureSet
from heads import UNKNOWN
from verification import Recording, SpeakerStore, SpeakerVerifier, UnknownScores, UnknownScoresError, VerifierError


def test_threshold_is_exceeded_by_the_requested_share() -> None:
    values = {count: np.random.default_rng(count).normal(count, 1, 50_000) for count in (1, 4)}
    counts = np.repeat(list(values), 50_000)
    scores = UnknownScores.measure(np.concatenate(list(values.values())), counts, n_recordings=5_000)
    assert scores.counts == (1, 4)
    assert scores.rates[-1] == 1 / 5_000
    for count, drawn in values.items():
        for rate in (0.5, 0.03, 0.01, 0.0005):
            assert (drawn > scores.threshold(rate, count)).mean() == pytest.approx(rate, rel=0.25)
        for rate in scores.rates:
            assert (drawn > scores.threshold(rate, count)).mean() <= rate
        assert scores.threshold(0.01, count) > scores.threshold(0.011, count)
    # Between the counts, the logarithm counts; beyond them, the nearest one.
    assert scores.threshold(0.1, 2) == pytest.approx((scores.threshold(0.1, 1) + scores.threshold(0.1, 4)) / 2)
    assert scores.threshold(0.1, 1_000) == scores.threshold(0.1, 4)


def test_rates_that_were_not_measured_are_refused() -> None:
    scores = UnknownScores.measure(np.arange(353.0), np.ones(353), n_recordings=353)
    for rate in (0.0028, 0.6):
        with pytest.raises(UnknownScoresError, match=r"353 recordings of unknown speakers\. Give 0\.0029 to 0\.5"):
            scores.threshold(rate, 1)
    assert scores.threshold(0.0029, 1) <= 352


def test_highest_of_several_corpora_bounds_the_share_in_each() -> None:
    random = np.random.default_rng(1)
    corpora = [random.normal(0, 1, 2_000), random.normal(0, 2, 500) - 1]
    parts = [UnknownScores.measure(each, np.full(len(each), 5), len(each)) for each in corpora]
    joined = UnknownScores.highest([*parts, UnknownScores.measure(corpora[0], np.full(2_000, 9), 2_000)])
    assert (joined.counts, joined.n_recordings) == ((5, 9), 500)
    for rate in joined.rates:
        assert max((each > joined.threshold(rate, 5)).mean() for each in corpora) <= rate


def test_store_accepts_about_the_requested_share(
    voices: Callable[..., FeatureSet], select_speakers: Callable[..., FeatureSet], tmp_path: Path
) -> None:
    everyone = voices(n_speakers=200)
    verifier = SpeakerVerifier.train(select_speakers(everyone, 0, 100), "plda")
    unknown = select_speakers(everyone, 120, 200)
    rows = [
        Row(Utterance(Path(name), "", ""), vector) for name, vector in zip(unknown.ids, unknown.features, strict=True)
    ]
    with SpeakerStore.create(tmp_path / "speakers.db", verifier) as store:
        for speaker in range(100, 120):
            vectors = everyone.features[everyone.labels == speaker][:3]
            store.enroll(
                str(speaker),
                [
                    Recording(path="", digest=bytes([speaker, number]), seconds=1.0, vector=vector)
                    for number, vector in enumerate(vectors)
                ],
            )
        for far in (0.2, 0.05, 0.01):
            predictions = store.identify(rows, 1, verifier.prior_for(far, len(store)))
            accepted = np.mean([prediction.speakers[0] != UNKNOWN for prediction in predictions])
            assert far / 3 < accepted < 3 * far  # 80 speakers


def test_scores_are_saved_and_older_files_lack_them(plda_verifier: SpeakerVerifier, tmp_path: Path) -> None:
    loaded = SpeakerVerifier.load(plda_verifier.save(tmp_path / "verifier.pt"))
    assert loaded.unknown_scores == plda_verifier.unknown_scores
    content = torch.load(tmp_path / "verifier.pt", weights_only=True)
    del content["unknown_scores"]
    torch.save(content, tmp_path / "older.pt")
    older = SpeakerVerifier.load(tmp_path / "older.pt")
    assert older.same_decisions_as(plda_verifier)
    with pytest.raises(
        VerifierError, match=r"was made by an earlier version.* Train it again and make a new store with it"
    ):
        older.prior_for(0.01, 3)
    content["unknown_scores"] = {"counts": [1], "rates": [0.1, 0.5], "llrs": [[1.0, 2.0]], "n_recordings": 2}
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(VerifierError, match="its scores of unknown speakers are not a distribution"):
        SpeakerVerifier.load(tmp_path / "bad.pt")


def test_store_of_an_earlier_version_gets_the_figures_of_the_ready_verifier(tmp_path: Path) -> None:
    ready = SpeakerVerifier.ready()
    older = replace(ready, unknown_scores=None, training={**ready.training, "errors": []})
    with SpeakerStore.create(tmp_path / "speakers.db", older) as store:
        assert store.verifier.prior_for(0.01, 3) == ready.prior_for(0.01, 3)
        assert store.verifier.training["errors"] == ready.training["errors"]
    other = replace(older, calibration=older.calibration.shifted(0.1))
    with SpeakerStore.create(tmp_path / "other.db", other) as store, pytest.raises(VerifierError):
        store.verifier.prior_for(0.01, 3)
