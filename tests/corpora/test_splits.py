"""`split`: a partition, stratified by speaker, that never tests whom it did not train on."""

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

Parts = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.lists(st.integers(1, 15), min_size=1, max_size=9)  # utterances of each speaker
FRACTIONS = st.sampled_from(
    [(0.8, 0.1, 0.1), (0.8, 0, 0.2), (0.9, 0.1, 0), (1, 0, 0), (0.5, 0.25, 0.25), (0.05, 0.05, 0.9), (0.98, 0.01, 0.01)]
)
NAMES = ["ann", "Bob", "carl", "zoë", "84", "121", "9", "id10270", "z"]


@st.composite
def corpora(draw: st.DrawFn) -> NDArray[Any]:
    """Speakers of the utterances of a corpus, in any order, as numbers with gaps or as names."""
    counts = draw(COUNTS)
    names: list[Any] = draw(st.sampled_from([NAMES, [7, 3, 100, 0, 11, 5, 42, 9, 1]]))
    speakers = np.repeat(names[: len(counts)], counts)
    return np.asarray(speakers[np.random.default_rng(draw(SEEDS)).permutation(len(speakers))])


@st.composite
def corpora_with_sessions(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any]]:
    """Speakers and sessions; the sessions of different speakers may have the same name."""
    speakers = draw(corpora())
    names: list[Any] = draw(st.sampled_from([[0, 1, 2, 3, 4], ["monday", "tuesday", "m", "1", "01"]]))
    n_sessions = draw(st.integers(1, 5))
    chosen = np.random.default_rng(draw(SEEDS)).integers(0, n_sessions, len(speakers))
    return speakers, np.asarray(names)[chosen]


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
def test_by_utterance(speakers: NDArray[Any], fractions: tuple[float, float, float], seed: int) -> None:
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
def test_by_utterance_equals_scikit_learn(counts: list[int], named: bool, share: float, seed: int) -> None:
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
def test_the_published_split(kind: type) -> None:
    numbers = np.random.default_rng(0).integers(0, 40, 2_703)
    speakers = numbers if kind is int else np.array([f"{1000 + number}" for number in numbers])
    expected = train_test_split(np.arange(2_703), test_size=0.2, stratify=speakers, random_state=42)
    train, validation, test = split(speakers, fractions=(0.8, 0, 0.2), seed=42)
    np.testing.assert_array_equal(train, expected[0])
    np.testing.assert_array_equal(test, expected[1])
    assert len(validation) == 0
    assert as_lists(split(speakers.tolist(), None, [0.8, 0, 0.2], "utterance", 42)) == [
        train.tolist(), [], test.tolist(),
    ]  # fmt: skip


def test_the_test_rows_are_taken_off_first() -> None:
    speakers = np.repeat(np.arange(6), 30)
    train, validation, test = split(speakers, fractions=(0.5, 0.25, 0.25), seed=3)
    rest, expected_test = train_test_split(np.arange(180), test_size=45, stratify=speakers, random_state=3)
    expected_train, expected_validation = train_test_split(rest, test_size=45, stratify=speakers[rest], random_state=3)
    np.testing.assert_array_equal(test, expected_test)
    np.testing.assert_array_equal(validation, expected_validation)
    np.testing.assert_array_equal(train, expected_train)


def test_the_shares_hold_for_every_speaker() -> None:
    speakers = np.repeat(["ann", "bob", "carl"], [20, 40, 100])
    train, validation, test = split(speakers)
    for name, count in (("ann", 20), ("bob", 40), ("carl", 100)):
        assert [int((speakers[part] == name).sum()) for part in (train, validation, test)] == [
            0.8 * count, 0.1 * count, 0.1 * count,
        ]  # fmt: skip


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.98, 0.01, 0.01)])
def test_where_the_fraction_is_too_small_each_speaker_gives_one(fractions: tuple[float, float, float]) -> None:
    speakers = np.repeat(np.arange(10), 3)
    for seed in range(10):
        for part in split(speakers, fractions=fractions, seed=seed):
            assert sorted(speakers[part]) == list(range(10))


def test_another_seed_gives_another_split() -> None:
    for speakers in (np.repeat(np.arange(5), 20), np.repeat(np.arange(20), 5)):  # by scikit-learn, and one of each
        assert len({tuple(split(speakers, seed=seed)[2].tolist()) for seed in range(6)}) == 6


def test_whoever_has_one_utterance_is_trained_on() -> None:
    speakers = np.array(["solo", *["ann"] * 10, *["bob"] * 10, "lone"])
    for seed in range(5):
        train, validation, test = split(speakers, seed=seed)
        assert {0, 21} <= set(train.tolist())
        assert set(speakers[test].tolist()) == {"ann", "bob"}
        assert len(validation) > 0


def test_nobody_can_be_tested() -> None:
    train, validation, test = split(["ann", "bob", "carl"])
    assert sorted(train.tolist()) == [0, 1, 2]
    assert len(validation) == len(test) == 0


# By session


@settings(deadline=None, max_examples=100)
@given(corpus=corpora_with_sessions(), fractions=FRACTIONS, seed=SEEDS)
def test_by_session(
    corpus: tuple[NDArray[Any], NDArray[Any]], fractions: tuple[float, float, float], seed: int
) -> None:
    speakers, sessions = corpus
    parts = split(speakers, sessions, fractions, split_by="session", seed=seed)
    check_partition(parts, speakers, fractions)
    heard = [set(zip(speakers[part].tolist(), sessions[part].tolist(), strict=True)) for part in parts]
    assert not heard[0] & heard[1]
    assert not heard[0] & heard[2]
    assert not heard[1] & heard[2]
    for speaker in set(speakers.tolist()):
        n_sessions = len(set(sessions[speakers == speaker].tolist()))
        counts = [sum(who == speaker for who, _ in part) for part in heard]
        assert counts[0] >= 1
        assert (counts[2] > 0) == (n_sessions >= 2 and fractions[2] > 0)
        needed = 3 if fractions[2] else 2
        assert (counts[1] > 0) == (n_sessions >= needed and fractions[1] > 0)
    again = split(speakers.tolist(), sessions.tolist(), fractions, split_by="session", seed=seed)
    assert as_lists(again) == as_lists(parts)


def test_the_shares_are_shares_of_a_speakers_sessions() -> None:
    speakers = np.repeat(["ann", "bob"], 40)
    sessions = np.tile(np.repeat(np.arange(10), 4), 2)
    for seed in range(5):
        parts = split(speakers, sessions, (0.5, 0.2, 0.3), "session", seed)
        for name in ("ann", "bob"):
            assert [len(set(sessions[part][speakers[part] == name].tolist())) for part in parts] == [5, 2, 3]


def test_a_session_that_all_speakers_share_goes_to_one_part(caplog: pytest.LogCaptureFixture) -> None:
    speakers = np.repeat(np.arange(6), 20)
    sessions = np.tile(np.repeat([f"meeting {number}" for number in range(5)], 4), 6)
    for seed in range(10):
        parts = split(speakers, sessions, split_by="session", seed=seed)
        heard = [set(sessions[part].tolist()) for part in parts]
        assert [len(part) for part in heard] == [3, 1, 1]
        assert len(set.union(*heard)) == 5
    assert not caplog.records


def test_sessions_that_stand_in_train_and_test_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    random = np.random.default_rng(0)
    seen = set()
    for seed in range(30):
        speakers = np.repeat(np.arange(4), 6)
        sessions = random.integers(0, 8, len(speakers))
        caplog.clear()
        train, _, test = split(speakers, sessions, (0.8, 0, 0.2), "session", seed)
        shared = set(sessions[train].tolist()) & set(sessions[test].tolist())
        told = [record.getMessage() for record in caplog.records if "stand in several parts" in record.getMessage()]
        assert len(told) == bool(shared)
        assert not told or told[0].startswith(f"{len(shared)} sessions")
        seen.add(bool(shared))
    assert seen == {True, False}


def test_by_session_another_seed_gives_another_split() -> None:
    speakers, sessions = np.repeat(np.arange(5), 30), np.tile(np.repeat(np.arange(6), 5), 5)
    assert len({tuple(split(speakers, sessions, split_by="session", seed=seed)[2].tolist()) for seed in range(6)}) > 3


def test_sessions_do_not_matter_by_utterance() -> None:
    speakers, sessions = np.repeat(np.arange(4), 20), np.tile(np.repeat(np.arange(2), 10), 4)
    assert as_lists(split(speakers, sessions)) == as_lists(split(speakers))


# Who is not tested is named


def untested(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Return the names in the one warning, whose numbers are right, or nothing."""
    if not caplog.records:
        return set()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    match = re.fullmatch(r"(\d+) of \d+ speakers are not tested.*: (.*)", record.getMessage())
    assert match
    names = match[2].split(", ")
    assert len(names) == int(match[1])
    return set(names)


@pytest.mark.parametrize("split_by", ["utterance", "session"])
def test_whoever_is_not_tested_is_named(
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


def test_numbers_are_named_by_the_names_given(caplog: pytest.LogCaptureFixture) -> None:
    names = ["ann", "bob", "carl", "nobody"]
    split([0, 0, 0, 0, 2, 2, 2, 2, 1], names=names)
    assert untested(caplog) == {"bob"}
    assert "1 of 3 speakers" in caplog.text
    assert "too few utterances" in caplog.text
    caplog.clear()
    split([0, 0, 2, 2, 1, 1], [0, 1, 5, 5, 0, 1], split_by="session", names=names)
    assert untested(caplog) == {"carl"}
    assert "too few sessions" in caplog.text


def test_where_all_are_tested_or_nobody_should_be_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    split([0, 0, 0, 0, 1, 1, 1, 1])
    split(["ann", "bob", "bob"], fractions=(0.9, 0.1, 0))
    split(["ann", "bob", "bob"], ["m", "m", "m"], (0.9, 0.1, 0), "session")
    assert not caplog.records


# What makes no sense


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
def test_fractions_that_make_no_sense(fractions: Sequence[float], split_by: Literal["utterance", "session"]) -> None:
    with pytest.raises(CorpusError, match="give three for train, validation and test that sum to 1"):
        split([0, 0, 1, 1], [0, 1, 0, 1], fractions, split_by)


def test_fractions_are_numbers_of_a_machine() -> None:
    assert len(split(np.repeat(np.arange(3), 10), fractions=(0.7, 0.2, 0.1))[2]) == 3  # 0.7 + 0.2 + 0.1 < 1


def test_a_split_by_session_needs_sessions() -> None:
    with pytest.raises(CorpusError, match="needs the sessions"):
        split([0, 0, 1, 1], split_by="session")


def test_an_unknown_way_to_split_is_answered_with_the_valid_ones() -> None:
    with pytest.raises(CorpusError, match=r"split_by is 'speaker'; choose utterance or session"):
        split([0, 0, 1, 1], split_by="speaker")  # type: ignore[arg-type]


# Corners


def test_the_reason_given_for_not_testing_is_true(caplog: pytest.LogCaptureFixture) -> None:
    speakers = np.repeat(["ann", "bob"], [100, 2])
    test = split(speakers, fractions=(0.8, 0.1, 0.1))[2]
    assert "bob" in speakers[test] or "for want of a second utterance: bob" not in caplog.text


def test_whoever_has_three_sessions_is_in_all_parts_whatever_the_fractions() -> None:
    for part in split([0] * 3, [0, 1, 2], (0.4, 0.1, 0.5), "session"):
        assert len(part) == 1


def test_no_utterances() -> None:
    assert as_lists(split([])) == [[], [], []]


@pytest.mark.parametrize("sessions", [[0, 1], [0, 1, 2, 3, 4, 5, 6, 7]])
def test_sessions_of_another_number_of_utterances(sessions: list[int]) -> None:
    with pytest.raises(CorpusError):
        split([0, 0, 0, 1, 1, 1], sessions, split_by="session")


def test_a_fraction_that_is_not_a_number() -> None:
    with pytest.raises(CorpusError):
        split(np.repeat(np.arange(3), 10), fractions=(0.8, float("nan"), 0.1))


def test_validation_and_test_of_one_share_are_of_one_size() -> None:
    _, validation, test = split(np.repeat(np.arange(2), 35), fractions=(0.8, 0.1, 0.1))
    assert len(validation) == len(test) == 7


def test_sessions_that_all_speakers_share_are_disjoint() -> None:
    speakers, days = np.repeat(np.arange(4), 9), np.tile(np.repeat(["mon", "tue", "wed"], 3), 4)
    for seed in range(5):
        parts = split(speakers, days, split_by="session", seed=seed)
        assert [set(days[part].tolist()) for part in parts] == [{days[part][0]} for part in parts]


def test_sessions_that_cannot_be_disjoint_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(10):
        split([0, 0, 1, 1, 2, 2], ["a", "b", "b", "c", "c", "a"], split_by="session", seed=seed)
    assert "sessions that speakers share stand in several parts" in caplog.text
