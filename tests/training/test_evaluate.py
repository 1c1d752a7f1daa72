"""Figures of whole utterances: accuracies, and the EER of all pairs and of drawn triplets."""

from collections.abc import Callable

import numpy as np
import pytest

from audio import read_audio
from corpora import Corpus, split, split_by_speaker
from encoders import load_encoder
from heads import SpeakerClassifier
from metrics import equal_error_rate, equal_error_threshold, macro_f1
from training import TrainedEncoder, TrainingError

Train = Callable[..., TrainedEncoder]


def test_figures_of_the_test_part_are_those_of_the_saved_encoder(train: Train, corpus: Corpus) -> None:
    fractions = (0.5, 0.0, 0.5)
    trained = train("bilstm", "triplet", split_by="speaker", fractions=fractions, batch_size=4, epochs=1)
    encoder = load_encoder("trained", trained.paths[0], device="cpu")
    tested = [corpus.utterances[row] for row in split_by_speaker([each.speaker for each in corpus], fractions)[2]]
    vectors = encoder.encode([read_audio(each.path, 16_000) for each in tested]).numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [(one, other) for other in range(len(tested)) for one in range(other)]
    labels = [tested[one].speaker == tested[other].speaker for one, other in pairs]
    scores = [float(vectors[one] @ vectors[other]) for one, other in pairs]
    assert trained.figures["part"] == "test"
    assert trained.figures["eer"] == pytest.approx(equal_error_rate(labels, scores), abs=1e-6)
    assert trained.figures["eer_threshold"] == pytest.approx(equal_error_threshold(labels, scores), abs=1e-5)
    # 10,000 triplets of 20 utterances draw every pair about 50 times, targets and nontargets equally often in the
    # mean: the standard error of a rate is below 0.005.
    assert trained.figures["eer_triplets"] == pytest.approx(trained.figures["eer"], abs=0.03)
    assert min(scores) <= trained.figures["eer_triplets_threshold"] <= max(scores)


def test_figures_of_an_ensemble_are_those_of_its_classifier(train: Train, corpus: Corpus) -> None:
    trained = train(["conv1d", "conv2d"], fractions=(0.5, 0.1, 0.4))
    tested = [corpus.utterances[row] for row in split([each.speaker for each in corpus], fractions=(0.5, 0.1, 0.4))[2]]
    assert trained.classifier is not None
    answers = SpeakerClassifier.load(trained.classifier).predict(
        [each.path for each in tested], encoder_weights=trained.paths, device="cpu"
    )
    ranks = [answer.speakers.index(each.speaker) for answer, each in zip(answers, tested, strict=True)]
    probabilities = [answer.probabilities[rank] for answer, rank in zip(answers, ranks, strict=True)]
    assert trained.figures["network"] == "ensemble"
    assert trained.figures["n_utterances"] == len(tested) == 16
    assert trained.figures["accuracy"] == pytest.approx(np.mean([rank < 1 for rank in ranks]))
    assert trained.figures["top3"] == pytest.approx(np.mean([rank < 3 for rank in ranks]))
    assert trained.figures["top5"] == 1
    assert trained.figures["loss"] == pytest.approx(-np.mean(np.log(probabilities)), abs=1e-3)
    predicted = [answer.speakers[0] for answer in answers]
    assert trained.figures["macro_f1"] == pytest.approx(macro_f1([each.speaker for each in tested], predicted))


def test_each_row_of_triplets_has_both_rates(train: Train) -> None:
    trained = train("bilstm", "triplet", split_by="speaker", fractions=(0.5, 0.5, 0.0), batch_size=4)
    again = train("bilstm", "triplet", split_by="speaker", fractions=(0.5, 0.5, 0.0), batch_size=4)
    names = ("eer", "eer_threshold", "eer_triplets", "eer_triplets_threshold")
    rows = [[row[name] for name in names] for row in trained.rows if row["part"] == "validation"]
    assert len(rows) == 2
    assert np.isfinite(rows).all()
    assert rows == [[row[name] for name in names] for row in again.rows if row["part"] == "validation"]


def test_embeddings_that_are_not_finite_stop_the_run(train: Train) -> None:
    with pytest.raises(TrainingError, match=r"embeddings of conv1d are not finite after epoch 1\. Give a smaller --lr"):
        train(lr=1e30, steps_per_epoch=1)
