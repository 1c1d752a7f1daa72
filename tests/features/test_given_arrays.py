"""`FeatureSet.from_arrays`, `to_arrays` and `split`."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from corpora import CorpusError
from evaluation import compare_heads
from features import FeaturesError, FeatureSet

NAMES = ["bob", "ann", "bob", "ann"]


def rows(n_rows: int = 4) -> NDArray[np.float64]:
    return np.random.default_rng(0).standard_normal((n_rows, 3))


@pytest.mark.parametrize(
    "vectors",
    [rows(), rows().astype(np.float32), torch.from_numpy(rows()), rows().tolist(), rows()[::-1][::-1]],
    ids=["float64", "float32", "tensor", "lists", "strides"],
)
@pytest.mark.parametrize("speakers", [NAMES, np.array(NAMES), np.array(NAMES, dtype=object)])
def test_arrays_tensors_and_lists_are_accepted(vectors: Any, speakers: Any) -> None:
    made = FeatureSet.from_arrays(vectors, speakers)
    assert made.features.dtype == torch.float32
    np.testing.assert_allclose(made.features, rows(), rtol=1e-6)
    assert (made.speakers, made.labels.tolist()) == (("ann", "bob"), [1, 0, 1, 0])
    assert (made.session_names, made.sessions.tolist()) == (("ann", "bob"), [1, 0, 1, 0])
    assert made.ids == ("0", "1", "2", "3")
    assert made.durations.isnan().all()
    assert (made.encoder["name"], made.corpus, made.audio) == ("unknown", "features", None)


def test_all_columns_can_be_given() -> None:
    made = FeatureSet.from_arrays(
        rows(), torch.tensor([10, 9, 10, 9]), ["mon", "mon", "fri", "fri"],
        ids=["a", "b", "c", "d"], durations=[1, 2.5, 3, 4], corpus="calls", encoder="mine",
    )  # fmt: skip
    assert (made.speakers, made.labels.tolist()) == (("9", "10"), [1, 0, 1, 0])  # sorted as numbers
    assert (made.session_names, made.sessions.tolist()) == (("fri", "mon"), [1, 1, 0, 0])
    assert (made.ids, made.durations.tolist()) == (("a", "b", "c", "d"), [1, 2.5, 3, 4])
    assert (made.encoder, made.corpus) == ({"name": "mine", "dim": 3}, "calls")


def test_earlier_name_makes_the_same_set() -> None:
    one, other = (
        FeatureSet.from_tensors(features=rows(), labels=NAMES, corpus="x"),
        FeatureSet.from_arrays(rows(), NAMES),
    )
    assert torch.equal(one.features, other.features)
    assert (one.speakers, one.ids, one.corpus) == (other.speakers, other.ids, "x")


def test_names_may_be_numpy_values_and_numbers_of_several_types() -> None:
    numbers: list[Any] = [1, 2.5, np.int64(1), np.float32(2.5)]
    made = FeatureSet.from_arrays(rows(), numbers, ["nan", np.str_("x"), "nan", "x"])
    assert (made.speakers, made.labels.tolist()) == (("1.0", "2.5"), [0, 1, 0, 1])
    assert (made.session_names, made.sessions.tolist()) == (("nan", "x"), [0, 1, 0, 1])


def test_names_in_either_unicode_form_are_one_speaker() -> None:
    composed, decomposed = "Zoë", unicodedata.normalize("NFD", "Zoë")
    names = [composed, decomposed, "\u0958", composed]  # the normal form of this letter has two characters
    for given in (names, np.array(names), np.array(names, dtype=object)):
        made = FeatureSet.from_arrays(rows(), given)
        assert (made.speakers, made.labels.tolist()) == (("Zoë", "\u0915\u093c"), [0, 0, 1, 0])


def test_similar_names_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    FeatureSet.from_arrays(rows(), ["Ann", "ann", "bob", "bob"], ["Mon", "mon", "mon", "mon"])
    [record] = caplog.records
    assert "'Ann' and 'ann'" in record.getMessage()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_vectors_of_any_precision_are_saved_in_both_formats(dtype: torch.dtype, tmp_path: Path) -> None:
    vectors = torch.from_numpy(rows()).to(dtype)
    made = FeatureSet.from_arrays(vectors, NAMES)
    assert made.features.dtype == (torch.float16 if dtype == torch.float16 else torch.float32)
    for name in ("x.npz", "x.pt"):
        assert torch.equal(FeatureSet.load(made.save(tmp_path / name)).features, vectors.to(made.features.dtype))


def test_given_array_that_cannot_be_written_is_copied() -> None:
    vectors = rows().astype(np.float32)
    vectors.setflags(write=False)
    made = FeatureSet.from_arrays(vectors, NAMES)
    made.features[0] = 0
    assert vectors[0].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vectors": rows().astype(int)}, r"The vectors are torch\.int64 of shape \(4, 3\); expected floating point"),
        ({"vectors": rows()[0]}, r"of shape \(3,\); expected floating point, \(N, D\) or \(N, L, D\)"),
        ({"vectors": rows()[:0], "speakers": []}, r"of shape \(0, 3\).* at least one row"),
        ({"vectors": [[1.0], [1.0, 2.0]]}, "The vectors are not a table of numbers"),
        ({"vectors": [["a"]] * 4}, "The vectors are not a table of numbers"),
        ({"speakers": NAMES[:3]}, "There are 4 vectors, but 3 speakers; give one for each vector"),
        ({"speakers": ["ann", None, "bob", "bob"]}, "The speakers have None in row 1; give a name for each row"),
        ({"speakers": [1.0, np.nan, 1.0, 2.0]}, "The speakers have NaN in row 1"),
        ({"speakers": torch.tensor([1.0, 2.0, torch.nan, 2.0])}, "The speakers have NaN in row 2"),
        ({"speakers": ["ann", "bob", np.nan, "ann"]}, "The speakers have NaN in row 2; give a name for each row"),
        ({"speakers": np.array([1, 2, np.nan, 1], dtype=object)}, "The speakers have NaN in row 2"),
        ({"speakers": ("ann", 1, "bob", 2.5)}, "not all strings or all numbers: row 0 has 'ann', row 1 has 1; give"),
        ({"speakers": np.array([1, "ann", 2, 3], dtype=object)}, "row 0 has 1, row 1 has 'ann'"),
        ({"sessions": ["mon", np.float32("nan"), None, "fri"]}, "The sessions have NaN in rows 1, 2; give"),
        ({"speakers": ["nan", "ann", "nan", "ann"]}, "have 'nan', which stands for a missing name, in rows 0, 2; give"),
        ({"speakers": ["ann", " ", "ann", "bob"]}, "have ' ', which stands for a missing name, in row 1; give"),
        ({"speakers": np.array(["ann", np.nan, "None", "ann"])}, "The speakers have 'None', which stands for a"),
        ({"speakers": ["ann", "Unknown", "bob", "Unknown"]}, "'Unknown' cannot be .* the speaker of row 1, row 3. Ren"),
        ({"speakers": [["ann"], ["ann", "bob"], [], []]}, "The speakers are not one for each row"),
        ({"sessions": ["mon"]}, "There are 4 vectors, but 1 session"),
        ({"ids": ["a", "b", "c"]}, "There are 4 vectors, but 3 ids"),
        ({"ids": ["a", "b", "c", "b"]}, "The id 'b' is given for several rows"),
        ({"ids": 4}, "The ids are 4; give one for each row"),
        ({"durations": [1.0]}, "There are 4 vectors, but 1 duration"),
        ({"durations": ["long"] * 4}, "The durations are not numbers"),
        ({"corpus": "a/b"}, "The corpus 'a/b' cannot be used in a file name"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FeaturesError, match=message):
        FeatureSet.from_arrays(**{"vectors": rows(), "speakers": NAMES, **arguments})


@pytest.mark.parametrize("split_by", ["utterance", "session"])
def test_split_is_that_of_the_comparison(split_by: Any, features: FeatureSet) -> None:
    fractions = (0.5, 0.25, 0.25) if split_by == "utterance" else (0.5, 0.0, 0.5)
    train, validation, test = features.split(fractions, split_by=split_by, seed=3)
    comparison = compare_heads(features, "centroid", split_by=split_by, fractions=fractions, seed=3)
    [outcomes] = [found for key, found in comparison.outcomes.items() if key[-1] == split_by]
    assert test.ids == tuple(features.ids[row] for row in outcomes[0].rows)
    assert sorted([*train.ids, *validation.ids, *test.ids]) == sorted(features.ids)
    assert bool(len(validation)) == (split_by == "utterance")
    if split_by == "session":
        assert not set(train.sessions.tolist()) & set(test.sessions.tolist())


def test_comparison_by_session_trains_on_the_training_and_validation_sets() -> None:
    vectors = np.eye(3).repeat(12, axis=0) + 0.1 * np.random.default_rng(0).standard_normal((36, 3))
    made = FeatureSet.from_arrays(vectors, np.arange(3).repeat(12), np.tile(np.arange(4).repeat(3), 3))
    sizes = compare_heads(made, "centroid", split_by="session", fractions=(0.5, 0.25, 0.25)).sizes
    cases: list[tuple[Any, int]] = [("session", 3), ("utterance", 1)]
    for split_by, folds in cases:
        train, validation, test = map(len, made.split((0.5, 0.25, 0.25), split_by=split_by))
        assert (validation > 0, sizes[split_by]["test"], sizes[split_by]["folds"]) == (True, test, folds)
        assert sizes[split_by]["train"] == (train + validation if split_by == "session" else train)


def test_split_refuses_fractions_that_do_not_sum_to_one(features: FeatureSet) -> None:
    with pytest.raises(CorpusError, match=r"fractions are 0\.5 0\.1 0\.1"):
        features.split((0.5, 0.1, 0.1))


def test_arrays_of_parts_fit_a_head_of_scikit_learn(features: FeatureSet) -> None:
    train, _, test = features.split(split_by="session")
    head = LogisticRegression(max_iter=1000).fit(*train.to_arrays())
    X, y = test.to_arrays()
    assert X.shape == (len(test), features.features.shape[1])
    assert X.dtype == np.float32
    assert y.tolist() == [features.speakers[label] for label in test.labels]
    assert head.score(X, y) > 0.5
    assert set(head.classes_) == set(features.speakers)


def test_arrays_of_half_precision_and_of_no_row(features: FeatureSet) -> None:
    half = features.to(torch.float16).to_arrays()[0]
    np.testing.assert_allclose(half, features.features, rtol=1e-3, atol=1e-3)
    assert [len(part) for part in features.select([]).to_arrays()] == [0, 0]
