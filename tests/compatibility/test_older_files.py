"""Files of earlier versions are still read: features files, classifiers, verifiers and stores.

This project wrote `files_of_version_0` from the synthetic sample, before its files named a version: 8 speakers with 6
utterances each, embedded with a `spectral` encoder of 14 dimensions.
"""

import gzip
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from audio import read_audio
from corpora import Corpus, load_corpus
from embedding import MAX_OFFSET
from encoders import lazy_encoder
from features import FeatureSet, extract, feature_set, row_columns
from features.row_columns import Column
from heads import SpeakerClassifier, describe_open_set
from verification import SpeakerStore, SpeakerVerifier

OLD = Path(__file__).parent / "files_of_version_0"
SAMPLE = Path(__file__).parents[2] / "sample" / "LibriSpeech"


@pytest.fixture
def features() -> FeatureSet:
    return FeatureSet.load(OLD / "features.pt")


def test_old_features_file_is_recomputed_only_where_recordings_have_an_offset(
    features: FeatureSet, tmp_path: Path
) -> None:
    corpus = load_corpus(SAMPLE)
    utterances = tuple(utterance for utterance in corpus if utterance.id in set(features.ids))
    path = tmp_path / "features.pt"
    path.write_bytes((OLD / "features.pt").read_bytes())
    encoder = lazy_encoder("spectral", n_mfcc=6, n_delta=2, device="cpu")
    again = extract(Corpus(utterances, corpus.root, corpus.name), encoder, path, progress=False)
    assert again.ids == features.ids
    assert again.audio is not None
    means = torch.stack([read_audio(utterance.path, 16_000).mean() for utterance in utterances])
    torch.testing.assert_close(again.audio.offset, means, rtol=0, atol=1e-6)
    is_same = (again.features == features.features).all(1)
    assert is_same.tolist() == (means.abs() <= MAX_OFFSET).tolist()
    assert int(is_same.sum()) == 42

    def refuse_to_build() -> Any:
        raise AssertionError("the encoder was built")

    unused = replace(encoder, build=refuse_to_build)
    finished = extract(Corpus(utterances, corpus.root, corpus.name), unused, path, progress=False)
    assert torch.equal(finished.features, again.features)


def test_old_classifier_identifies_and_rejects(features: FeatureSet) -> None:
    classifier = SpeakerClassifier.load(OLD / "classifier.pt")
    named = [speakers[0] for speakers, _ in classifier.predict_features(features)]
    true = [features.speakers[label] for label in features.labels.tolist()]
    assert sum(one == other for one, other in zip(named, true, strict=True)) > 40
    assert len(classifier.predict_features(features, reject=True)) == 48
    assert describe_open_set(classifier.metrics["open_set"])[0].startswith("unknown speakers (8 held out in turn, plda")


def test_old_verifier_scores_pairs(features: FeatureSet) -> None:
    verifier = SpeakerVerifier.load(OLD / "verifier.pt")
    mapped = verifier.backend.embed(features.features)
    same, different = (float(verifier.backend.score_pairs(mapped[:1], mapped[row : row + 1])) for row in (1, 40))
    assert same > different


def test_old_store_opens_and_accepts_enrolments(features: FeatureSet, tmp_path: Path) -> None:
    path = tmp_path / "speakers.db"
    path.write_bytes(gzip.decompress((OLD / "speakers.db.gz").read_bytes()))
    with SpeakerStore.open(path) as store:
        assert [speaker.name for speaker in store.speakers()] == list(features.speakers)
        assert store.nearest(features.features[:1]).names[0] == ["9001", "9005", "9007", "9002", "9003"]
        assert store.enroll_features(features, existing="add") == 0  # they are enrolled already


def test_current_file_gets_the_default_of_a_new_column(
    features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A future format has another column; rows of the current format get its default."""

    @dataclass(frozen=True, eq=False, kw_only=True)
    class WithChannel(row_columns.AudioProvenance):
        channel: torch.Tensor

    path = features.save(tmp_path / "current.pt")
    column = Column("channel", torch.int64, default=-1)
    monkeypatch.setattr(row_columns, "AUDIO_COLUMNS", (*row_columns.AUDIO_COLUMNS, column))
    monkeypatch.setattr(feature_set, "AudioProvenance", WithChannel)
    monkeypatch.setattr(feature_set, "FORMAT", 2)
    monkeypatch.setattr(feature_set, "READERS", {1: feature_set.READERS[1], 2: feature_set.READERS[1]})
    read = FeatureSet.load(path)
    assert isinstance(read.audio, WithChannel)
    assert read.audio.channel.tolist() == [-1] * 48
    again = FeatureSet.load(read.select(range(5)).save(tmp_path / "future.pt"))
    assert isinstance(again.audio, WithChannel)
    assert again.audio.channel.tolist() == [-1] * 5
    assert torch.equal(again.features, features.features[:5])
