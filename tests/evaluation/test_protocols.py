"""Splits by utterance and by session, seeds, leakage, intervals, and the notes under the table."""

import csv
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, recall_score

from corpora import SplitBy
from evaluation import compare_heads
from evaluation.alignment import align
from evaluation.leaks import find_leaks
from evaluation.protocol import split_rows
from evaluation.summary import key_of
from features import MEAN_CHANNEL, AudioProvenance, FeatureSet
from heads import HeadError, SpeakerClassifier
from metrics import ratio_interval

MadeUp = Callable[..., FeatureSet]
QUICK = {"epochs": 15, "lr": 0.01, "device": "cpu"}


def test_both_splits_are_compared_and_the_given_one_selects(made_up: MadeUp) -> None:
    orders: list[tuple[SplitBy, SplitBy]] = [("utterance", "session"), ("session", "utterance")]
    for given, other in orders:
        comparison = compare_heads(made_up(), ["lda", "centroid"], split_by=given, seeds=2)
        kinds = [(row["split_by"], row["head"], row["seed"]) for row in comparison.rows]
        assert sorted(kinds) == sorted((k, h, s) for k in (given, other) for h in ("lda", "centroid") for s in (0, 1))
        assert comparison.best["split_by"] == given
        assert comparison.classifier.training["split_by"] == given
        assert [record["seeds"] for record in comparison.summary] == 4 * [[0, 1]]
        alone = compare_heads(made_up(), ["lda"], split_by=other)
        same = next(row for row in comparison.rows if row["split_by"] == other and row["head"] == "lda")
        assert {**same, "seconds": 0} == {**alone.rows[0], "seconds": 0}


def test_without_sessions_only_the_split_by_utterance_is_made(made_up: MadeUp) -> None:
    comparison = compare_heads(made_up(n_sessions=1), ["lda"])
    assert {row["split_by"] for row in comparison.rows} == {"utterance"}
    assert "no speaker has a second session" in comparison.table()
    assert "by session" not in comparison.table()


def test_session_gap_is_described(made_up: MadeUp) -> None:
    leaking = compare_heads(made_up(n_speakers=20, shift=4.0, n_sessions=5), ["linear"], seeds=2, options=QUICK)
    accuracy = {record["split_by"]: 100 * record["test_accuracy"] for record in leaking.summary}
    (sentence,) = [note for note in leaking.notes if "session gap" in note]
    low, high = (100 * leaking.session_gap[name] for name in ("low", "high"))
    gap = accuracy["utterance"] - accuracy["session"]
    assert sentence == (
        f"linear: {accuracy['session']:.1f} % in new sessions, {accuracy['utterance']:.1f} % in known ones: "
        f"session gap {gap:.1f} points (95 % CI {low:.1f} to {high:.1f}), significant"
    )
    assert sentence in leaking.table()
    assert "100 % of test utterances are from sessions with training utterances" in " ".join(leaking.leaks)
    voice = compare_heads(made_up(n_speakers=20, shift=0.0, n_sessions=5), ["linear"], seeds=2, options=QUICK)
    (sentence,) = [note for note in voice.notes if "session gap" in note]
    assert sentence.endswith(", not significant")


def test_sessions_shared_by_speakers_are_reported(made_up: MadeUp) -> None:
    features = made_up(n_speakers=6, n_sessions=2)
    meetings = replace(features, sessions=features.sessions % 2, session_names=("monday", "friday"))
    odd = meetings.select(np.r_[0:20, 20:40:2, 41:60:2, 60:120])  # two of the speakers were at one meeting only
    comparison = compare_heads(odd, ["centroid"], split_by="session")
    shared = [leak for leak in comparison.leaks if "from sessions with training utterances of other speakers" in leak]
    rows = comparison.outcomes[key_of(comparison.best)][0].rows
    in_train = np.setdiff1d(np.arange(len(odd)), rows)
    expected = np.isin(odd.sessions.numpy()[rows], odd.sessions.numpy()[in_train]).any()
    assert bool(shared) == bool(expected)


def audio_of(features: FeatureSet) -> AudioProvenance:
    assert features.audio is not None
    return features.audio


def test_copies_in_two_parts_of_a_split_are_reported(features: FeatureSet) -> None:
    parts = split_rows(features, "utterance", (0.6, 0.2, 0.2), seed=0)
    sides = {"fit": parts.folds[0].fit[:2], "validation": parts.validation[:2], "test": parts.test[:2]}
    in_test = "audio of 1 test utterance, whole or in part, is in training too"
    in_validation = "audio of 1 validation utterance, whole or in part, is in training too"
    for one, other, expected in (
        ("fit", "fit", []),
        ("test", "test", []),
        ("fit", "test", [in_test]),
        ("validation", "test", [in_test]),
        ("fit", "validation", [in_validation]),
    ):
        digest = audio_of(features).digest.clone()
        digest[sides[one][0]] = digest[sides[other][1]].clone()
        copied = replace(features, audio=replace(audio_of(features), digest=digest))
        leaks = [leak for leak in find_leaks(copied, {"utterance": [parts]}) if "in training too" in leak]
        assert len(leaks) == len(expected), (one, other, leaks)
        assert all(sentence in leak for sentence, leak in zip(expected, leaks, strict=True))


def test_equal_vectors_in_two_parts_of_a_split_are_reported(features: FeatureSet) -> None:
    plain = FeatureSet.from_arrays(features.features, features.to_arrays()[1])  # as a file without digests
    for given in (features, plain):
        parts = split_rows(given, "utterance", (0.6, 0.2, 0.2), seed=0)
        vectors = given.features.clone()
        vectors[parts.test[0]] = vectors[parts.train[0]]
        copied = replace(given, features=vectors, durations=torch.full((len(given),), torch.nan))
        [leak] = [each for each in find_leaks(copied, {"utterance": [parts]}) if "in training too" in each]
        assert (
            "the audio of 1 test utterance, whole or in part, is in training too, so the test figures may be optimistic"
            in leak
        )
        assert leak.endswith(f": {given.ids[parts.test[0]]}")
        assert not any("in training too" in each for each in find_leaks(given, {"utterance": [parts]}))


def test_overlapping_segments_of_a_file_are_reported(features: FeatureSet) -> None:
    parts = split_rows(features, "utterance", (0.8, 0.1, 0.1), seed=0)
    audio = audio_of(features)
    digest, start, duration = audio.digest.clone(), audio.start.clone(), audio.duration.clone()
    test, train = int(parts.test[0]), int(parts.train[0])
    digest[test] = digest[train].clone()
    start[train], duration[train], duration[test] = 2.0, 3.0, 3.0
    for begin, overlaps in ((0.0, True), (4.5, True), (5.0, False), (9.0, False)):
        start[test] = begin
        spans = replace(audio, digest=digest, start=start.clone(), duration=duration)
        leaks = find_leaks(replace(features, audio=spans), {"utterance": [parts]})
        assert any("in training too" in leak for leak in leaks) == overlaps, begin


def test_two_channels_of_a_span_share_their_audio_if_they_have_one_speaker(features: FeatureSet) -> None:
    parts = split_rows(features, "utterance", (0.8, 0.1, 0.1), seed=0)
    audio, test, labels = audio_of(features), int(parts.test[0]), features.labels
    digest = audio.digest.clone()
    same = next(row for row in parts.train.tolist() if labels[row] == labels[test])
    other = next(row for row in parts.train.tolist() if labels[row] != labels[test])
    for train, channels, shares in (
        (same, (0, 1), True), (other, (0, 1), False), (other, (1, 1), True), (other, (1, MEAN_CHANNEL), True),
    ):  # fmt: skip
        digests, channel = digest.clone(), torch.full_like(audio.channel, MEAN_CHANNEL)
        digests[test] = digest[train]
        channel[test], channel[train] = channels
        found = find_leaks(
            replace(features, audio=replace(audio, digest=digests, channel=channel)), {"utterance": [parts]}
        )
        assert any("in training too" in leak for leak in found) == shares, (train, channels)


def test_speakers_of_one_meeting_each_are_tested_in_their_meeting(made_up: MadeUp) -> None:
    local = made_up(n_sessions=1)
    meetings = replace(local, sessions=local.labels // 2, session_names=tuple(f"m{k}" for k in range(10)))
    meetings = replace(meetings, session_names=meetings.session_names[: int(meetings.sessions.max()) + 1])
    [leak] = [each for each in compare_heads(meetings, ["centroid"]).leaks if "no speaker has a second session" in each]
    assert "the test utterances of a speaker are from the session of the training utterances" in leak
    assert "labels are local to a session" in leak
    assert "--pattern" not in leak


def test_leaks_are_found_in_the_set_with_provenance(features: FeatureSet) -> None:
    tested = compare_heads(features, ["centroid"], fractions=(0.6, 0.2, 0.2)).outcomes
    row = int(next(iter(tested.values()))[0].rows[0])
    digest = audio_of(features).digest.clone()
    digest[np.setdiff1d(np.arange(len(features)), [row])] = digest[row].clone()
    copies = replace(features, audio=replace(audio_of(features), digest=digest))
    plain = replace(features, audio=None, features=2 * features.features)
    for sets in ([plain, copies], [copies, plain]):
        comparison = compare_heads(sets, ["centroid"], fractions=(0.6, 0.2, 0.2))
        assert any("in training too" in leak for leak in comparison.leaks)
        assert any("listed under a second speaker" in leak for leak in comparison.leaks)


def test_failing_other_split_does_not_stop_the_given_one(made_up: MadeUp, caplog: pytest.LogCaptureFixture) -> None:
    small = made_up(n_speakers=3, n_each=3, n_sessions=2)
    comparison = compare_heads(small, ["centroid"], seeds=6)
    assert {row["split_by"] for row in comparison.rows} == {"utterance"}
    assert "The split by session is left out: No speaker has an utterance" in caplog.text


def test_split_by_session_without_sessions_is_explained(made_up: MadeUp) -> None:
    comparison = compare_heads(made_up(n_sessions=1), ["centroid"], split_by="session")
    assert "no speaker can be tested in a new session; split by utterance instead" in comparison.table()


def test_few_rows_for_many_dimensions_are_reported(made_up: MadeUp) -> None:
    few = made_up(n_speakers=4, n_each=5, n_sessions=1)
    table = compare_heads(few, ["lda"], fractions=(0.6, 0.2, 0.2)).table()
    note = (
        "lda: a covariance of 10 dimensions is estimated with only 8 degrees of freedom (training rows minus speakers)"
        ", so it may be unreliable; try --head_options shrinkage=0.1"
    )
    assert note in table.splitlines()
    assert "covariance" not in compare_heads(made_up(), ["lda"]).table()
    assert "covariance" not in compare_heads(few, ["lda"], options={"shrinkage": 0.2}).table()


def test_intervals_are_over_speakers(made_up: MadeUp) -> None:
    features = made_up()
    comparison = compare_heads(features, ["lda"], seeds=3)
    outcomes = comparison.outcomes[key_of(comparison.best)]
    labels = np.concatenate([outcome.labels for outcome in outcomes])
    right = np.concatenate([outcome.labels == outcome.predictions for outcome in outcomes])
    expected = ratio_interval(np.bincount(labels, right), np.bincount(labels))
    assert (comparison.best["test_accuracy_low"], comparison.best["test_accuracy_high"]) == expected
    assert comparison.best["test_accuracy"] == pytest.approx(right.mean())
    assert expected[0] < right.mean() < expected[1]
    assert f"{100 * expected[0]:.1f} - {100 * expected[1]:.1f}" in comparison.table()


def test_runner_up_is_compared_with_the_best(made_up: MadeUp) -> None:
    features = made_up(n_speakers=30, shift=0.3)
    far = compare_heads(features, ["lda", "linear"], seeds=2, options={**QUICK, "epochs": 1, "lr": 1e-5})
    (note,) = [note for note in far.notes if "(runner-up)" in note]
    assert re.fullmatch(
        r"lda vs linear \(runner-up\): \+\d+\.\d points on the test set \(95 % CI \d+\.\d to \d+\.\d\), significant",
        note,
    )
    near = compare_heads(features, ["lda", "plda"], seeds=2)
    (note,) = [note for note in near.notes if "(runner-up)" in note]
    assert note.startswith(("lda vs plda (runner-up): ", "plda vs lda (runner-up): "))
    assert note.endswith("), not significant")


def test_perfect_accuracy_states_the_possible_error_rate(made_up: MadeUp) -> None:
    comparison = compare_heads(made_up(noise=0.01, shift=0.0), ["lda"])
    assert comparison.best["test_accuracy"] == 1
    assert "100.0 - 100.0" not in comparison.table()  # a bootstrap without errors has no width
    expected = "no errors in 24 test utterances: the error rate may be up to 11.7 % (95 % confidence)"
    assert expected in comparison.table()


def test_accuracy_by_speaker_and_confusions_are_written(made_up: MadeUp, tmp_path: Path) -> None:
    features = made_up()
    comparison = compare_heads(features, ["lda"], seeds=2)
    comparison.save(tmp_path, "hard", "")
    outcomes = comparison.outcomes[key_of(comparison.best)]
    labels = np.concatenate([outcome.labels for outcome in outcomes])
    predictions = np.concatenate([outcome.predictions for outcome in outcomes])
    with open(tmp_path / "per_speaker.csv", newline="") as file:
        speakers = list(csv.DictReader(file))
    recalls = recall_score(labels, predictions, average=None, labels=range(12))
    assert {row["speaker"]: float(row["accuracy"]) for row in speakers} == pytest.approx(
        dict(zip(features.speakers, recalls, strict=True))
    )
    assert [float(row["accuracy"]) for row in speakers] == sorted(float(row["accuracy"]) for row in speakers)
    matrix = np.zeros((12, 12))
    with open(tmp_path / "confusion.csv", newline="") as file:
        for row in csv.DictReader(file):
            matrix[features.speakers.index(row["speaker"]), features.speakers.index(row["predicted"])] = row["count"]
    np.testing.assert_array_equal(matrix, confusion_matrix(labels, predictions, labels=range(12)))
    worst = speakers[0]
    errors = matrix[features.speakers.index(worst["speaker"])].copy()
    errors[features.speakers.index(worst["speaker"])] = 0
    assert errors[features.speakers.index(worst["taken_for"])] == errors.max()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["notes"] == comparison.notes
    assert metrics["sizes"]["utterance"] == {"train": 192, "validation": 24, "shared": 0, "test": 24, "folds": 1}


def test_empty_test_part_gives_no_test_figures(made_up: MadeUp, tmp_path: Path) -> None:
    comparison = compare_heads(made_up(), ["lda", "centroid"], fractions=(0.8, 0.2, 0), ensemble=True)
    assert np.isnan(comparison.best["test_accuracy"])
    assert "runner-up" not in comparison.table()
    assert "session gap" not in comparison.table()
    assert [path.name for path in comparison.save(tmp_path, "hard", "")][-1] != "confusion.csv"


def test_head_that_lacks_seeds_is_not_selected(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    from heads.lda import LDAHead

    fit = LDAHead.fit

    def fit_or_fail(self: LDAHead, X: torch.Tensor, *rest: torch.Tensor) -> LDAHead:
        if len(calls) == 1:
            calls.append(1)
            raise HeadError("not this time")
        calls.append(1)
        return fit(self, X, *rest)

    calls: list[int] = []
    monkeypatch.setattr(LDAHead, "fit", fit_or_fail)
    comparison = compare_heads(made_up(n_sessions=1), ["lda", "centroid"], seeds=2)
    assert {record["head"]: record["seeds"] for record in comparison.summary} == {"lda": [0], "centroid": [0, 1]}
    assert comparison.best["head"] == "centroid"
    assert "runner-up" not in comparison.table()


@pytest.mark.parametrize("counts", [{"seeds": 0}, {"tune": 0}])
def test_zero_seeds_or_settings_are_refused(counts: dict[str, int], made_up: MadeUp) -> None:
    with pytest.raises(HeadError, match="give 1 or more"):
        compare_heads(made_up(), ["lda"], **counts)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "message"), [("Unknown", "cannot be a speaker's name"), ("nan", "a missing name")])
def test_reserved_and_missing_speakers_of_older_files_are_refused(name: str, message: str, made_up: MadeUp) -> None:
    features = made_up()
    features = replace(features, speakers=(name, *features.speakers[1:]))
    own = [features.ids[row] for row in (features.labels == 0).nonzero().flatten().tolist()]
    with pytest.raises(HeadError, match=rf"'{name}' .*{message}.* the speaker of {', '.join(own[:3])}, and"):
        compare_heads(features, ["centroid"])
    with_others = features.select((features.labels != 0).numpy())
    assert compare_heads(with_others, ["centroid"]).best["head"] == "centroid"


def test_sets_are_aligned_in_either_unicode_form(made_up: MadeUp) -> None:
    made = made_up()
    one, other = (
        replace(
            made,
            speakers=tuple(unicodedata.normalize(form, f"Zoë {name}") for name in made.speakers),
            ids=tuple(unicodedata.normalize(form, f"é{name}") for name in made.ids),
        )
        for form in ("NFC", "NFD")
    )
    assert [len(each) for each in align([one, other])] == [len(one), len(one)]


def test_unknown_option_is_refused_with_the_valid_ones(made_up: MadeUp) -> None:
    with pytest.raises(HeadError, match=r"'margn'; perhaps you meant 'margin'\..*shrinkage"):
        compare_heads(made_up(), ["lda"], options={"margn": 0.1})


def test_numpy_numbers_are_saved_as_plain_ones(made_up: MadeUp, tmp_path: Path) -> None:
    options = {"lr": np.float64(0.01), "epochs": np.int64(3), "device": "cpu"}
    compare_heads(made_up(), ["linear"], options=options).save(tmp_path, "hard", "")
    loaded = SpeakerClassifier.load(tmp_path / "speaker_classifier_hard.pt")
    assert loaded.members[0].head.hyper_parameters()["lr"] == 0.01


@pytest.mark.parametrize(
    ("scaler", "reason"),
    [("whiten", "All training rows are equal"), ("within", "No direction varies"), ("none", "No direction varies")],
)
def test_constant_features_do_not_stop_other_heads(
    scaler: str, reason: str, made_up: MadeUp, caplog: pytest.LogCaptureFixture
) -> None:
    constant = replace(made_up(n_sessions=1), features=torch.ones(240, 4))
    if scaler == "none":
        comparison = compare_heads(constant, ["lda", "plda", "centroid"], scaler=scaler)
        assert {row["head"] for row in comparison.rows} == {"centroid"}
    else:
        with pytest.raises(HeadError, match="No head could be fitted"):
            compare_heads(constant, ["lda", "centroid"], scaler=scaler)
    assert reason in caplog.text


def test_misspelt_head_beside_all_is_refused(made_up: MadeUp) -> None:
    with pytest.raises(HeadError, match="'lineer'"):
        compare_heads(made_up(), ["all", "lineer"])
    assert [row["head"] for row in compare_heads(made_up(n_sessions=1), "lda").rows] == ["lda"]
    with pytest.raises(HeadError, match="give it as seed"):
        compare_heads(made_up(), ["lda"], options={"seed": 3})
