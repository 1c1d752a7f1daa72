"""Folds of a cross-validation over sessions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from corpora import session_folds

UTTERANCES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=60)


@given(UTTERANCES, st.integers(2, 5), st.integers(0, 3), st.booleans())
def test_no_session_and_no_speaker_is_held_out_wrongly(
    utterances: list[tuple[int, int]], n_folds: int, seed: int, are_shared: bool
) -> None:
    speakers = np.array([speaker for speaker, _ in utterances])
    sessions = np.array([session if are_shared else 10 * speaker + session for speaker, session in utterances])
    folds, by_session = session_folds(speakers, sessions, n_folds, seed=seed)
    assert ((folds >= -1) & (folds < n_folds)).all()
    for speaker in np.unique(speakers):
        own = speakers == speaker
        assert by_session[own].all() or not by_session[own].any()
        if own.sum() == 1:
            assert folds[own].tolist() == [-1]
            continue
        assert (folds[own] >= 0).all()
        assert len(np.unique(folds[own])) > 1  # some utterances are always left to train on
        if by_session[own].all():
            for session in np.unique(sessions[own]):
                assert len(np.unique(folds[own & (sessions == session)])) == 1
        elif not are_shared:
            assert len(np.unique(sessions[own])) == 1


def test_sessions_of_a_speaker_are_spread_over_the_folds() -> None:
    speakers, sessions = np.repeat([0, 1], 8), np.arange(16)
    folds, by_session = session_folds(speakers, sessions, 4, seed=0)
    assert by_session.all()
    assert all(np.bincount(folds[speakers == speaker]).tolist() == [2, 2, 2, 2] for speaker in (0, 1))


def test_shared_sessions_are_held_out_for_all_their_speakers() -> None:
    speakers, sessions = np.tile([0, 1, 2], 4), np.repeat([0, 1, 2, 3], 3)
    folds, by_session = session_folds(speakers, sessions, 4, seed=1)
    assert by_session.all()
    assert sorted(folds[speakers == 0].tolist()) == [0, 1, 2, 3]
    assert all(len(np.unique(folds[sessions == session])) == 1 for session in range(4))


def test_each_fold_holds_out_sessions() -> None:
    """With two sessions that all share, and one speaker with one session, there are two folds."""
    speakers, sessions = np.repeat([0, 1, 2], 8), np.r_[np.tile([0, 1], 8), np.zeros(8, int)]
    folds, by_session = session_folds(speakers, sessions, 4, seed=0)
    assert by_session.tolist() == 16 * [True] + 8 * [False]
    assert len(np.unique(folds)) == len(np.unique(folds[by_session])) == 2


def test_same_seed_gives_the_same_folds() -> None:
    speakers, sessions = np.repeat(np.arange(10), 6), np.arange(60) // 2
    first, again, other = (session_folds(speakers, sessions, 3, seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_no_utterances_have_no_folds() -> None:
    folds, by_session = session_folds([], [], 3, seed=0)
    assert len(folds) == len(by_session) == 0
