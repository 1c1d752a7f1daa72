"""The training, validation and test parts: how they are drawn, and what is reported about them."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import (
    Corpus,
    CorpusError,
    Utterance,
    load_corpus,
    parts_of_folders,
    split_by_speaker,
    split_mixed,
    take_subsets,
)
from training import TrainedEncoder, TrainingError
from training.data import TrainingData
from training.part_problems import missing_speakers, part_problems

Train = Callable[..., TrainedEncoder]
SPEAKERS_TXT = Path(__file__).parents[3] / "shared/data/LibriSpeech/SPEAKERS.TXT"
ALL_TRAIN = ("train-clean-100", "train-clean-360", "train-other-500")
PARTS = ["train", "validation", "test"]


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(PARTS)), min_size=1, max_size=60), st.integers(0, 9))
@settings(max_examples=200)
def test_mixed_split_keeps_sizes_and_has_every_speaker_in_training(utterances: list[Any], seed: int) -> None:
    speakers, given_parts = (list(column) for column in zip(*utterances, strict=True))
    if given_parts.count("train") < len(set(speakers)):
        with pytest.raises(CorpusError, match="each speaker needs one there"):
            split_mixed(speakers, given_parts, seed)
        return
    parts = split_mixed(speakers, given_parts, seed)
    assert [len(rows) for rows in parts] == [given_parts.count(part) for part in PARTS]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(speakers)))
    assert {speakers[row] for row in parts[0].tolist()} == set(speakers)
    again = split_mixed(speakers, given_parts, seed)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


def test_mixed_split_draws_from_all_parts() -> None:
    speakers, given_parts = list(range(20)) * 30, ["train"] * 400 + ["validation"] * 100 + ["test"] * 100
    drawn = Counter(given_parts[row] for row in split_mixed(speakers, given_parts)[1].tolist())
    assert drawn.keys() == set(PARTS)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(0, 9))
@settings(max_examples=100)
def test_split_by_speaker_shares_no_speaker(speakers: list[int], seed: int) -> None:
    if len(set(speakers)) < 6:
        with pytest.raises(CorpusError, match="needs two in each set"):
            split_by_speaker(speakers, seed=seed)
        return
    parts = split_by_speaker(speakers, seed=seed)
    found = [{speakers[row] for row in rows.tolist()} for rows in parts]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(speakers)))
    assert sum(map(len, found)) == len(set(speakers))
    assert min(map(len, found)) >= 2


@pytest.fixture(scope="module")
def librispeech() -> Corpus:
    """Return LibriSpeech as its list of speakers gives it: five utterances of each, without audio."""
    if not SPEAKERS_TXT.is_file():
        pytest.skip(f"{SPEAKERS_TXT} is not on this machine; it is LibriSpeech's list of speakers")
    root = Path("LibriSpeech")
    utterances = [
        Utterance(root / subset / speaker / f"{number}.flac", speaker, "1", root=root)
        for speaker, subset in re.findall(
            r"^(\d+)\s*\|[^|]*\|\s*([\w-]+)", SPEAKERS_TXT.read_text("utf-8"), re.MULTILINE
        )
        for number in range(5)
    ]
    return Corpus(tuple(utterances), root, "librispeech")


@pytest.mark.parametrize(
    ("train", "n_classes"),
    [
        (("train-clean-100",), 331),
        (("train-clean-360",), 1001),
        (("train-other-500",), 1246),
        (("train-clean-100", "train-clean-360"), 1252),
        (ALL_TRAIN, 2418),
    ],
)
def test_subsets_have_the_published_numbers_of_classes(
    train: tuple[str, ...], n_classes: int, librispeech: Corpus
) -> None:
    corpus = take_subsets(librispeech, (*train, "dev-clean", "test-clean"))
    speakers, given_parts = [utterance.speaker for utterance in corpus], parts_of_folders(corpus)
    parts = split_mixed(speakers, given_parts)
    assert len({speakers[row] for row in parts[0].tolist()}) == len(corpus.speakers) == n_classes
    assert [len(rows) for rows in parts] == [5 * (n_classes - 80), 200, 200]
    listed = (Path(__file__).parents[2] / "recipes/README.md").read_text(encoding="utf-8")
    assert f"| `{' '.join(train)}` | {n_classes:,} |" in listed


def test_folders_that_are_no_parts_are_refused(corpus: Corpus) -> None:
    with pytest.raises(CorpusError, match=r"the folder '101' is not the name of a part"):
        parts_of_folders(corpus)
    with pytest.raises(CorpusError, match=r"101, 102, 103, 104"):
        take_subsets(corpus, ["train-clean-100"])
    assert take_subsets(corpus, ["101", "103"]).speakers == ("101", "103")


def test_a_mixed_run_has_all_speakers_and_the_sizes_of_the_subsets(train: Train, subsets: Path) -> None:
    trained = train(corpus=load_corpus(subsets), split_by="mixed", epochs=1)
    sizes = {row["part"]: row["n_utterances"] for row in trained.rows}
    assert sizes == {"train": 20, "validation": 10, "test": 10}


def keep(corpus: Corpus, counts: dict[str, int]) -> Corpus:
    """Return the corpus with at most some utterances of some speakers."""
    kept = [
        utterance
        for speaker in corpus.speakers
        for utterance in [each for each in corpus if each.speaker == speaker][: counts.get(speaker)]
    ]
    return Corpus(tuple(kept), corpus.root, corpus.name)


def test_speakers_without_validation_or_test_are_named(
    train: Train, corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = train(corpus=keep(corpus, {"103": 1}), epochs=1)
    assert trained.notes == (
        "The validation part has no utterance of 1 of the 4 training speakers: 103.",
        "The test part has no utterance of 1 of the 4 training speakers: 103.",
    )
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == list(trained.notes)
    written = json.loads((tmp_path / "run/metrics.json").read_text())
    assert written["notes"] == list(trained.notes)
    assert written["missing_speakers"] == {"validation": ["103"], "test": ["103"]}


def test_without_validation_the_last_epoch_is_selected(train: Train, tmp_path: Path) -> None:
    trained = train(fractions=(0.8, 0.0, 0.2))
    assert trained.notes == ("The validation part has no utterances, so the last epoch is selected.",)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["selected_epoch"] == 2
    assert [row["part"] for row in trained.rows] == ["train", "train", "test"]


def test_classifier_is_validated_on_other_speakers_by_its_eer(train: Train) -> None:
    trained = train(split_by="speaker", fractions=(0.5, 0.5, 0.0), epochs=1)
    assert trained.notes[0] == (
        "20 of the 20 utterances of the validation part are of 2 speakers that are not in the training part, so that "
        "part has no loss and no accuracy, only an EER."
    )
    assert trained.figures["part"] == "validation"
    assert 0 <= trained.figures["eer"] <= 1
    assert np.isnan(trained.figures["accuracy"])


def test_validation_without_pairs_selects_the_last_epoch(train: Train, corpus: Corpus, tmp_path: Path) -> None:
    names = [utterance.speaker for utterance in corpus]
    rows = split_by_speaker(names, (0.5, 0.5, 0.0))[1]
    few = keep(corpus, {names[row]: 1 for row in rows.tolist()})
    trained = train(
        "query_transformer", "triplet", corpus=few, split_by="speaker", fractions=(0.5, 0.5, 0.0), batch_size=4
    )
    assert trained.notes[0] == (
        "The validation part has one utterance of each speaker, so there are no pairs to compare: it has no EER, and "
        "the last epoch is selected."
    )
    assert json.loads((tmp_path / "run/metrics.json").read_text())["selected_epoch"] == 2


def make_data(train: str, validation: str, test: str) -> TrainingData:
    """Return the data of parts whose utterances are of speakers with names of one letter."""
    names = train + validation + test
    edges = np.cumsum([0, len(train), len(validation), len(test)])
    parts = {part: np.arange(*edges[number : number + 2]) for number, part in enumerate(PARTS)}
    utterances = tuple(Utterance(Path(f"{number}.wav"), name, "1") for number, name in enumerate(names))
    return TrainingData(utterances, np.full(len(names), 100), parts, sample_rate=16_000, hop=160)


def test_speakers_that_are_not_in_training_are_counted() -> None:
    data = make_data("aabbcc", "abcdd", "dea")
    assert part_problems(data, "classification") == [
        "2 of the 5 utterances of the validation part are of 1 speaker that is not in the training part, so the others "
        "give its loss and its accuracies.",
        "2 of the 3 utterances of the test part are of 2 speakers that are not in the training part, so the others "
        "give its loss and its accuracies.",
        "The test part has no utterance of 2 of the 3 training speakers: b, c.",
    ]
    assert missing_speakers(data, "test") == ("b", "c")


def test_long_lists_of_speakers_are_cut_in_sentences_only() -> None:
    data = make_data("abcdefgh", "a", "abcdefgh")
    assert part_problems(data, "classification") == [
        "The validation part has no utterance of 7 of the 8 training speakers: b, c, d, e, f, ..."
    ]
    assert missing_speakers(data, "validation") == tuple("bcdefgh")


@pytest.mark.parametrize(("validation", "found"), [("dddd", "utterances of one speaker only"), ("", "no utterances")])
def test_parts_that_cannot_be_measured_are_reported(validation: str, found: str) -> None:
    notes = part_problems(make_data("aabb", validation, "ddee"), "triplet")
    assert len(notes) == 1
    assert found in notes[0]
    assert "the last epoch is selected" in notes[0]


def test_given_parts_are_those_of_the_folders(train: Train, corpus_root: Path, tmp_path: Path) -> None:
    for split, speakers in (("train", ("101", "102")), ("dev", ("103", "104"))):
        for speaker in speakers:
            shutil.copytree(corpus_root / speaker, tmp_path / "given" / split / speaker)
    corpus = load_corpus(tmp_path / "given", "folder")
    trained = train(corpus=corpus, split_by="given", epochs=1)
    assert [(row["part"], row["n_utterances"]) for row in trained.rows] == [("train", 20), ("validation", 20)]
    assert 0 <= trained.rows[1]["eer"] <= 1
    assert torch.load(trained.paths[0], weights_only=True)["speakers"] == ["101", "102"]
    with pytest.raises(TrainingError, match="the corpus gives no train split"):
        train(corpus=load_corpus(corpus_root), split_by="given", output_dir=tmp_path / "other")
