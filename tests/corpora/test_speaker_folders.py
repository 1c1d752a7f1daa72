"""The layout ``folder``: speakers below folders of splits and of kinds of files, and roots with two readings."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from corpora import CorpusError, load_corpus

Row = tuple[str, str, str | None]


def lay_out(root: Path, files: Iterable[str]) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not audio")
    return root


def rows_of(root: Path, layout: str = "auto") -> list[Row]:
    """Return speaker, session and split of each utterance."""
    return [(utterance.speaker, utterance.session, utterance.split) for utterance in load_corpus(root, layout)]


# Splits and kinds of files above the speakers


@pytest.mark.parametrize("layout_name", ["auto", "folder"])
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["test/ann/9.wav", "train/ann/0.wav"], [("ann", "ann", "test"), ("ann", "ann", "train")]),
        (["TRAIN/ann/0.wav", "Testing/bob/1.wav"], [("ann", "ann", "train"), ("bob", "bob", "test")]),
        (["dev/ann/0.wav", "eval/ann/1.wav"], [("ann", "ann", "validation"), ("ann", "ann", "test")]),
        (["val/ann/0.wav", "training/ann/mon/1.wav"], [("ann", "ann", "validation"), ("ann", "mon", "train")]),
        (["wav/ann/1.wav", "wav/bob/2.wav"], [("ann", "ann", None), ("bob", "bob", None)]),
        (["wav16/ann/1.wav", "FLAC/bob/2.wav"], [("bob", "bob", None), ("ann", "ann", None)]),
        (["data/train/wav/ann/1.wav", "data/test/bob/2.wav"], [("ann", "ann", "train"), ("bob", "bob", "test")]),
        (["clips/ann/a.wav", "clips/bob/train/b.wav"], [("ann", "ann", None), ("bob", "train", None)]),
        (["train-clean-100/19/198/a.wav", "dev_other/20/1/b.wav"], [("19", "198", "train"), ("20", "1", "validation")]),
        (["myset/train/ann/0.wav", "myset/test/bob/1.wav"], [("ann", "ann", "train"), ("bob", "bob", "test")]),
        (["myset/wav/ann/0.wav", "myset/wav/bob/1.wav"], [("ann", "ann", None), ("bob", "bob", None)]),
        (["a/myset/dev/ann/0.wav", "a/myset/eval/bob/1.wav"], [("ann", "ann", "validation"), ("bob", "bob", "test")]),
        (["data/myset/wav/ann/0.wav", "data/myset/wav/bob/1.wav"], [("ann", "ann", None), ("bob", "bob", None)]),
        (
            ["LibriTTS/train-clean-100/1/2/x.wav", "LibriTTS/train-clean-100/3/4/x.wav"],
            [("1", "2", "train"), ("3", "4", "train")],
        ),
        (
            ["speech_test/train/ann/0.wav", "speech_test/wav/bob/1.wav"],
            [("ann", "ann", "train"), ("bob", "bob", "test")],
        ),
    ],
)
def test_speakers_are_below_splits_and_kinds_of_files(
    files: Sequence[str], expected: Sequence[Row], layout_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert sorted(rows_of(lay_out(tmp_path, files), layout_name), key=str) == sorted(expected, key=str)
    assert "the speakers are the folders inside" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.INFO}


def test_folders_above_the_speakers_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    load_corpus(lay_out(tmp_path, ["myset/train/ann/0.wav", "myset/test/bob/1.wav", "beside.wav"]))
    assert "the speakers are the folders inside myset/test, myset/train (by name," in caplog.text
    assert "skipped 1 audio file that the layout folder does not recognise: beside.wav" in caplog.text


@pytest.mark.parametrize(
    "files",
    [
        ["train/ann/wav/phone/0.wav", "train/bob/wav/phone/1.wav", "test/ann/wav/phone/2.wav"],
        ["ann/wav/phone/0.wav", "bob/wav/phone/1.wav"],
    ],
)
def test_kinds_of_files_inside_speakers_are_sessions(files: Sequence[str], tmp_path: Path) -> None:
    assert {row[:2] for row in rows_of(lay_out(tmp_path, files))} == {("ann", "wav"), ("bob", "wav")}


def test_outer_folders_are_speakers_with_the_pattern_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lay_out(tmp_path, ["wav/ann/1.wav", "data/bob/2.wav"])
    caplog.set_level(logging.INFO)
    assert load_corpus(tmp_path).speakers == ("ann", "bob")
    assert "give --pattern '{speaker}/**'" in caplog.text
    caplog.clear()
    assert load_corpus(tmp_path, pattern="{speaker}/**").speakers == ("data", "wav")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "read as speakers, but named like splits or kinds of files: data, wav. If the speakers are else" in warning


def test_splits_beside_other_folders_are_speakers_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lay_out(tmp_path, ["train/ann/0.wav", "test/ann/1.wav", "noise/x.wav"])
    assert load_corpus(tmp_path).speakers == ("noise", "test", "train")
    (message,) = caplog.messages
    assert "read as speakers, but named like splits or kinds of files: test, train" in message


def test_files_directly_in_a_folder_of_a_kind_of_files_have_no_speaker(tmp_path: Path) -> None:
    lay_out(tmp_path, ["wav/ann_1.wav", "wav/bob_1.wav"])
    with pytest.raises(CorpusError, match=r"no layout fits .*--pattern, such as '\*\*/\{speaker\}_\*'"):
        load_corpus(tmp_path)
    assert load_corpus(tmp_path, pattern="**/{speaker}_*").speakers == ("ann", "bob")


def test_names_of_speakers_that_contain_a_split_are_speakers(tmp_path: Path) -> None:
    lay_out(tmp_path, ["testa/1.wav", "devon/1.wav", "test1/1.wav", "wavy/1.wav"])
    assert load_corpus(tmp_path).speakers == ("devon", "test1", "testa", "wavy")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["train/a/1.wav", "train/b/1.wav", "test/a/2.wav"], "train 2, test 1; --split_by given uses them"),
        (["train/a/1.wav", "dev/b/1.wav", "test/c/2.wav"], "train 1, validation 1, test 1; train and test share no"),
    ],
)
def test_sizes_of_given_splits_are_logged(
    files: Sequence[str], expected: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    load_corpus(lay_out(tmp_path, files))
    assert f"utterances in the splits that the corpus gives: {expected}" in caplog.text


@pytest.mark.parametrize("name", ["train-test", "train test", "test1", "ann-test", "devon"])
def test_folders_with_names_of_no_single_split_give_no_split(name: str, tmp_path: Path) -> None:
    lay_out(tmp_path, [f"{name}/wav/id10001/vid/1.wav"])
    assert [utterance.split for utterance in load_corpus(tmp_path, "voxceleb")] == [None]


# One folder


@pytest.mark.parametrize("above", ["", "wav/", "anna/train/"])
def test_folder_that_is_a_speaker_or_holds_speakers_is_asked_about(above: str, tmp_path: Path) -> None:
    lay_out(tmp_path, [f"{above}anna/phone/1.wav", f"{above}anna/laptop/2.wav"])
    pattern = f"{'*/' * above.count('/')}*/{{speaker}}/**"
    with pytest.raises(CorpusError) as refused:
        load_corpus(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}: the only folder is anna, with 2 folders inside (laptop, phone). If anna is the speaker and these "
        f"are sessions, give --layout folder. If these are the speakers, give --pattern '{pattern}'."
    )
    assert load_corpus(tmp_path, "folder").speakers == ("anna",)
    assert load_corpus(tmp_path, pattern=pattern).speakers == ("laptop", "phone")


@pytest.mark.parametrize("above", ["", "data/"])
def test_one_folder_inside_kinds_of_files_of_one_folder_is_asked_about(above: str, tmp_path: Path) -> None:
    lay_out(tmp_path, [f"{above}anna/wav/phone/1.wav", f"{above}anna/wav/phone/2.wav"])
    pattern = f"{'*/' if above else ''}{{speaker}}/**"
    with pytest.raises(CorpusError) as refused:
        load_corpus(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}: the only folder inside {above}anna/wav is phone. If phone is the speaker, give --layout folder. "
        f"If anna is the speaker, give --pattern '{pattern}'."
    )
    assert load_corpus(tmp_path, "folder").speakers == ("phone",)
    assert load_corpus(tmp_path, pattern=pattern).speakers == ("anna",)


def test_one_speaker_inside_splits_of_one_folder_is_read(tmp_path: Path) -> None:
    lay_out(tmp_path, ["myset/train/ann/0.wav", "myset/test/ann/1.wav"])
    assert rows_of(tmp_path) == [("ann", "ann", "test"), ("ann", "ann", "train")]


def test_recordings_directly_in_kinds_of_files_of_one_folder_are_asked_about(tmp_path: Path) -> None:
    lay_out(tmp_path, ["anna/wav/1.wav", "anna/mp3/old/2.mp3"])
    with pytest.raises(CorpusError, match=r"the only folder is anna, with 2 folders inside \(mp3, wav\)"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("name", ["2024-01-31", "monday", "take1"])
def test_folder_that_is_named_like_a_session_is_asked_about(name: str, tmp_path: Path) -> None:
    root = lay_out(tmp_path / "anna", [f"{name}/eva_1.wav"])
    with pytest.raises(CorpusError, match=f"the only folder is {name}, whose name is that of a session") as refused:
        load_corpus(root)
    assert f"give {tmp_path} with --pattern '{{speaker}}/{{session}}/*'" in str(refused.value)
    for pattern, speaker in (("{session}/{speaker}_*", "eva"), ("{speaker}/{session}/*", "anna")):
        assert f"--pattern '{pattern}'" in str(refused.value)
        assert load_corpus(root if speaker == "eva" else tmp_path, pattern=pattern).speakers == (speaker,)
    assert load_corpus(root, "folder").speakers == (name,)


def test_folder_of_one_speaker_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert rows_of(lay_out(tmp_path, ["anna/1.wav", "anna/2.wav"])) == 2 * [("anna", "anna", None)]
    assert "1 speaker, 1 session; speakers: anna" in caplog.text


def test_equal_names_of_sessions_cause_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lay_out(tmp_path, ["anna/phone/1.wav", "anna/laptop/1.wav", "ben/phone/1.wav"])
    assert rows_of(tmp_path) == [("anna", "laptop", None), ("anna", "phone", None), ("ben", "phone", None)]
    (record,) = caplog.records
    assert "2 speakers, 2 sessions" in record.getMessage()
