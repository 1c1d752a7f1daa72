"""Comparisons of several encoders, and ensembles of heads."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from encoders import spec_digest
from evaluation import compare_heads
from evaluation.alignment import align, by_encoder
from evaluation.summary import key_of
from features import FeatureSet
from heads import ClassifierError, HeadError, SpeakerClassifier

MadeUp = Callable[..., FeatureSet]


@pytest.fixture(scope="module")
def two_encoders(made_up: MadeUp) -> list[FeatureSet]:
    """Return features of the same utterances from two encoders, with different noise."""
    return [made_up(noise=2.0, encoder="first"), made_up(noise=1.0, seed=0, encoder="second")]


def test_several_encoders_give_one_table(two_encoders: list[FeatureSet]) -> None:
    comparison = compare_heads(two_encoders, ["lda", "centroid"], ensemble=True)
    pairs = [(row["encoder"], row["head"]) for row in comparison.rows if row["split_by"] == "utterance"]
    assert pairs == [
        ("first", "lda"), ("first", "centroid"), ("second", "lda"), ("second", "centroid"),
        ("first", "ensemble"), ("second", "ensemble"),
        ("first + second", "lda"), ("first + second", "centroid"), ("first + second", "ensemble"),
    ]  # fmt: skip
    assert "[first, split by utterance: 192 train, 24 validation, 24 test utterances]" in comparison.table()
    assert "[first + second, split by session" in comparison.table()
    alone = compare_heads(two_encoders[1], ["lda"])
    row = next(row for row in comparison.rows if (row["encoder"], row["head"]) == ("second", "lda"))
    assert {**row, "seconds": 0} == {**alone.rows[0], "seconds": 0}


def test_ensemble_averages_the_logits_of_its_members(two_encoders: list[FeatureSet]) -> None:
    comparison = compare_heads(two_encoders, ["lda", "logistic"], ensemble=True, seed=1, refit=False)
    members = {}
    for label, features in zip(("first", "second"), two_encoders, strict=True):
        for head in ("lda", "logistic"):
            members[label, head] = compare_heads(features, [head], seed=1, refit=False).classifier.members[0]
    outcome = comparison.outcomes["hard", "first + second", "ensemble", "standard", "utterance"][0]
    tables = dict(zip(("first", "second"), two_encoders, strict=True))
    rows = outcome.rows
    logits = np.mean(
        [
            member.head.decision_function(member.scaler.transform(tables[label].features[rows]))
            for (label, _), member in members.items()
        ],
        axis=0,
    )
    np.testing.assert_array_equal(outcome.predictions, logits.argmax(axis=1))

    def difference(log_temperature: float) -> float:
        return float(np.abs(softmax(logits / np.exp(log_temperature), axis=1).max(axis=1) - outcome.confidences).max())

    assert minimize_scalar(difference, bounds=(-3, 3), method="bounded").fun < 1e-3  # one temperature for the mean
    row = next(row for row in comparison.rows if key_of(row)[1:3] == ("first + second", "ensemble"))
    assert row["n_parameters"] == sum(member.head.n_parameters_ for member in members.values())


def test_classifier_is_fitted_on_the_set_that_was_selected(made_up: MadeUp) -> None:
    """Two sets of other projects have the same spec, so the spec does not say which one a member was fitted on."""
    good = replace(made_up(n_sessions=1), encoder={"name": "unknown", "dim": 10})
    noise = torch.randn(good.features.shape, generator=torch.Generator().manual_seed(0))
    comparison = compare_heads([replace(good, features=noise), good], ["centroid"])
    assert comparison.best["test_accuracy"] > 0.8
    member = comparison.classifier.members[0]
    found = member.head.predict(member.scaler.transform(good.features))
    assert np.mean(found == good.labels.numpy()) > 0.8


def test_saved_ensemble_has_all_members(two_encoders: list[FeatureSet], tmp_path: Path) -> None:
    comparison = compare_heads(two_encoders, ["lda", "centroid"], ensemble=True)
    best = next(record for record in comparison.summary if key_of(record)[1:3] == ("first + second", "ensemble"))
    pairs = [(features, head) for features in two_encoders for head in ("lda", "centroid")]
    members = tuple(
        replace(compare_heads(features, [head], refit=False).classifier.members[0], temperature=1.0)
        for features, head in pairs
    )
    classifier = SpeakerClassifier(members, comparison.speakers, metrics=best)
    loaded = SpeakerClassifier.load(classifier.save(tmp_path / "ensemble.pt"))
    assert [(member.encoder["name"], member.name) for member in loaded.members] == [
        ("first", "lda"), ("first", "centroid"), ("second", "lda"), ("second", "centroid"),
    ]  # fmt: skip
    predictions = loaded.predict_features(two_encoders, top_k=3)
    assert predictions == loaded.predict_features(two_encoders[::-1], top_k=3)  # members find their features
    tested = comparison.outcomes[key_of(best)][0]
    assert [predictions[row][0][0] for row in tested.rows] == [
        comparison.speakers[label] for label in tested.predictions
    ]
    with pytest.raises(ClassifierError, match=r"trained with the encoder 'second'.*name is 'first' there"):
        loaded.predict_features(two_encoders[0])
    with pytest.raises(ClassifierError, match="same utterances in the same order"):
        loaded.predict_features([two_encoders[0], two_encoders[1].select(range(5))])


def test_members_with_different_speakers_are_refused(two_encoders: list[FeatureSet], tmp_path: Path) -> None:
    one = compare_heads(two_encoders[0], ["lda"]).classifier
    other = compare_heads(two_encoders[0].select(range(100)), ["lda"]).classifier
    mixed = SpeakerClassifier((*one.members, *other.members), one.speakers)
    with pytest.raises(ClassifierError, match="members have different classes"):
        SpeakerClassifier.load(mixed.save(tmp_path / "mixed.pt"))


def test_selected_ensemble_is_saved(made_up: MadeUp, tmp_path: Path) -> None:
    sets = [made_up(noise=2.5, encoder=f"encoder {seed}", n_sessions=1, seed=0) for seed in range(3)]
    sets = [
        replace(features, features=features.features + torch.randn(240, 10, generator=torch.Generator().manual_seed(n)))
        for n, features in enumerate(sets)
    ]
    compare_heads(sets[0], ["lda"]).save(tmp_path, "hard", "")
    assert (tmp_path / "hard_scaler.pt").exists()
    comparison = compare_heads(sets, ["lda"], ensemble=True, seeds=2)
    comparison.save(tmp_path, "hard", "")
    loaded = SpeakerClassifier.load(tmp_path / "speaker_classifier_hard.pt")
    assert comparison.best["encoder"] == "encoder 0 + encoder 1 + encoder 2"
    assert len(loaded.members) == 3
    assert len({member.temperature for member in loaded.members}) == 1
    assert not (tmp_path / "hard_scaler.pt").exists()


def test_utterances_that_are_not_in_all_sets_are_left_out(
    two_encoders: list[FeatureSet], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = two_encoders
    shuffled = second.select(np.random.default_rng(0).permutation(240)[:200])
    aligned = align([first, shuffled])
    assert "200 of 240 utterances are compared" in caplog.text
    assert aligned[0].ids == aligned[1].ids
    assert list(aligned[0].ids) == [utterance for utterance in first.ids if utterance in set(shuffled.ids)]
    for cut, whole in zip(aligned, (first, shuffled), strict=True):
        place = {utterance: row for row, utterance in enumerate(whole.ids)}
        rows = [place[utterance] for utterance in cut.ids]
        assert torch.equal(cut.features, whole.features[rows])
        assert [cut.speakers[n] for n in cut.labels] == [whole.speakers[n] for n in whole.labels[rows]]


def test_speakers_are_matched_by_name(two_encoders: list[FeatureSet]) -> None:
    first, second = two_encoders
    reversed_speakers = replace(second, labels=11 - second.labels, speakers=second.speakers[::-1])
    a, b = align([first, reversed_speakers])
    assert torch.equal(a.labels, b.labels)
    assert a.speakers == b.speakers == tuple(sorted(first.speakers))


def test_same_id_with_other_audio_is_another_utterance(features: FeatureSet) -> None:
    assert features.audio is not None
    digest = features.audio.digest.clone()
    digest[:3] = 0
    changed = replace(features, audio=replace(features.audio, digest=digest))
    assert len(align([features, changed])[0]) == len(features) - 3
    assert len(align([replace(features, audio=None), changed])[0]) == len(features)


def test_sets_of_different_corpora_are_refused(made_up: MadeUp, features: FeatureSet) -> None:
    with pytest.raises(HeadError, match="no utterance in common"):
        compare_heads([made_up(), features], ["lda"])
    with pytest.raises(HeadError, match="give at least one set"):
        compare_heads([], ["lda"])


def test_encoders_of_one_name_get_different_labels(made_up: MadeUp, features: FeatureSet) -> None:
    sets = [made_up(encoder="wav2vec2", noise=noise) for noise in (1.0, 2.0)] + [made_up(encoder="spectral", noise=3.0)]
    sets[0] = replace(sets[0], encoder={**sets[0].encoder, "source": "org/model"})
    named = list(by_encoder(sets))
    assert named[0] == "wav2vec2 org/model"
    assert named[1].startswith("wav2vec2 ")
    assert named[2] == "spectral"
    assert features.audio is not None
    shorter = replace(features, features=features.features + 1, audio=replace(features.audio, crop=3.0))
    assert list(by_encoder([features, shorter])) == ["spectral of 10 s", "spectral of 3 s"]
    plain = [replace(one, audio=None) for one in (features, shorter)]
    digest = spec_digest(features.encoder)[:8]
    assert list(by_encoder(plain)) == [f"spectral {digest}", f"spectral {digest} (2)"]
    with pytest.raises(HeadError, match="are the same; give each once"):
        compare_heads([features, replace(features, corpus="again")], ["lda"])


def test_sets_with_different_crops_find_their_own_member(features: FeatureSet) -> None:
    assert features.audio is not None
    noise = torch.randn(features.features.shape, generator=torch.Generator().manual_seed(0))
    deviation = features.features.std(0)
    worse = replace(
        features, features=noise * deviation + features.features.mean(0), audio=replace(features.audio, crop=3.0)
    )
    classifier = compare_heads([worse, features], ["lda"], ensemble=True).classifier
    predictions = classifier.predict_features([worse, features])
    assert predictions == classifier.predict_features([features, worse])
    truth = [features.speakers[label] for label in features.labels]
    assert np.mean([names[0] == speaker for (names, _), speaker in zip(predictions, truth, strict=True)]) > 0.9
    single = compare_heads(features, ["lda"]).classifier
    with pytest.raises(ClassifierError, match=r"max_duration 10\.0, these features have 3\.0"):
        single.predict_features(worse)


def test_lines_are_under_the_heading_of_their_encoder_and_split(two_encoders: list[FeatureSet]) -> None:
    comparison = compare_heads(two_encoders, ["lda", "centroid"], ensemble=True)
    heading, lines = "", []
    for line in comparison.table().splitlines()[2:]:
        if line.startswith("*"):
            break
        heading = line[1:].split(":")[0] if line.startswith("[") else heading
        if not line.startswith("["):
            lines.append((heading, line.split()[0], line.split()[-2]))
    expected = {
        (f"{record['encoder']}, split by {record['split_by']}", record["head"], f"{100 * record['test_ece']:.1f}")
        for record in comparison.summary
    }
    assert set(lines) == expected
    assert len(lines) == len(expected)


def test_one_head_on_several_encoders_gives_one_ensemble(two_encoders: list[FeatureSet]) -> None:
    comparison = compare_heads(two_encoders, ["lda"], ensemble=True)
    pairs = [(row["encoder"], row["head"]) for row in comparison.rows if row["split_by"] == "utterance"]
    assert pairs == [("first", "lda"), ("second", "lda"), ("first + second", "lda")]


def test_ensemble_without_all_members_is_left_out(
    two_encoders: list[FeatureSet], caplog: pytest.LogCaptureFixture
) -> None:
    constant = replace(two_encoders[1], features=torch.ones(240, 10))
    comparison = compare_heads([two_encoders[0], constant], ["lda", "centroid"], ensemble=True)
    pairs = {(row["encoder"], row["head"]) for row in comparison.rows}
    assert ("first", "ensemble") in pairs
    assert ("first + second", "centroid") in pairs
    assert not pairs & {("second", "ensemble"), ("first + second", "lda"), ("first + second", "ensemble")}
    assert "There is no ensemble of first + second (ensemble), since lda could not be fitted." in caplog.text


def test_overconfident_members_get_a_high_temperature(made_up: MadeUp) -> None:
    few = made_up(n_speakers=6, n_each=30, n_sessions=1, noise=3.0)
    wide = replace(few, features=torch.cat([few.features, torch.randn(180, 100)], dim=1))  # LDA is overconfident
    classifier = compare_heads(wide, ["lda"], fractions=(0.5, 0.25, 0.25), refit=False).classifier
    member = classifier.members[0]
    assert member.temperature > 2
    raw = member.head.decision_function(member.scaler.transform(wide.features))
    np.testing.assert_allclose(member.logits(wide.features), raw / member.temperature, rtol=1e-5)


def test_encoder_with_layers_beside_encoder_with_one_vector(made_up: MadeUp) -> None:
    features = made_up(n_sessions=1)
    noise = torch.randn(240, 10, generator=torch.Generator().manual_seed(0))
    layered = replace(
        features,
        features=torch.stack([noise, features.features], dim=1),
        encoder={"name": "deep", "layers": [0, 1], "options": {"layers": "all"}},
    )
    quick = {"epochs": 20, "lr": 0.01, "device": "cpu"}
    comparison = compare_heads([layered, features], ["lda", "weighted"], options=quick, ensemble=True)
    rows = {(row["encoder"], row["head"]): row["layer"] for row in comparison.rows}
    assert rows == {
        ("deep", "lda"): 1, ("deep", "weighted"): None, ("made up", "lda"): None, ("deep", "ensemble"): None,
        ("deep + made up", "lda"): None, ("deep + made up", "ensemble"): None,
    }  # fmt: skip
    assert "heads that take one vector use layer 1 of deep, the best by validation" in comparison.table()
    everything = compare_heads(features, ["all"], options=quick)
    assert "weighted" not in {row["head"] for row in everything.rows}  # it takes layers only
    assert len(everything.rows) == 8
