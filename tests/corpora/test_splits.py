"""`split`: a partition, stratified by speaker, in which each speaker is in the training set."""

import logging
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from corpora import CorpusError, split
from files import count_of

Parts = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.lists(st.integers(1, 15), min_size=1, max_size=9)  # utterances of each speaker
FRACTIONS = st.sampled_from(
    [(0.8, 0.1, 0.1), (0.8, 0, 0.2), (0.9, 0.1, 0), (1, 0, 0), (0.5, 0.25, 0.25), (0.05, 0.05, 0.9), (0.98, 0.01, 0.01)]
)
NAMES = ["ann", "Bob", "carl", "zoë", "84", "121", "9", "id10270", "z"]


@st.composite
def corpora(draw: st.DrawFn) -> NDArray[Any]:
    """Draw the speakers of the utterances of a corpus, in any order, as numbers with gaps or as names."""
    counts = draw(COUNTS)
    names: list[Any] = draw(st.sampled_from([NAMES, [7, 3, 100, 0, 11, 5, 42, 9, 1]]))
    speakers = np.repeat(names[: len(counts)], counts)
    return np.asarray(speakers[np.random.default_rng(draw(SEEDS)).permutation(len(speakers))])


@st.composite
def corpora_with_sessions(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw speakers and sessions; sessions of different speakers may have the same name."""
    speakers = draw(corpora())
    names: list[Any] = draw(st.sampled_from([[0, 1, 2, 3, 4], ["monday", "tuesday", "m", "1", "01"]]))
    n_sessions = draw(st.integers(1, 5))
    drawn = np.random.default_rng(draw(SEEDS)).integers(0, n_sessions, len(speakers))
    return speakers, np.asarray(names)[drawn]


def check_partition(parts: Parts, speakers: NDArray[Any], fractions: Sequence[float]) -> None:
    assert all(part.dtype == np.int64 and part.ndim == 1 for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(speakers)))
    train, validation, test = (set(speakers[part].tolist()) for part in parts)
    assert validation <= train
    assert test <= train
    assert train == set(speakers.tolist())
    assert bool(fractions[1]) or not validation
    assert bool(fractions[2]) or not test


def as_lists(parts: Parts) -> list[list[int]]:
    return [part.tolist() for part in parts]


# By utterance


@settings(deadline=None, max_examples=100)
@given(speakers=corpora(), fractions=FRACTIONS, seed=SEEDS)
def test_split_by_utterance_is_a_partition(
    speakers: NDArray[Any], fractions: tuple[float, float, float], seed: int
) -> None:
    parts = split(speakers, fractions=fractions, seed=seed)
    check_partition(parts, speakers, fractions)
    spare = len(speakers) - len(set(speakers.tolist()))
    assert len(parts[2]) > 0 or not spare or not fractions[2]
    assert as_lists(split(speakers, fractions=fractions, seed=seed)) == as_lists(parts)


@settings(deadline=None, max_examples=100)
@given(
    counts=st.lists(st.integers(2, 30), min_size=1, max_size=8),
    named=st.booleans(),
    share=st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.5, 0.9]),
    seed=SEEDS,
)
def test_split_by_utterance_equals_scikit_learn(counts: list[int], named: bool, share: float, seed: int) -> None:
    speakers = np.repeat(np.asarray(NAMES)[: len(counts)] if named else np.arange(len(counts)), counts)
    speakers = speakers[np.random.default_rng(seed).permutation(len(speakers))]
    rows = np.arange(len(speakers))
    try:
        expected = train_test_split(rows, test_size=share, stratify=speakers, random_state=seed)
    except ValueError:  # too few rows to stratify
        assume(False)
    assume(np.isin(speakers[expected[1]], speakers[expected[0]]).all())
    train, validation, test = split(speakers, fractions=(1 - share, 0, share), seed=seed)
    np.testing.assert_array_equal(train, expected[0])
    np.testing.assert_array_equal(test, expected[1])
    assert not len(validation)


@pytest.mark.parametrize("kind", [int, str])
def test_published_split_is_reproduced(kind: type) -> None:
    numbers = np.random.default_rng(0).integers(0, 40, 2_703)
    speakers = numbers if kind is int else np.array([f"{1000 + number}" for number in numbers])
    expected = train_test_split(np.arange(2_703), test_size=0.2, stratify=speakers, random_state=42)
    train, validation, test = split(speakers, fractions=(0.8, 0, 0.2), seed=42)
    np.testing.assert_array_equal(train, expected[0])
    np.testing.assert_array_equal(test, expected[1])
    assert len(validation) == 0
    assert as_lists(split(speakers.tolist(), None, [0.8, 0, 0.2], split_by="utterance", seed=42)) == [
        train.tolist(), [], test.tolist(),
    ]  # fmt: skip


def test_test_set_is_drawn_before_validation_set() -> None:
    speakers = np.repeat(np.arange(6), 30)
    train, validation, test = split(speakers, fractions=(0.5, 0.25, 0.25), seed=3)
    rest, expected_test = train_test_split(np.arange(180), test_size=45, stratify=speakers, random_state=3)
    expected_train, expected_validation = train_test_split(rest, test_size=45, stratify=speakers[rest], random_state=3)
    np.testing.assert_array_equal(test, expected_test)
    np.testing.assert_array_equal(validation, expected_validation)
    np.testing.assert_array_equal(train, expected_train)


def test_fractions_hold_for_each_speaker() -> None:
    speakers = np.repeat(["ann", "bob", "carl"], [20, 40, 100])
    train, validation, test = split(speakers)
    for name, count in (("ann", 20), ("bob", 40), ("carl", 100)):
        assert [int((speakers[part] == name).sum()) for part in (train, validation, test)] == [
            0.8 * count, 0.1 * count, 0.1 * count,
        ]  # fmt: skip


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.98, 0.01, 0.01)])
def test_small_fraction_draws_one_utterance_of_each_speaker(fractions: tuple[float, float, float]) -> None:
    speakers = np.repeat(np.arange(10), 3)
    for seed in range(10):
        for part in split(speakers, fractions=fractions, seed=seed):
            assert sorted(speakers[part]) == list(range(10))


def test_seed_changes_split_by_utterance() -> None:
    for speakers in (
        np.repeat(np.arange(5), 20),
        np.repeat(np.arange(20), 5),
    ):  # drawn by scikit-learn, and one of each speaker
        assert len({tuple(split(speakers, seed=seed)[2].tolist()) for seed in range(6)}) == 6


def test_speaker_with_one_utterance_is_in_training_set() -> None:
    speakers = np.array(["solo", *["ann"] * 10, *["bob"] * 10, "lone"])
    for seed in range(5):
        train, validation, test = split(speakers, seed=seed)
        assert {0, 21} <= set(train.tolist())
        assert set(speakers[test].tolist()) == {"ann", "bob"}
        assert len(validation) > 0


def test_single_utterances_give_an_empty_test_set() -> None:
    train, validation, test = split(["ann", "bob", "carl"])
    assert sorted(train.tolist()) == [0, 1, 2]
    assert len(validation) == len(test) == 0


# By session


@settings(deadline=None, max_examples=100)
@given(corpus=corpora_with_sessions(), fractions=FRACTIONS, seed=SEEDS)
def test_split_by_session_is_a_partition_of_sessions(
    corpus: tuple[NDArray[Any], NDArray[Any]], fractions: tuple[float, float, float], seed: int
) -> None:
    speakers, sessions = corpus
    parts = split(speakers, sessions, fractions, split_by="session", seed=seed)
    check_partition(parts, speakers, fractions)
    sessions_of = [set(zip(speakers[part].tolist(), sessions[part].tolist(), strict=True)) for part in parts]
    assert not sessions_of[0] & sessions_of[1]
    assert not sessions_of[0] & sessions_of[2]
    assert not sessions_of[1] & sessions_of[2]
    for speaker in set(speakers.tolist()):
        n_sessions = len(set(sessions[speakers == speaker].tolist()))
        counts = [sum(owner == speaker for owner, _ in part) for part in sessions_of]
        assert counts[0] >= 1
        assert (counts[2] > 0) == (n_sessions >= 2 and fractions[2] > 0)
        needed = 3 if fractions[2] else 2
        assert (counts[1] > 0) == (n_sessions >= needed and fractions[1] > 0)
    again = split(speakers.tolist(), sessions.tolist(), fractions, split_by="session", seed=seed)
    assert as_lists(again) == as_lists(parts)


def test_fractions_are_shares_of_the_sessions_of_each_speaker() -> None:
    speakers = np.repeat(["ann", "bob"], 40)
    sessions = np.tile(np.repeat(np.arange(10), 4), 2)
    for seed in range(5):
        parts = split(speakers, sessions, (0.5, 0.2, 0.3), split_by="session", seed=seed)
        for name in ("ann", "bob"):
            assert [len(set(sessions[part][speakers[part] == name].tolist())) for part in parts] == [5, 2, 3]


def test_session_of_all_speakers_is_in_one_set(caplog: pytest.LogCaptureFixture) -> None:
    speakers = np.repeat(np.arange(6), 20)
    sessions = np.tile(np.repeat([f"meeting {number}" for number in range(5)], 4), 6)
    for seed in range(10):
        parts = split(speakers, sessions, split_by="session", seed=seed)
        in_parts = [set(sessions[part].tolist()) for part in parts]
        assert [len(part) for part in in_parts] == [3, 1, 1]
        assert len(set.union(*in_parts)) == 5
    assert not caplog.records


def test_sessions_in_training_and_test_sets_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    random = np.random.default_rng(0)
    seen = set()
    for seed in range(30):
        speakers = np.repeat(np.arange(4), 6)
        sessions = random.integers(0, 8, len(speakers))
        caplog.clear()
        train, _, test = split(speakers, sessions, (0.8, 0, 0.2), split_by="session", seed=seed)
        shared = set(sessions[train].tolist()) & set(sessions[test].tolist())
        messages = [record.getMessage() for record in caplog.records]
        found = [message for message in messages if "could not be kept in one set" in message]
        assert len(found) == bool(shared)
        if found:
            assert found[0].startswith(f"Speakers share {count_of(len(shared), 'session')} that")
        seen.add(bool(shared))
    assert seen == {True, False}


def test_seed_changes_split_by_session() -> None:
    speakers, sessions = np.repeat(np.arange(5), 30), np.tile(np.repeat(np.arange(6), 5), 5)
    assert len({tuple(split(speakers, sessions, split_by="session", seed=seed)[2].tolist()) for seed in range(6)}) > 3


def test_split_by_utterance_ignores_sessions() -> None:
    speakers, sessions = np.repeat(np.arange(4), 20), np.tile(np.repeat(np.arange(2), 10), 4)
    assert as_lists(split(speakers, sessions)) == as_lists(split(speakers))


# Warnings


def untested(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Return the names in the only warning, after checking its count, or an empty set."""
    if not caplog.records:
        return set()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    match = re.fullmatch(r"(\d+) of \d+ speakers are not in the test set.*: (.*)", record.getMessage())
    assert match
    names = match[2].split(", ")
    assert len(names) == int(match[1])
    return set(names)


@pytest.mark.parametrize("split_by", ["utterance", "session"])
def test_speakers_not_in_test_set_are_listed(
    split_by: Literal["utterance", "session"], caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(0)
    seen = set()
    for seed in range(40):
        n_speakers = random.integers(1, 8)
        counts = random.integers(1, 5, n_speakers)
        speakers = random.permutation(np.repeat(np.asarray(NAMES)[:n_speakers], counts))
        sessions = np.char.add(speakers, random.integers(0, 3, len(speakers)).astype(str))
        caplog.clear()
        test = split(speakers, sessions, split_by=split_by, seed=seed)[2]
        expected = set(speakers.tolist()) - set(speakers[test].tolist())
        assert untested(caplog) == expected
        seen.add(bool(expected))
    assert seen == {True, False}


def test_warning_uses_the_given_names(caplog: pytest.LogCaptureFixture) -> None:
    names = ["ann", "bob", "carl", "unused"]
    split([0, 0, 0, 0, 2, 2, 2, 2, 1], names=names)
    assert untested(caplog) == {"bob"}
    assert "1 of 3 speakers" in caplog.text
    assert "too few utterances" in caplog.text
    caplog.clear()
    split([0, 0, 2, 2, 1, 1], [0, 1, 5, 5, 0, 1], split_by="session", names=names)
    assert untested(caplog) == {"carl"}
    assert "too few sessions" in caplog.text


def test_no_warning_if_all_are_tested_or_test_set_is_not_wanted(caplog: pytest.LogCaptureFixture) -> None:
    split([0, 0, 0, 0, 1, 1, 1, 1])
    split(["ann", "bob", "bob"], fractions=(0.9, 0.1, 0))
    split(["ann", "bob", "bob"], ["m", "m", "m"], (0.9, 0.1, 0), split_by="session")
    assert not caplog.records


# Invalid arguments


@pytest.mark.parametrize("split_by", ["utterance", "session"])
@pytest.mark.parametrize(
    "fractions",
    [
        (),
        (1,),
        (0.8, 0.2),
        (0.25,) * 4,
        (0.8, 0.1, 0.2),
        (0.8, 0.1, 0.05),
        (0, 0.5, 0.5),
        (1.2, -0.1, -0.1),
        (80, 10, 10),
    ],
)
def test_invalid_fractions_are_refused(fractions: Sequence[float], split_by: Literal["utterance", "session"]) -> None:
    with pytest.raises(CorpusError, match="give three for the training, validation and test sets that sum to 1"):
        split([0, 0, 1, 1], [0, 1, 0, 1], fractions, split_by=split_by)


def test_fractions_may_have_rounding_errors() -> None:
    assert len(split(np.repeat(np.arange(3), 10), fractions=(0.7, 0.2, 0.1))[2]) == 3  # 0.7 + 0.2 + 0.1 < 1


def test_split_by_session_needs_sessions() -> None:
    with pytest.raises(CorpusError, match="needs the session of each utterance"):
        split([0, 0, 1, 1], split_by="session")


def test_unknown_split_by_error_lists_valid_values() -> None:
    with pytest.raises(CorpusError, match=r"split_by is 'speaker'; choose utterance or session"):
        split([0, 0, 1, 1], split_by="speaker")  # type: ignore[arg-type]


# Special cases


def test_speaker_with_too_few_utterances_for_the_fractions_is_listed(caplog: pytest.LogCaptureFixture) -> None:
    speakers = np.repeat(["ann", "bob"], [100, 2])
    test = split(speakers, fractions=(0.8, 0.1, 0.1))[2]
    assert "bob" not in speakers[test]
    assert "1 of 2 speakers are not in the test set (too few utterances for these fractions): bob" in caplog.text


def test_speaker_with_three_sessions_is_in_all_sets() -> None:
    for part in split([0] * 3, [0, 1, 2], (0.4, 0.1, 0.5), split_by="session"):
        assert len(part) == 1


def test_split_of_no_utterances_is_empty() -> None:
    assert as_lists(split([])) == [[], [], []]


@pytest.mark.parametrize("sessions", [[0, 1], [0, 1, 2, 3, 4, 5, 6, 7]])
def test_wrong_number_of_sessions_is_refused(sessions: list[int]) -> None:
    with pytest.raises(CorpusError):
        split([0, 0, 0, 1, 1, 1], sessions, split_by="session")


def test_fraction_nan_is_refused() -> None:
    with pytest.raises(CorpusError):
        split(np.repeat(np.arange(3), 10), fractions=(0.8, float("nan"), 0.1))


def test_equal_fractions_give_sets_of_equal_size() -> None:
    _, validation, test = split(np.repeat(np.arange(2), 35), fractions=(0.8, 0.1, 0.1))
    assert len(validation) == len(test) == 7


def test_sessions_of_all_speakers_are_disjoint() -> None:
    speakers, days = np.repeat(np.arange(4), 9), np.tile(np.repeat(["mon", "tue", "wed"], 3), 4)
    for seed in range(5):
        parts = split(speakers, days, split_by="session", seed=seed)
        assert [set(days[part].tolist()) for part in parts] == [{days[part][0]} for part in parts]


def test_sessions_that_cannot_be_disjoint_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(10):
        split([0, 0, 1, 1, 2, 2], ["a", "b", "b", "c", "c", "a"], split_by="session", seed=seed)
    assert "could not be kept in one set" in caplog.text
