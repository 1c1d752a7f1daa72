"""Trials: reading, drawing and saving them."""

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features import FeatureSet
from verification import TrialError, Trials, all_pairs, check_trial_ids, cross_session, random_triplets, read_trials

IDS = ("id1/a.wav", "id1/b.wav", "id2/c d.wav", "id2/e.wav")


def test_formats_of_voxceleb_and_kaldi_are_read(tmp_path: Path) -> None:
    path = tmp_path / "veri_test.txt"
    path.write_text("1 id1/a.wav id1/b.wav\n\n0 id1/a.wav id2/e.wav\r\nid1/b.wav id2/e.wav nontarget\n")
    trials = read_trials(path, IDS)
    assert trials.first.tolist() == [0, 0, 1]
    assert trials.second.tolist() == [1, 3, 3]
    assert trials.labels.tolist() == [True, False, False]
    path.write_text("1\tid2/c d.wav\tid2/e.wav\n")  # tabs, since there is a space in the name
    assert read_trials(path, IDS).first.tolist() == [2]


def test_lists_of_other_systems_are_read(tmp_path: Path) -> None:
    path = tmp_path / "trials.txt"
    ids = (*IDS, "Zoë.wav")
    lines = ["1 id1/a.wav id1/b.wav\t", "id1/b.wav\tid2/c d.wav\tnontarget\t ", "0 id2/e.wav Zoë.wav  ", " \t"]
    decomposed = [unicodedata.normalize("NFD", line) for line in lines]
    for listed, end in ((lines, "\r\n"), (decomposed, "\r"), (decomposed, "\n")):
        path.write_bytes(end.join(listed).encode("utf-8-sig"))
        trials = read_trials(path, ids)
        assert (trials.first.tolist(), trials.second.tolist()) == ([0, 1, 3], [1, 2, 4])
        assert trials.labels.tolist() == [True, False, False]
    path.write_bytes(b"1 id1/a.wav id1/b.wav\n".decode().encode("utf-16"))
    with pytest.raises(TrialError, match=r"trials\.txt: this text is in UTF-16.*Save it as UTF-8"):
        read_trials(path, ids)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_saved_trials_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int, bool]]
) -> None:
    first, second, labels = (np.array(column) for column in zip(*pairs, strict=True))
    path = Trials(first, second, labels).save(tmp_path_factory.mktemp("trials") / "t.txt", IDS)
    again = read_trials(path, IDS)
    assert again.first.tolist() == first.tolist()
    assert again.second.tolist() == second.tolist()
    assert again.labels.tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 id1/a.wav id9/x.wav\n", r"line 1: there is no utterance 'id9/x\.wav' among the 4 features \(id1/a\.wav"),
        ("1 id1/a.wav id1/b.wav\n2 id1/a.wav id1/b.wav\n", "line 2: '2 id1/a.wav id1/b.wav' is not a trial"),
        ("1 id1/a.wav\n", "line 1: '1 id1/a.wav' is not a trial"),
        ("id1/a.wav id1/b.wav maybe\n", "is not a trial"),
        ("\n\n", "there are no trials in this file"),
    ],
)
def test_invalid_lines_are_refused_with_their_number(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(TrialError, match=rf"t\.txt.*{message}"):
        read_trials(tmp_path / "t.txt", IDS)
    with pytest.raises(TrialError, match=r"none\.txt: this file cannot be read"):
        read_trials(tmp_path / "none.txt", IDS)


def test_all_pairs_has_each_pair_once(features: FeatureSet) -> None:
    trials = all_pairs(features)
    n = len(features)
    assert len(trials) == n * (n - 1) // 2
    assert len({frozenset(pair) for pair in zip(trials.first.tolist(), trials.second.tolist(), strict=True)}) == len(
        trials
    )
    labels = features.labels.numpy()
    assert (trials.labels == (labels[trials.first] == labels[trials.second])).all()


def test_too_many_pairs_are_refused(features: FeatureSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verification.trials.MAX_PAIRS", 100)
    with pytest.raises(TrialError, match="40 utterances make 780 pairs; expected at most 100"):
        all_pairs(features)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=8), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_triplets_have_an_anchor_a_target_and_a_nontarget(features: FeatureSet, counts: list[int], seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    rows = features.select(np.zeros(len(labels), dtype=np.int64))
    some = replace(rows, labels=torch.from_numpy(labels), speakers=tuple(map(str, range(len(counts)))))
    if max(counts) == 1:
        with pytest.raises(TrialError, match="Triplets need at least two speakers, one of them with two utterances"):
            random_triplets(some, 5)
        return
    trials = random_triplets(some, 300, seed)
    assert trials.labels.tolist() == [True] * 300 + [False] * 300
    assert (trials.first[:300] == trials.first[300:]).all()
    assert (trials.first != trials.second).all()
    assert ((labels[trials.first] == labels[trials.second]) == trials.labels).all()
    again = random_triplets(some, 300, seed)
    assert (again.second == trials.second).all()


def test_triplets_reach_all_speakers(features: FeatureSet) -> None:
    trials = random_triplets(features, 5_000)
    pairs = set(zip(trials.first.tolist(), trials.second.tolist(), strict=True))
    labels = features.labels.numpy()
    reachable = sum(1 for one in range(40) for other in range(40) if one != other)
    assert len(pairs) > 0.9 * reachable
    assert set(labels[trials.second[5_000:]].tolist()) == set(labels.tolist())


def test_cross_session_compares_sessions(features: FeatureSet) -> None:
    trials = all_pairs(features)
    apart = cross_session(trials, features)
    sessions = features.sessions.numpy()
    assert (apart == (sessions[trials.first] != sessions[trials.second])).all()
    assert apart[~trials.labels].all()


def test_ids_need_not_be_valid_text(tmp_path: Path, write_audio: Callable[..., Path]) -> None:
    ids = ("caf\udce9\u2028\x0b.wav", "b\x85.wav", "c\td.wav")
    with pytest.raises(TrialError, match="has a tab or a line break, which"):
        Trials(np.array([0]), np.array([2]), np.array([False])).save(tmp_path / "t.txt", ids)
    path = Trials(np.array([0]), np.array([1]), np.array([False])).save(tmp_path / "t.txt", ids)
    assert read_trials(path, ids).first.tolist() == [0]


def test_ids_that_a_list_of_trials_cannot_have_are_refused_before_scoring() -> None:
    check_trial_ids(IDS)
    for letter in "\t\r\n":
        with pytest.raises(TrialError, match="a tab or a line break"):
            check_trial_ids([*IDS, f"id3/a{letter}b.wav"])
