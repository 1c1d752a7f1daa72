"""`split` with the splits that a corpus gives."""

from typing import Any

import numpy as np
import pytest

from corpora import CorpusError, read_split, split

SPEAKERS = ["ann", "ann", "bob", "bob", "ann", "bob", "eva", "eva", "joe"]
GIVEN = ["train", "test", "training", "dev", "", None, "test", "validation", "train"]


def test_utterances_are_in_their_given_splits(caplog: pytest.LogCaptureFixture) -> None:
    parts = split(SPEAKERS, split_by="given", given=GIVEN, fractions=(0.1, 0.1, 0.8), seed=3)
    assert [part.tolist() for part in parts] == [[0, 2, 8], [3], [1]]
    assert all(part.dtype == np.int64 for part in parts)
    assert caplog.messages == [
        "split by given: left out of the validation split: 1 utterance of 1 speaker without training utterances (eva)",
        "split by given: left out of the test split: 1 utterance of 1 speaker without training utterances (eva)",
        "split by given: 2 utterances in no split, left out",
    ]


def test_speakers_by_number_are_named(caplog: pytest.LogCaptureFixture) -> None:
    split([0, 0, 1], split_by="given", given=["train", "test", "test"], names=["ann", "bob"])
    assert caplog.messages[0].endswith("without training utterances (bob)")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["train", "train", "test", "test"], "No speaker of the given test split is in the given training split"),
        (["train", "train", "train", "dev"], r"gives no test split \(found: train and validation\)"),
        (["test", "test", "dev", "dev"], r"gives no train split \(found: validation and test\)"),
        ([None, None, None, ""], r"gives no train split \(found: none\)"),
        (["train", "test"], "There are 4 speakers, but 2 given splits"),
        (["train", "test", "train", "probe"], r"The split is 'probe'; expected train, validation \(or dev\) or test"),
        (None, "needs the split of each utterance"),
    ],
)
def test_splits_that_cannot_be_used_are_refused(given: Any, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        split(["ann", "ann", "bob", "bob"], split_by="given", given=given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("train", "train"), (" Dev ", "validation"), ("EVAL", "test"), ("", None), ("  ", None), (None, None)],
)
def test_names_of_splits_are_read(text: str | None, expected: str | None) -> None:
    assert read_split(text) == expected
