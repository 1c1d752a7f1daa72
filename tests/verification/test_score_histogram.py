"""`ScoreHistogram`: the pairs that calibrated a verifier, kept in its file, and where another pair lies among them."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from features import FeatureSet
from verification import ScoreHistogram, SpeakerStore, SpeakerVerifier, VerifierError, all_pairs

RATIOS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)
# Two bins; the ratio 0 is between them.
SMALL = ScoreHistogram(edges=(-4.0, 0.0, 4.0), same_counts=(1, 3), different_counts=(2000, 1))


def measure(same: list[float], different: list[float]) -> ScoreHistogram:
    return ScoreHistogram.measure([True] * len(same) + [False] * len(different), same + different)


@given(RATIOS, RATIOS, RATIOS)
@example([0.0], [0.0], [0.0])
@example([1e6], [1e6 - 1e-9], [1e6])
@example([5e-324], [0.0], [-1.0])
@example([0.3], [0.1 + 0.2, -0.7], [0.3])
def test_shares_are_a_distribution(same: list[float], different: list[float], asked: list[float]) -> None:
    histogram = measure(same, different)
    assert (histogram.n_same, histogram.n_different) == (len(same), len(different))
    assert 1 <= len(histogram.same) == len(histogram.different) == len(histogram.edges) - 1 <= 60
    assert histogram.same.sum() == pytest.approx(1)
    assert histogram.different.sum() == pytest.approx(1)
    everything = np.array(same + different)
    assert histogram.edges[0] <= everything.min()
    assert everything.max() < histogram.edges[-1]
    assert ScoreHistogram.from_content(histogram.content()) == histogram
    shares = [histogram.shares(llr) for llr in sorted(asked)]
    for (above, below), (later_above, later_below) in pairwise(shares):
        assert above >= later_above - 1e-12
        assert below <= later_below + 1e-12
    assert all(0 <= share <= 1 for pair in shares for share in pair)
    assert histogram.shares(histogram.edges[0]) == (1.0, 0.0)
    assert histogram.shares(histogram.edges[-1]) == (0.0, 1.0)


@given(RATIOS, RATIOS)
def test_shares_at_an_edge_are_exact(same: list[float], different: list[float]) -> None:
    histogram = measure(same, different)
    for edge in histogram.edges:
        above, below = histogram.shares(edge)
        assert above == pytest.approx(np.mean(np.array(different) >= edge), abs=1e-12)
        assert below == pytest.approx(np.mean(np.array(same) < edge), abs=1e-12)


def test_share_within_a_bin_is_interpolated() -> None:
    assert SMALL.shares(0.0) == pytest.approx((1 / 2001, 1 / 4))
    assert SMALL.shares(2.0) == pytest.approx((0.5 / 2001, 1 / 4 + 3 / 8))
    assert SMALL.shares(-9.0) == (1.0, 0.0)


def test_sentence_says_how_many_pairs_are_more_extreme() -> None:
    pairs = "pairs of different speakers and {} of the 4 pairs of the same speaker that calibrated the verifier have a"
    for llr, different, same, direction in (
        (0.0, "Less than 0.1 %", "75.0 %", "at least 0.00"),
        (9.0, "None", "none", "at least 9.00"),
        (-2.0, "50.0 %", "12.5 %", "at most -2.00"),
        (-9.0, "None", "none", "at most -9.00"),
    ):
        sentence = f"{different} of the 2001 {pairs.format(same)} log-likelihood ratio of {direction}."
        assert SMALL.describe(llr) == sentence
    assert SMALL.describe(-0.001).startswith("More than 99.9 % of the 2001 pairs of different speakers")


def test_verifier_keeps_the_pairs_that_its_error_rates_are_of(population: FeatureSet, tmp_path: Path) -> None:
    features = population.select(population.labels < 12)
    verifier = SpeakerVerifier.train(features, "cosine")
    loaded = SpeakerVerifier.load(verifier.save(tmp_path / "verifier.pt"))
    assert loaded.score_histogram == verifier.score_histogram
    assert loaded.score_histogram is not None
    labels = all_pairs(features).labels
    assert (loaded.score_histogram.n_same, loaded.score_histogram.n_different) == (labels.sum(), (~labels).sum())
    (errors,) = loaded.training["errors"]
    assert loaded.score_histogram.shares(0.0) == pytest.approx((errors["false_accept"], errors["miss"]))


def test_file_of_an_earlier_version_has_no_histogram(plda_verifier: SpeakerVerifier, tmp_path: Path) -> None:
    content = torch.load(plda_verifier.save(tmp_path / "verifier.pt"), weights_only=True)
    del content["training"]["score_histogram"]
    torch.save(content, tmp_path / "older.pt")
    older = SpeakerVerifier.load(tmp_path / "older.pt")
    assert older.score_histogram is None
    assert older.same_decisions_as(plda_verifier)


@pytest.mark.parametrize(
    "damage",
    [
        lambda histogram: histogram.pop("edges"),
        lambda histogram: histogram.update(same=None),
        lambda histogram: histogram.update(edges=["low", "high"]),
        lambda histogram: histogram["edges"].reverse(),
        lambda histogram: histogram["edges"].__setitem__(-1, float("inf")),
        lambda histogram: histogram["edges"].__setitem__(0, float("nan")),
        lambda histogram: histogram["edges"].pop(),
        lambda histogram: histogram["different"].append(1),
        lambda histogram: histogram["different"].__setitem__(0, -1),
        lambda histogram: histogram["different"].__setitem__(0, 0.5),
        lambda histogram: histogram.update(same=[0] * len(histogram["same"])),
        lambda histogram: histogram.update(edges=[], same=[], different=[]),
    ],
)
def test_damaged_histogram_is_refused(
    damage: Callable[[Any], None], plda_verifier: SpeakerVerifier, tmp_path: Path
) -> None:
    content = torch.load(plda_verifier.save(tmp_path / "verifier.pt"), weights_only=True)
    damage(content["training"]["score_histogram"])
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(VerifierError, match=r"x\.pt: this is not a speaker verifier.*its histogram of scores"):
        SpeakerVerifier.load(tmp_path / "x.pt")


@pytest.mark.parametrize("histogram", [0, "abc", [1, 2]])
def test_histogram_of_another_type_is_refused(
    histogram: object, plda_verifier: SpeakerVerifier, tmp_path: Path
) -> None:
    other = replace(plda_verifier, training={**plda_verifier.training, "score_histogram": histogram})
    with pytest.raises(VerifierError, match="its histogram of scores"):
        SpeakerVerifier.load(other.save(tmp_path / "x.pt"))


def test_ready_verifier_has_a_histogram_that_stores_of_earlier_versions_get(tmp_path: Path) -> None:
    ready = SpeakerVerifier.ready()
    assert ready.score_histogram is not None
    assert ready.score_histogram.n_same > 30_000
    assert ready.score_histogram.n_different > 100_000
    above, below = ready.score_histogram.shares(0.0)
    assert 0.005 < above < 0.05
    assert 0.01 < below < 0.1
    training = {name: value for name, value in ready.training.items() if name != "score_histogram"}
    with SpeakerStore.create(tmp_path / "speakers.db", replace(ready, training=training)) as store:
        assert store.verifier.same_decisions_as(ready)
    with SpeakerStore.open(tmp_path / "speakers.db") as store:
        assert store.verifier.score_histogram == ready.score_histogram
        assert store.verifier.same_decisions_as(ready)
