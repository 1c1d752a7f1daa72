"""The column of given splits of a features file: extracted, stored, selected, and absent from older files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from corpora import Corpus, CorpusError, Split
from features import FeaturesError, FeatureSet

RunExtract = Callable[..., tuple[FeatureSet, int]]
NAMES: tuple[Split | None, ...] = ("train", "train", "validation", "test", None)


def with_splits(corpus: Corpus) -> Corpus:
    """Return the corpus with a given split for each utterance: five a session, as in `NAMES`."""
    utterances = [replace(utterance, split=NAMES[number % 5]) for number, utterance in enumerate(corpus)]
    return Corpus(tuple(utterances), corpus.root, corpus.name)


def test_given_splits_are_extracted_and_added_without_encoding(
    corpus: Corpus, tmp_path: Path, run_extract: RunExtract
) -> None:
    path = tmp_path / "x.pt"
    plain, _ = run_extract(corpus, path)
    assert plain.splits is None
    assert "splits" not in torch.load(path, weights_only=True)
    given, n_encoded = run_extract(with_splits(corpus), path)
    assert n_encoded == 0
    assert given.splits is not None
    assert given.splits.tolist() == 8 * [0, 0, 1, 2, -1]
    assert FeatureSet.load(path).given_splits == 8 * NAMES
    written = path.stat().st_mtime_ns
    run_extract(with_splits(corpus), path)
    assert path.stat().st_mtime_ns == written
    assert run_extract(corpus, path)[0].splits is None


@pytest.mark.parametrize("suffix", ["pt", "npz"])
def test_given_splits_are_stored_and_selected(suffix: str, tmp_path: Path) -> None:
    features = FeatureSet.from_arrays(np.eye(5), [0, 0, 0, 0, 1], splits=["train", "training", "dev", "test", ""])
    assert features.given_splits == NAMES
    part = FeatureSet.load(features.select([3, 4]).save(tmp_path / f"x.{suffix}"))
    assert part.given_splits == ("test", None)


def test_plain_file_may_have_splits(tmp_path: Path) -> None:
    vectors, names = np.eye(4, dtype=np.float32), np.array(["train", "train", "test", ""])
    np.savez(tmp_path / "x.npz", features=vectors, labels=np.array(["a", "b", "a", "b"]), splits=names)
    assert FeatureSet.load(tmp_path / "x.npz").given_splits == ("train", "train", "test", None)


def test_set_is_split_as_given() -> None:
    rows = np.arange(10.0).reshape(5, 2)
    features = FeatureSet.from_arrays(rows, ["a", "b", "a", "a", "b"], splits=["train", "train", "dev", "test", None])
    assert [part.ids for part in features.split(split_by="given")] == [("0", "1"), ("2",), ("3",)]
    with pytest.raises(CorpusError, match="gives no train split"):
        FeatureSet.from_arrays(rows, [0, 0, 1, 1, 1]).split(split_by="given")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["train"], "There are 2 vectors, but 1 split; give one for each"),
        (["train", "probe"], r"row 1\. The split is 'probe'; expected train, validation \(or dev\) or test"),
        (["train", 2], "The splits have 2 in row 1; expected train, validation, test or None"),
    ],
)
def test_splits_that_cannot_be_used_are_refused(splits: list[str], message: str) -> None:
    with pytest.raises(FeaturesError, match=message):
        FeatureSet.from_arrays(np.eye(2), ["a", "b"], splits=splits)


@pytest.mark.parametrize("splits", [torch.tensor([0, 3]), torch.tensor([-2, 0]), torch.tensor([0]), [0, 1]])
def test_file_with_wrong_splits_is_refused(splits: object, tmp_path: Path) -> None:
    path = FeatureSet.from_arrays(np.eye(2), ["a", "b"], splits=["train", "test"]).save(tmp_path / "x.pt")
    torch.save(torch.load(path, weights_only=True) | {"splits": splits}, path)
    with pytest.raises(FeaturesError, match="its splits"):
        FeatureSet.load(path)
