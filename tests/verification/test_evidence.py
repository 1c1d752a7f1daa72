"""`Evidence` of the windows of a recording: decisions, and memory for an hour and a large store."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verification import WindowScores
from verification.evidence import GAP, MAX_CANDIDATES, Evidence
from verification.nearest import Nearest
from verification.open_set_predictions import Candidates
from verification.smoothing import most_probable_path
from verification.timeline import LENIENCE

SEEDS = st.integers(0, 10_000)


def found(seed: int, n_windows: int, n_speakers: int, top_k: int) -> Candidates:
    """Return the candidates of windows in a store whose speakers are called 0, 1, ..."""
    random = np.random.default_rng(seed)
    numbers = np.stack([random.choice(n_speakers, top_k, replace=False) for _ in range(n_windows)])
    llrs = torch.from_numpy(-np.sort(-random.normal(0, 8, (n_windows, top_k)), axis=1)).float()
    names = [[str(number) for number in row] for row in numbers.tolist()]
    nearest = Nearest(names, llrs, llrs, total=llrs.logsumexp(dim=1), n_speakers=n_speakers)
    return Candidates(nearest, random.uniform(0, 1, n_windows), 2.5)


@given(SEEDS, st.integers(1, 12), st.integers(1, 4), st.sampled_from([0.0, 1.0, 8.0]))
def test_choices_are_those_of_the_full_table(seed: int, n_windows: int, top_k: int, cost: float) -> None:
    candidates = found(seed, n_windows, 6, top_k)
    nearest, evidence = candidates.nearest, Evidence.of(candidates)
    names = [*sorted({name for row in nearest.names for name in row}), "unknown"]
    table, chances = np.zeros((n_windows, len(names))), np.zeros((n_windows, len(names)))
    for window, row in enumerate(nearest.names):
        ratios = nearest.llrs[window].double().numpy() - 2.5
        table[window, :-1], chances[window, -1] = ratios.min() - GAP, 1 - candidates.p_known[window]
        for rank, name in enumerate(row):
            table[window, names.index(name)] = ratios[rank]
            chances[window, names.index(name)] = candidates.probabilities[window, rank]
    assert evidence.names == names
    assert np.array_equal(np.stack(list(evidence.rows())), table)
    spans = np.stack([np.arange(n_windows), np.arange(n_windows) + np.where(np.arange(n_windows) == 4, 0.5, 1.0)], 1)
    choices = WindowScores(evidence, spans=spans, vectors=torch.zeros(n_windows, 1)).choices(cost, 0.0)
    table[:, :-1] += LENIENCE if cost else 0
    paths = [most_probable_path(table[:5], cost), most_probable_path(table[5:], cost)]  # there is a pause after 5
    assert choices.tolist() == np.concatenate(paths).tolist()
    assert evidence.probabilities_of(choices) == pytest.approx(chances[range(n_windows), choices])


@pytest.mark.parametrize("cost", [0.0, 1.0])
def test_an_hour_and_5000_speakers_need_little_memory(cost: float) -> None:
    candidates = found(0, 7200, 5000, MAX_CANDIDATES)
    spans = np.stack([np.arange(7200) / 2, np.arange(1, 7201) / 2], 1)
    tracemalloc.start()
    try:
        scores = WindowScores(Evidence.of(candidates), spans=spans, vectors=torch.zeros(7200, 1))
        assert len(scores.evidence.names) == 5001
        scores.turns(scores.choices(cost, 0.5))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # One table of all windows and speakers has 288 MB; one byte for each of them has 36 MB.
    assert peak < 150e6
