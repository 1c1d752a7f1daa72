"""Paired differences of test accuracy between heads and between encoders."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from evaluation import HeadComparison, compare_heads
from evaluation.outcome import by_speaker
from evaluation.summary import key_of
from features import FeatureSet
from files import Record
from metrics import difference_interval

MadeUp = Callable[..., FeatureSet]


def encoders(made_up: MadeUp, noises: list[float]) -> list[FeatureSet]:
    """Return the same utterances from several encoders, which add noise to the vectors."""
    one = made_up(n_sessions=1)
    return [
        replace(
            one,
            features=one.features + noise * torch.randn(one.features.shape, generator=torch.Generator().manual_seed(n)),
            encoder={**one.encoder, "name": f"encoder {n}"},
        )
        for n, noise in enumerate(noises)
    ]


@pytest.fixture(scope="module")
def comparison(made_up: MadeUp) -> HeadComparison:
    """Return a comparison of three encoders, the second of which is the best."""
    return compare_heads(encoders(made_up, [4.0, 0.0, 8.0]), ["lda", "centroid"], seeds=2)


def record_of(comparison: HeadComparison, head: str, encoder: str) -> Record:
    [found] = [one for one in comparison.summary if (one["head"], one["encoder"]) == (head, encoder)]
    return found


def check(comparison: HeadComparison, found: Record) -> None:
    """Check a difference against the predictions."""
    one = record_of(comparison, found["head"], found["encoder"])
    other = record_of(comparison, found["other_head"], found["other_encoder"])
    assert found["difference"] == one["test_accuracy"] - other["test_accuracy"]
    (hits, counts), (other_hits, other_counts) = (
        by_speaker(comparison.outcomes[key_of(record)], len(comparison.speakers)) for record in (one, other)
    )
    expected = difference_interval(hits, counts, other_hits=other_hits, other_counts=other_counts)
    assert (found["low"], found["high"]) == expected
    assert found["n_speakers"] == 12
    is_significant = found["low"] > 0 or found["high"] < 0
    assert found["verdict"] == ("significant" if is_significant else "not significant")


def test_best_head_is_compared_with_each_other_one(comparison: HeadComparison) -> None:
    found = comparison.differences["heads"]
    best = comparison.best["head"], comparison.best["encoder"]
    assert best[1] == "encoder 1"
    assert {(one["head"], one["encoder"]) for one in found} == {best}
    others = {(one["other_head"], one["other_encoder"]) for one in found}
    assert len(found) == len(others) == 5
    assert best not in others
    for one in found:
        check(comparison, one)


def test_encoders_are_compared_in_pairs_with_their_best_heads(comparison: HeadComparison) -> None:
    found = comparison.differences["encoders"]
    pairs = [(one["encoder"], one["other_encoder"]) for one in found]
    assert pairs == [("encoder 1", "encoder 0"), ("encoder 1", "encoder 2"), ("encoder 0", "encoder 2")]
    for one in found:
        check(comparison, one)
        for head, encoder in ((one["head"], one["encoder"]), (one["other_head"], one["other_encoder"])):
            best_of_encoder = record_of(comparison, head, encoder)["val_accuracy"]
            assert best_of_encoder == max(
                each["val_accuracy"] for each in comparison.summary if each["encoder"] == encoder
            )
    assert found[1]["verdict"] == "significant"
    one = found[1]
    assert (
        f"{one['head']} on encoder 1 vs {one['other_head']} on encoder 2: {100 * one['difference']:+.1f} points on the "
        f"test set (95 % CI {100 * one['low']:.1f} to {100 * one['high']:.1f}), significant"
    ) in comparison.notes


def test_many_encoders_are_compared_with_the_best(made_up: MadeUp) -> None:
    comparison = compare_heads(encoders(made_up, [4.0, 0.0, 5.0, 6.0, 8.0]), ["centroid"])
    pairs = [(one["encoder"], one["other_encoder"]) for one in comparison.differences["encoders"]]
    assert [one for one, _ in pairs] == 4 * ["encoder 1"]
    assert {other for _, other in pairs} == {"encoder 0", "encoder 2", "encoder 3", "encoder 4"}


def test_one_encoder_and_one_head_have_no_differences(made_up: MadeUp) -> None:
    assert compare_heads(made_up(), ["lda"]).differences == {"heads": [], "encoders": []}


def test_there_are_no_differences_without_a_test_set(made_up: MadeUp) -> None:
    comparison = compare_heads(encoders(made_up, [0.0, 4.0]), ["lda", "centroid"], fractions=(0.8, 0.2, 0))
    assert comparison.differences == {"heads": [], "encoders": []}
