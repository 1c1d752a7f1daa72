"""Warnings of a verifier and of a store about recordings that are narrower than the training recordings."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from corpora import Corpus, Utterance
from encoders import lazy_encoder
from features import FeatureSet, extract
from verification import Recording, SpeakerStore, SpeakerVerifier, VerifierError


@pytest.fixture(scope="module")
def saved(features: FeatureSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SpeakerVerifier.train(features).save(tmp_path_factory.mktemp("verifier") / "v.pt")


@pytest.fixture
def narrow_file(write_audio: Callable[..., Path], tmp_path: Path) -> Path:
    return write_audio(tmp_path / "narrow.wav", rate=8_000)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings, except that a recording is enrolled."""
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return [message for message in found if "the same audio" not in message]


def test_verifier_and_store_warn_of_narrower_recordings_only(
    saved: Path,
    narrow_file: Path,
    corpus: Corpus,
    features: FeatureSet,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    verifier = SpeakerVerifier.load(saved)
    assert verifier.training["bandwidth"] == 8_000
    wide, other = (corpus.utterances[number].path for number in (0, 39))
    encoder = lazy_encoder("spectral", device="cpu")
    caplog.clear()
    verifier.verify(wide, other, encoder=encoder)
    assert warnings(caplog) == []
    verifier.verify(wide, narrow_file, encoder=encoder)
    assert warnings(caplog)[0].startswith("The bandwidth of 1 of 2 recordings is narrower")
    with SpeakerStore.create(tmp_path / "s.db", verifier) as store:
        rows = store.verifier.embed([Utterance(wide, "", ""), Utterance(other, "", "")], encoder)
        store.enroll("ann", [Recording.of(row) for row in rows])
        store.identify_files([other], encoder)
        store.nearest_features(features)
        assert warnings(caplog) == []
        store.identify_files([other, narrow_file], encoder)
        assert str(narrow_file) in warnings(caplog)[0]
        assert features.audio is not None
        narrow = replace(features.audio, bandwidth=torch.full((len(features),), 3_900.0))
        store.nearest_features(replace(features, audio=narrow))
        assert warnings(caplog)[0].startswith(f"The bandwidth of {len(features)} of {len(features)} recordings")


def test_verifier_of_limited_features_limits_recordings_by_itself(
    corpus: Corpus, narrow_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limited = lazy_encoder("spectral", device="cpu", max_bandwidth=4_000)
    features = extract(corpus, limited, tmp_path / "x.pt", progress=False)
    verifier = SpeakerVerifier.load(SpeakerVerifier.train(features).save(tmp_path / "v.pt"))
    caplog.clear()
    verdict = verifier.verify(corpus.utterances[0].path, corpus.utterances[39].path, device="cpu")
    mapped = verifier.backend.embed(features.features)
    assert verdict.score == pytest.approx(float(verifier.backend.score_pairs(mapped[:1], mapped[39:40])), abs=1e-5)
    verifier.verify(corpus.utterances[0].path, narrow_file, device="cpu")
    assert warnings(caplog) == []


def test_verifier_without_a_bandwidth_does_not_warn(
    saved: Path, narrow_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = torch.load(saved, weights_only=True)
    del content["training"]["bandwidth"]
    torch.save(content, tmp_path / "older.pt")
    verifier = SpeakerVerifier.load(tmp_path / "older.pt")
    caplog.clear()
    verifier.verify(narrow_file, narrow_file, device="cpu")
    assert warnings(caplog) == []


def test_verifier_with_an_impossible_bandwidth_is_refused(saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True)
    content["training"]["bandwidth"] = "8000"
    torch.save(content, tmp_path / "spoiled.pt")
    with pytest.raises(VerifierError, match=r"training\.bandwidth"):
        SpeakerVerifier.load(tmp_path / "spoiled.pt")


def test_ready_verifier_knows_a_bandwidth_that_telephone_recordings_do_not_reach() -> None:
    assert 4_000 / 0.75 < SpeakerVerifier.ready().training["bandwidth"] < 8_000
