"""Warnings of a classifier about files that are narrower in bandwidth than its training recordings."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from corpora import Corpus
from encoders import lazy_encoder
from evaluation import compare_heads
from features import FeatureSet, extract
from heads import ClassifierError, SpeakerClassifier


@pytest.fixture(scope="module")
def saved(features: FeatureSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compare_heads(features, ["lda"]).classifier.save(tmp_path_factory.mktemp("classifier") / "c.pt")


@pytest.fixture
def narrow_file(write_audio: Callable[..., Path], tmp_path: Path) -> Path:
    return write_audio(tmp_path / "narrow.wav", rate=8_000)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_classifier_warns_of_narrower_files_only(
    saved: Path, narrow_file: Path, corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = SpeakerClassifier.load(saved)
    assert loaded.members[0].bandwidth == 8_000
    loaded.predict([utterance.path for utterance in corpus])
    assert warnings(caplog) == []
    loaded.predict([corpus.utterances[0].path, narrow_file])
    [warning] = warnings(caplog)
    assert warning.startswith("The bandwidth of 1 of 2 recordings is narrower than that of the training recordings")
    assert f"8.0 kHz ({narrow_file}: 3.9 kHz)" in warning


def test_classifier_of_limited_features_limits_files_by_itself(
    narrow_file: Path, corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limited = lazy_encoder("spectral", device="cpu", max_bandwidth=4_000)
    features = extract(corpus, limited, tmp_path / "x.pt", progress=False)
    classifier = SpeakerClassifier.load(compare_heads(features, ["lda"]).classifier.save(tmp_path / "c.pt"))
    paths = [utterance.path for utterance in corpus]
    expected = classifier.predict_features(features)
    assert [prediction.speakers for prediction in classifier.predict(paths)] == [speakers for speakers, _ in expected]
    classifier.predict([narrow_file])
    assert warnings(caplog) == []
    with pytest.raises(ClassifierError, match="max_bandwidth is None there, 4000 here"):
        classifier.predict(paths, encoder=lazy_encoder("spectral", device="cpu"))


def test_classifier_without_a_bandwidth_does_not_warn(
    saved: Path, narrow_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = torch.load(saved, weights_only=True)
    del content["bandwidth"]
    torch.save(content, tmp_path / "older.pt")
    loaded = SpeakerClassifier.load(tmp_path / "older.pt")
    assert loaded.predict([narrow_file])[0].error is None
    assert warnings(caplog) == []


@pytest.mark.parametrize("bandwidth", [-1.0, 0.0, float("nan"), float("inf"), "8000"])
def test_classifier_with_an_impossible_bandwidth_is_refused(saved: Path, bandwidth: object, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True)
    torch.save({**content, "bandwidth": bandwidth}, tmp_path / "spoiled.pt")
    with pytest.raises(ClassifierError, match=r"spoiled\.pt"):
        SpeakerClassifier.load(tmp_path / "spoiled.pt")


def test_speakers_of_a_narrower_bandwidth_are_noted_in_the_comparison(features: FeatureSet) -> None:
    assert features.audio is not None
    widths = torch.where(features.labels == 2, 3_900.0, 8_000.0)
    comparison = compare_heads(replace(features, audio=replace(features.audio, bandwidth=widths)), ["centroid"])
    [note] = [note for note in comparison.notes if "bandwidth" in note]
    assert "less for 1 of 4 speakers (103: 3.9 kHz)" in note
    assert not any("bandwidth" in note for note in compare_heads(features, ["centroid"]).notes)
