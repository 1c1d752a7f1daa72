"""`SpeakerVerifier`: training, calibration, files, and decisions about two recordings."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corpora import Corpus
from encoders import Encoder, EncoderError, load_encoder
from features import FeatureSet
from metrics import equal_error_rate
from verification import (
    BACKENDS,
    BackendError,
    CalibrationError,
    SpeakerVerifier,
    VerifierError,
    all_pairs,
    create_backend,
)


# LDA needs 3 training speakers, and there are 2.
@pytest.fixture(scope="module", params=[name for name in BACKENDS if name != "lda"])
def verifier(request: pytest.FixtureRequest, features: FeatureSet) -> SpeakerVerifier:
    return SpeakerVerifier.train(features, request.param)


@pytest.fixture(scope="module")
def cosine(features: FeatureSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SpeakerVerifier.train(features, "cosine").save(tmp_path_factory.mktemp("verifier") / "v.pt")


def test_training_and_calibration_share_no_speakers(verifier: SpeakerVerifier, features: FeatureSet) -> None:
    trained, calibrated = (set(verifier.training[name]) for name in ("trained_on", "calibrated_on"))
    assert not trained & calibrated
    assert trained | calibrated == set(features.speakers)
    assert len(trained) == (0 if verifier.backend.name == "cosine" else 2)
    held_out = features.select([features.speakers[label] in calibrated for label in features.labels])
    trials = all_pairs(held_out)
    scores = verifier.backend.score_trials(held_out, trials.first, trials.second)
    assert verifier.training["eer"] == equal_error_rate(trials.labels, scores)
    probabilities = verifier.calibration.probabilities(scores)
    if verifier.backend.name != "plda":  # two training speakers are too few for PLDA
        assert probabilities[trials.labels].mean() > probabilities[~trials.labels].mean()


def test_saved_verifier_makes_the_same_decisions(
    verifier: SpeakerVerifier, corpus: Corpus, spectral: Encoder, tmp_path: Path
) -> None:
    loaded = SpeakerVerifier.load(verifier.save(tmp_path / "v.pt"))
    assert loaded.backend.speakers_ == verifier.backend.speakers_
    assert loaded.training == verifier.training
    paths = [corpus.utterances[number].path for number in (0, 3, 39)]
    for other in paths[1:]:
        assert loaded.verify(paths[0], other, encoder=spectral) == verifier.verify(paths[0], other, encoder=spectral)


def test_files_and_their_cached_features_score_the_same(
    verifier: SpeakerVerifier, features: FeatureSet, corpus: Corpus, spectral: Encoder
) -> None:
    one, other = 2, 25
    verdict = verifier.verify(corpus.utterances[one].path, corpus.utterances[other].path, encoder=spectral)
    mapped = verifier.backend.embed(features.features[[one, other]])
    score = float(verifier.backend.score_pairs(mapped[:1], mapped[1:]))
    assert verdict.score == pytest.approx(score, rel=1e-3, abs=1e-3)
    assert verdict.llr == pytest.approx(float(verifier.calibration.llrs(verdict.score)))


def test_prior_changes_the_probability_but_not_the_llr(cosine: Path, corpus: Corpus) -> None:
    loaded = SpeakerVerifier.load(cosine)
    pair = corpus.utterances[0].path, corpus.utterances[1].path
    rare, even = loaded.verify(*pair, p_target=0.001), loaded.verify(*pair)
    assert (rare.score, rare.llr) == (even.score, even.llr)
    assert rare.probability < even.probability
    for verdict in (rare, even):
        assert verdict.same == (verdict.probability >= 0.5)
    odds = even.probability / (1 - even.probability)
    assert np.log(odds) == pytest.approx(even.llr, abs=1e-4)
    with pytest.raises(VerifierError, match="p_target is 1; expected a probability"):
        loaded.verify(*pair, p_target=1.0)


def test_recordings_that_cannot_be_scored_are_named(
    cosine: Path, corpus: Corpus, write_audio: Callable[..., Path], tmp_path: Path
) -> None:
    loaded = SpeakerVerifier.load(cosine)
    good = corpus.utterances[0].path
    short = write_audio(tmp_path / "short.wav", seconds=0.3)
    with pytest.raises(
        VerifierError, match=r"short\.wav: the audio is 0\.30 s long, which is too short; give at least"
    ):
        loaded.verify(good, short)
    with pytest.raises(VerifierError, match=r"none\.wav: no such file"):
        loaded.verify(tmp_path / "none.wav", good)


def test_other_and_foreign_encoders_are_refused(cosine: Path, corpus: Corpus) -> None:
    loaded = SpeakerVerifier.load(cosine)
    good = corpus.utterances[0].path
    with pytest.raises(VerifierError, match="n_mfcc is 30 there, 40 here"):
        loaded.verify(good, good, encoder=load_encoder("spectral", n_mfcc=30, device="cpu"))
    foreign = replace(loaded, encoder={"name": "unknown", "dim": 100})
    with pytest.raises(EncoderError, match="'unknown', which is not one of this project's"):
        foreign.verify(good, good)


def test_impossible_training_is_refused(features: FeatureSet) -> None:
    with pytest.raises(BackendError, match="Choose one of"):
        SpeakerVerifier.train(features, "cosin")
    with pytest.raises(BackendError, match="LDA needs at least three training speakers"):
        SpeakerVerifier.train(features, "lda")
    with pytest.raises(BackendError, match="The features are of 3 speakers"):
        SpeakerVerifier.train(features.select(features.labels < 3), "within")
    with pytest.raises(CalibrationError, match="at least 2 speakers, one of them with 2 recordings"):
        SpeakerVerifier.train(features.select([0, 10, 20, 30]), "cosine")


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.update(backend=None),
        lambda content: content["backend"].update(name="nose"),
        lambda content: content["calibration"].update(slope="steep"),
        lambda content: content["calibration"].update(slope=float("nan")),
        lambda content: content["calibration"].clear(),
        lambda content: content["open_set"].update(growth=float("inf")),
        lambda content: content.pop("open_set"),
        lambda content: content.update(encoder=None),
        lambda content: content.update(crop=-1.0),
        lambda content: content.update(training={}),
        lambda content: content.update(format=1),
        lambda content: content.pop("backend"),
    ],
)
def test_invalid_contents_are_refused(damage: Callable[[Any], None], cosine: Path, tmp_path: Path) -> None:
    content = torch.load(cosine, weights_only=True)
    damage(content)
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(VerifierError, match=r"x\.pt: this is not a speaker verifier"):
        SpeakerVerifier.load(tmp_path / "x.pt")


def test_verifier_of_a_newer_format_asks_for_an_update(cosine: Path, tmp_path: Path) -> None:
    content = torch.load(cosine, weights_only=True)
    torch.save({**content, "format": 99}, tmp_path / "x.pt")
    with pytest.raises(VerifierError, match=r"x\.pt: its format is 99, .* up to 3\. Update Voxprobe, or train it"):
        SpeakerVerifier.load(tmp_path / "x.pt")


def test_verifier_files_cannot_run_code(cosine: Path, tmp_path: Path) -> None:
    content = torch.load(cosine, weights_only=True)
    torch.save({**content, "training": Bomb(tmp_path / "exploded")}, tmp_path / "bomb.pt")
    with pytest.raises(VerifierError, match="could run code"):
        SpeakerVerifier.load(tmp_path / "bomb.pt")
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(VerifierError, match="no such file"):
        SpeakerVerifier.load(tmp_path / "none.pt")


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "cosine"])
def test_state_dict_restores_a_backend(name: str, features: FeatureSet) -> None:
    train = features.select(features.labels < 3)
    scored = features.select(features.labels == 3)
    fitted = create_backend(name).fit(train)
    restored = create_backend(name).load_state_dict(fitted.state_dict())
    assert torch.equal(restored.embed(scored.features), fitted.embed(scored.features))
    rows = fitted.embed(scored.features)
    assert torch.equal(restored.score_all(rows, rows), fitted.score_all(rows, rows))


def test_copies_are_left_out_of_the_training(population: FeatureSet, caplog: pytest.LogCaptureFixture) -> None:
    rows = list(range(240))
    alone = SpeakerVerifier.train(population.select(rows), "within")
    assert not caplog.text
    copied = population.select([*rows, *rows[:9]])
    verifier = SpeakerVerifier.train(replace(copied, ids=tuple(map(str, range(249)))), "within")
    assert "Left out 9 recordings of the same audio as another." in caplog.text
    assert verifier.same_decisions_as(alone)
    assert verifier.training == alone.training
