"""`SpeakerClassifier`: saving, loading, and the predictions for files and features."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audio import read_audio
from corpora import Corpus
from encoders import Encoder, EncoderError, load_encoder
from evaluation import compare_heads
from features import FeatureSet
from heads import HEADS, UNKNOWN, ClassifierError, SpeakerClassifier


@pytest.fixture(scope="module", params=[name for name in HEADS if name != "weighted"])
def classifier(request: pytest.FixtureRequest, features: FeatureSet) -> SpeakerClassifier:
    return compare_heads(features, [request.param], options={"epochs": 40, "lr": 0.01, "device": "cpu"}).classifier


@pytest.fixture(scope="module")
def saved(classifier: SpeakerClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier.save(tmp_path_factory.mktemp("classifier") / "classifier.pt")


def test_saved_classifier_predicts_the_same(
    classifier: SpeakerClassifier, saved: Path, features: FeatureSet, corpus: Corpus
) -> None:
    loaded = SpeakerClassifier.load(saved)
    assert loaded.predict_features(features) == classifier.predict_features(features)
    for name in ("speakers", "metrics", "training", "threshold"):
        assert getattr(loaded, name) == getattr(classifier, name), name
    paths = [utterance.path for utterance in corpus.utterances[::7]]
    assert loaded.predict(paths) == classifier.predict(paths)


def test_files_and_cached_features_get_the_same_predictions(
    saved: Path, features: FeatureSet, corpus: Corpus, spectral: Encoder
) -> None:
    loaded = SpeakerClassifier.load(saved)
    predictions = loaded.predict([utterance.path for utterance in corpus], top_k=3)
    expected = loaded.predict_features(features, top_k=3)
    for prediction, (speakers, probabilities) in zip(predictions, expected, strict=True):
        assert prediction.speakers == speakers
        np.testing.assert_allclose(prediction.probabilities, probabilities, rtol=1e-4)
    assert np.mean([p.speakers[0] == u.speaker for p, u in zip(predictions, corpus, strict=True)]) > 0.9


def test_predictions_do_not_depend_on_other_files(saved: Path, corpus: Corpus) -> None:
    loaded = SpeakerClassifier.load(saved)
    paths = [utterance.path for utterance in corpus.utterances[:5]]
    assert loaded.predict(paths) == [loaded.predict([path])[0] for path in paths]


def test_probabilities_are_sorted_and_sum_to_one(saved: Path, corpus: Corpus) -> None:
    prediction = SpeakerClassifier.load(saved).predict([corpus.utterances[0].path], top_k=99)[0]
    assert len(prediction.speakers) == len(set(prediction.speakers)) == 4
    assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)
    assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-5)


def test_files_below_the_threshold_are_unknown(saved: Path, corpus: Corpus) -> None:
    loaded = replace(SpeakerClassifier.load(saved), threshold=0.0)
    paths = [utterance.path for utterance in corpus.utterances[::4]]
    plain, rejecting = loaded.predict(paths), loaded.predict(paths, reject=True)
    for one, other in zip(plain, rejecting, strict=True):
        assert other.speakers in (one.speakers, (UNKNOWN, *one.speakers))
    strict = replace(loaded, threshold=float(np.finfo(np.float32).max))
    assert {prediction.speakers[0] for prediction in strict.predict(paths, reject=True)} == {UNKNOWN}
    with pytest.raises(ClassifierError, match="has no threshold for unknown speakers"):
        replace(loaded, threshold=None).predict(paths, reject=True)


def test_unreadable_file_does_not_stop_the_others(saved: Path, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("text")
    good = corpus.utterances[0].path
    predictions = SpeakerClassifier.load(saved).predict([tmp_path / "text.wav", good, tmp_path / "missing.wav", good])
    assert [prediction.error is None for prediction in predictions] == [False, True, False, True]
    assert predictions[0].speakers == ()
    assert predictions[2].error == "no such file"
    assert predictions[1] == predictions[3]


def test_files_are_cropped_as_in_training(
    saved: Path, corpus: Corpus, write_audio: Callable[..., Path], tmp_path: Path, spectral: Encoder
) -> None:
    loaded = SpeakerClassifier.load(saved)
    path = write_audio(tmp_path / "long.wav", seconds=13.0)
    assert loaded.members[0].crop == 10.0
    vector = spectral.encode([read_audio(path, 16_000, max_duration=10.0)])
    expected = torch.from_numpy(loaded.members[0].logits(vector)).softmax(dim=1).max()
    assert loaded.predict([path])[0].probabilities[0] == pytest.approx(float(expected), rel=1e-5)


def test_another_encoder_is_refused(saved: Path, corpus: Corpus, features: FeatureSet) -> None:
    loaded = SpeakerClassifier.load(saved)
    other = load_encoder("spectral", n_mfcc=30, device="cpu")
    with pytest.raises(ClassifierError, match=r"trained with the encoder 'spectral'.*n_mfcc is 30 there, 40 here"):
        loaded.predict([corpus.utterances[0].path], encoder=other)
    other_features = FeatureSet(**{**vars(features), "encoder": other.spec})
    with pytest.raises(ClassifierError, match="n_mfcc is 30 there, 40 here"):
        loaded.predict_features(other_features)


def test_classifier_of_unknown_encoder_needs_features(tmp_path: Path, corpus: Corpus) -> None:
    rows = torch.cat([torch.randn(20, 4), torch.randn(20, 4) + 5])
    torch.save({"features": rows, "labels": torch.arange(40) // 20}, tmp_path / "plain.pt")
    features = FeatureSet.load(tmp_path / "plain.pt")
    classifier = compare_heads(features, ["lda"]).classifier
    assert classifier.predict_features(features)[0][0] == ("0", "1")
    with pytest.raises(EncoderError, match=r"encoder 'unknown'"):
        classifier.predict([corpus.utterances[0].path])


def test_classifier_file_is_self_contained(saved: Path, corpus: Corpus, tmp_path: Path) -> None:
    moved = Path(shutil.copy(saved, tmp_path / "moved.pt"))
    audio = Path(shutil.copy(corpus.utterances[0].path, tmp_path / "audio.flac"))
    expected = SpeakerClassifier.load(saved).predict([corpus.utterances[0].path])[0]
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert SpeakerClassifier.load(moved).predict([audio])[0].probabilities == expected.probabilities
    finally:
        os.chdir(here)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_code_in_a_classifier_file_never_runs(saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True)
    torch.save({**content, "training": Bomb(tmp_path / "exploded")}, tmp_path / "bomb.pt")
    with pytest.raises(ClassifierError, match="could run code"):
        SpeakerClassifier.load(tmp_path / "bomb.pt")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content["head"].update(classes=[0, 1, 2, 99]),
        lambda content: content["head"].update(classes=["a", "b", "c", "d"]),
        lambda content: content["head"].update(classes=[0, 1]),
        lambda content: content["head"]["state"].clear(),
        lambda content: content["head"].update(hyper_parameters={"nose": 1}),
        lambda content: content["scaler"].update(mean=[1.0, 2.0]),
        lambda content: content["scaler"].update(scale=torch.ones(3)),
        lambda content: content.update(speakers=["ann"]),
        lambda content: content.update(speakers=[1, 2, 3, 4]),
        lambda content: content.update(encoder=None),
        lambda content: content.update(encoder={"name": "spectral", "options": [1]}),
        lambda content: content.update(crop="10"),
        lambda content: content.update(crop=0.0),
        lambda content: content["head"].update(classes=[0.0, 1.0, 2.0, 3.0]),
        lambda content: content.update(temperature=0.0),
        lambda content: content.update(threshold="high"),
        lambda content: content.update(threshold=float("nan")),
        lambda content: content.update(detector={"head": None}),
        lambda content: content["metrics"].update(open_set={"by": "x"}),
        lambda content: content["metrics"].update(open_set="none"),
        lambda content: content["metrics"]["open_set"].update(miss="many"),
        lambda content: content.update(training=3),
        lambda content: content.update(format=torch.ones(2)),
    ],
)
def test_damaged_values_are_refused(damage: Callable[[Any], None], saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True)
    damage(content)
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ClassifierError, match=r"x\.pt"):
        SpeakerClassifier.load(tmp_path / "x.pt")


def test_classifier_of_a_newer_format_asks_for_an_update(saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True)
    torch.save({**content, "format": 99}, tmp_path / "x.pt")
    with pytest.raises(ClassifierError, match=r"x\.pt: its format is 99, .* up to 1\. Update Voxprobe, or train it"):
        SpeakerClassifier.load(tmp_path / "x.pt")


def test_files_that_are_not_classifiers_are_refused(saved: Path, features_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match=r"not a speaker classifier.*; it is a features file"):
        SpeakerClassifier.load(features_path)
    content = torch.load(saved, weights_only=True)
    for key in ("scaler", "speakers", "encoder"):
        torch.save({name: value for name, value in content.items() if name != key}, tmp_path / "x.pt")
        with pytest.raises(ClassifierError, match=key):
            SpeakerClassifier.load(tmp_path / "x.pt")
    torch.save({**content, "head": {**content["head"], "name": "nose"}}, tmp_path / "x.pt")
    with pytest.raises(ClassifierError, match="nose"):
        SpeakerClassifier.load(tmp_path / "x.pt")
    with pytest.raises(ClassifierError, match="no such file"):
        SpeakerClassifier.load(tmp_path / "missing.pt")


@pytest.mark.parametrize("kind", [str, Path])
def test_a_single_path_is_one_file(kind: type, saved: Path, corpus: Corpus) -> None:
    loaded, path = SpeakerClassifier.load(saved), corpus.utterances[0].path
    assert loaded.predict(kind(path)) == loaded.predict([path])


def test_a_generator_of_paths_is_accepted(saved: Path, corpus: Corpus) -> None:
    loaded, paths = SpeakerClassifier.load(saved), [utterance.path for utterance in corpus.utterances[:2]]
    assert loaded.predict(path for path in paths) == loaded.predict(paths)
