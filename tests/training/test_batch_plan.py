"""The plan of steps: a pure function of seed, epoch and step, in which each utterance has its turn."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from training import TrainingError
from training.batch_plan import BatchPlan

LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=40).map(
    lambda found: np.unique(found, return_inverse=True)[1]
)


@given(labels=LABELS, batch_size=st.integers(1, 12), epoch=st.integers(0, 3), seed=st.integers(0, 9))
@settings(max_examples=50)
def test_epoch_has_one_crop_of_each_utterance(labels: np.ndarray, batch_size: int, epoch: int, seed: int) -> None:
    plan = BatchPlan(labels, batch_size, seed=seed)
    steps = list(plan.steps(epoch))
    assert len(steps) == plan.n_steps
    assert sorted(np.concatenate([step.rows for step in steps]).tolist()) == list(range(len(labels)))
    sizes = [len(step.rows) for step in steps]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert all(((step.positions >= 0) & (step.positions < 1)).all() for step in steps)


@given(labels=LABELS, batch_size=st.integers(1, 12), first=st.integers(0, 5))
@settings(max_examples=50)
def test_steps_do_not_depend_on_the_steps_before_them(labels: np.ndarray, batch_size: int, first: int) -> None:
    undisturbed = [step for epoch in range(2) for step in BatchPlan(labels, batch_size).steps(epoch)]
    plan = BatchPlan(labels, batch_size)
    continued = [*plan.steps(0), *plan.steps(1, min(first, plan.n_steps))][-1]
    assert np.array_equal(continued.rows, undisturbed[-1 if first < plan.n_steps else plan.n_steps - 1].rows)


def test_epochs_and_seeds_differ() -> None:
    labels = np.arange(50) % 5
    orders = [BatchPlan(labels, 50, seed=seed).step(epoch, 0).rows.tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]
    assert orders[1] != orders[2]


@given(labels=LABELS, n_ranks=st.integers(2, 4), extra=st.integers(0, 5))
@settings(max_examples=100)
def test_each_process_has_crops_in_each_step(labels: np.ndarray, n_ranks: int, extra: int) -> None:
    if len(labels) < n_ranks:
        return
    shares = [BatchPlan(labels, n_ranks + extra, rank=rank, n_ranks=n_ranks) for rank in range(n_ranks)]
    rows = [[step.rows for step in share.steps(0)] for share in shares]
    assert min(len(each) for share in rows for each in share) > 0
    assert sorted(np.concatenate([each for share in rows for each in share]).tolist()) == list(range(len(labels)))


@given(labels=LABELS, n_ranks=st.integers(2, 4))
@settings(max_examples=50)
def test_processes_share_each_step(labels: np.ndarray, n_ranks: int) -> None:
    if len(labels) < n_ranks:
        return
    batch_size = max(n_ranks, len(labels) // 2)
    whole = BatchPlan(labels, batch_size)
    assume(len(labels) // whole.n_steps >= n_ranks)  # otherwise several processes have fewer, longer steps
    shares = [BatchPlan(labels, batch_size, rank=rank, n_ranks=n_ranks) for rank in range(n_ranks)]
    for number in range(whole.n_steps):
        step, parts = whole.step(0, number), [share.step(0, number) for share in shares]
        assert sorted(np.concatenate([part.rows for part in parts]).tolist()) == sorted(step.rows.tolist())


@given(labels=LABELS, batch_size=st.integers(1, 8))
@settings(max_examples=50)
def test_each_utterance_is_the_anchor_of_one_triplet(labels: np.ndarray, batch_size: int) -> None:
    counts = np.bincount(labels)
    if counts.max() < 2 or len(counts) < 2:
        with pytest.raises(TrainingError, match="Triplets need two speakers"):
            BatchPlan(labels, batch_size, triplets=True)
        return
    triplets = np.concatenate(
        [step.rows.reshape(3, -1) for step in BatchPlan(labels, batch_size, triplets=True).steps(0)], axis=1
    )
    anchors, same, other = triplets
    assert sorted(anchors.tolist()) == np.flatnonzero(counts[labels] > 1).tolist()
    assert (anchors != same).all()
    assert (labels[anchors] == labels[same]).all()
    assert (labels[anchors] != labels[other]).all()


def test_a_number_of_steps_continues_through_the_utterances() -> None:
    labels = np.arange(10) % 2
    plan = BatchPlan(labels, 4, steps_per_epoch=5)
    rows = np.concatenate([step.rows for epoch in range(2) for step in plan.steps(epoch)])
    assert plan.n_steps == 5
    assert len(rows) == 40
    assert np.bincount(rows).tolist() == [4] * 10
    assert sorted(rows[:10].tolist()) == list(range(10))


def test_a_step_smaller_than_the_processes_is_refused() -> None:
    labels = np.arange(10) % 2
    with pytest.raises(TrainingError, match="A step of 3 utterances has fewer than one for each of the 4 processes"):
        BatchPlan(labels, 3, n_ranks=4)
    with pytest.raises(TrainingError, match="fewer than 2 for each of the 2 processes; give a --batch_size of 4 or"):
        BatchPlan(labels, 3, n_ranks=2, min_size=2)
    with pytest.raises(TrainingError, match="The training part has 10 utterances; a step needs at least 12"):
        BatchPlan(labels, 20, n_ranks=6, min_size=2)


@pytest.mark.parametrize("steps_per_epoch", [None, 7])
@pytest.mark.parametrize("batch_size", range(4, 9))
def test_each_process_has_the_minimum_of_each_step(batch_size: int, steps_per_epoch: int | None) -> None:
    for rank in (0, 1):
        plan = BatchPlan(
            np.arange(11) % 3, batch_size, steps_per_epoch=steps_per_epoch, min_size=2, rank=rank, n_ranks=2
        )
        assert min(len(step.rows) for step in plan.steps(0)) >= 2
