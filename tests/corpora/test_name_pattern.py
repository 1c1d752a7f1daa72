"""`load_corpus` with a pattern: speakers and sessions from names, and the names that look like sessions."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from corpora import CorpusError, load_corpus

TAKES = ["anna_monday_01.wav", "anna_monday_02.wav", "anna_tuesday_01.wav", "ben_monday_01.flac"]


def lay_out(root: Path, files: Sequence[str]) -> Path:
    """Write files without audio, which is enough because no audio is opened."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not audio")
    return root


def read(root: Path, pattern: str) -> list[tuple[str, str, str]]:
    corpus = load_corpus(root, pattern=pattern)
    return [(utterance.id, utterance.speaker, utterance.session) for utterance in corpus]


def test_speakers_and_sessions_are_read_from_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = lay_out(tmp_path / "calls", TAKES)
    caplog.set_level(logging.INFO)
    assert read(root, "{speaker}_{session}_*") == [
        ("anna_monday_01.wav", "anna", "monday"),
        ("anna_monday_02.wav", "anna", "monday"),
        ("anna_tuesday_01.wav", "anna", "tuesday"),
        ("ben_monday_01.flac", "ben", "monday"),
    ]
    assert load_corpus(root, pattern="{speaker}_*").name == "calls"
    assert f"{root}: pattern {{speaker}}_{{session}}_*, 4 utterances, 2 speakers, 2 sessions" in caplog.messages[0]


@pytest.mark.parametrize(
    ("file", "pattern", "speaker", "session"),
    [
        ("anna_monday_01.wav", "{speaker}_*", "anna", "anna"),  # no sessions: one for each speaker
        ("anna.wav", "{speaker}", "anna", "anna"),
        ("anna_monday_01.WAV", "{speaker}_{session}_*.wav", "anna", "monday"),  # the suffix is ignored
        ("2024-01-31/anna_1.wav", "{session}/{speaker}_*", "anna", "2024-01-31"),
        ("anna/monday_1.wav", "{speaker}/{session}_?", "anna", "monday"),
        ("a/b/anna-x/1.wav", "**/{speaker}-{session}/*", "anna", "x"),
        ("anna-x/1.wav", "**/{speaker}-{session}/*", "anna", "x"),
        ("anna/x/y/z.wav", "{speaker}/{session}/**", "anna", "x"),
        ("dev/84/121/84-121-3.wav", "**/{speaker}/{session}/{speaker}-{session}-*", "84", "121"),
        ("anna01.wav", "{speaker}??", "anna", "anna"),
        ("a.b/(anna)+1.wav", "a.b/({speaker})+*", "anna", "anna"),  # other characters stand for themselves
        ("first anna_1.wav", "first {speaker}_*", "anna", "anna"),
    ],
)
def test_each_part_of_a_pattern_has_its_meaning(
    file: str, pattern: str, speaker: str, session: str, tmp_path: Path
) -> None:
    assert read(lay_out(tmp_path, [file]), pattern) == [(file, speaker, session)]


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("calls/anna_1.wav", "{speaker}_*"),  # a star does not cross folders
        ("anna_1.wav", "{speaker}_"),
        ("anna_1.wav", "{speaker}_??"),
        ("_1.wav", "{speaker}_*"),  # a speaker has a name
        ("dev/84/121/85-121-3.wav", "**/{speaker}/{session}/{speaker}-{session}-*"),
        ("axb/anna_1.wav", "a.b/{speaker}_*"),
    ],
)
def test_a_pattern_without_a_match_is_refused_with_an_example(file: str, pattern: str, tmp_path: Path) -> None:
    lay_out(tmp_path, [file])
    with pytest.raises(CorpusError, match="matches none of the 1 audio file") as refused:
        load_corpus(tmp_path, pattern=pattern)
    assert repr(pattern) in str(refused.value)
    assert repr(file) in str(refused.value)


def test_files_without_a_match_are_counted_in_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay_out(tmp_path, [*TAKES, "a.wav", "b.wav", "c.wav", "d.wav"])
    caplog.set_level(logging.WARNING)
    assert len(read(tmp_path, "{speaker}_{session}_*")) == 4
    [message] = caplog.messages
    assert "skipped 4 audio files that the pattern {speaker}_{session}_* does not recognise" in message
    assert message.endswith(": a.wav, b.wav, c.wav, ...")


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("{speaker}{session}", "nothing separates {speaker} from {session}"),
        ("{speaker}*", "nothing separates {speaker} from *"),
        ("{speaker}?*", "nothing separates {speaker} from *"),
        ("*{speaker}", "nothing separates * from {speaker}"),
        ("{session}_*", "expected {speaker} in it"),
        ("", "expected {speaker} in it"),
        ("{speakers}_*", "no placeholder '{speakers}'; perhaps you meant '{speaker}'"),
        ("{speaker_*", "no placeholder"),
    ],
)
def test_patterns_that_define_no_speaker_are_refused(pattern: str, problem: str, tmp_path: Path) -> None:
    lay_out(tmp_path, TAKES)
    with pytest.raises(CorpusError) as refused:
        load_corpus(tmp_path, pattern=pattern)
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("file", "pattern", "split"),
    [
        ("train/ann_0.wav", "*/{speaker}_*", "train"),
        ("test/train/ann_0.wav", "**/{speaker}_*", "train"),
        ("W/dev-clean/wav/ann/0.wav", "**/{speaker}/*", "validation"),
        ("test/ann/train/0.wav", "*/{speaker}/{session}/*", "test"),
        ("eval/monday/ann_0.wav", "*/{session}/{speaker}_*", "test"),
        ("ann/train/0.wav", "{speaker}/{session}/*", None),  # a session
        ("train-ann/0.wav", "*-{speaker}/*", None),  # a part of the speaker's folder
        ("josé/test/ann/0.wav", "jos\u00e9/*/{speaker}/*", "test"),
    ],
)
def test_folders_above_the_speaker_give_the_split(file: str, pattern: str, split: str | None, tmp_path: Path) -> None:
    (utterance,) = load_corpus(lay_out(tmp_path, [file]), pattern=pattern)
    assert (utterance.speaker, utterance.split) == ("ann", split)


def test_a_pattern_is_given_instead_of_a_layout_or_a_manifest(tmp_path: Path) -> None:
    lay_out(tmp_path, TAKES)
    (tmp_path / "manifest.csv").write_text("path,speaker\nanna_monday_01.wav,anna\n")
    with pytest.raises(CorpusError, match="--pattern and --layout folder both give the speakers"):
        load_corpus(tmp_path, "folder", pattern="{speaker}_*")
    with pytest.raises(CorpusError, match=r"--pattern and the manifest .* both give the speakers"):
        load_corpus(tmp_path / "manifest.csv", pattern="{speaker}_*")
    assert len(read(tmp_path, "{speaker}_*")) == 4


@pytest.mark.parametrize(
    ("speakers", "looks_like"),
    [
        (["2024-01-31", "2024-02-01"], "dates"),
        (["20240131", "20240201"], "dates"),
        (["31.01.2024", "01.02.2024"], "dates"),
        (["2024-01-31_09-30", "2024-01-31_10-30"], "dates"),
        (["Monday", "tue"], "dates"),
        (["take1", "take2"], "numbers of takes"),
        (["rec_02", "rec_05", "Session 7"], "numbers of takes"),
        (["001", "002", "003"], "numbers of takes"),
        (["0", "1"], "numbers of takes"),
        (["1272", "1462", "1673"], None),
        (["61", "62"], None),
        (["1", "3"], None),
        (["anna", "monday"], None),
        (["april", "june"], None),
        (["speaker1", "speaker2"], None),
        (["20241331", "20240232"], None),
    ],
)
def test_folders_that_look_like_sessions_cause_a_warning(
    speakers: list[str], looks_like: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lay_out(tmp_path, [f"{speaker}/anna_{number}.wav" for speaker in speakers for number in range(2)])
    caplog.set_level(logging.WARNING)
    assert set(load_corpus(tmp_path).speakers) == set(speakers)
    if looks_like is None:
        assert caplog.messages == []
    else:
        [message] = caplog.messages
        assert f"are read as {len(speakers)} speakers, but their names look like {looks_like}" in message
        assert "--pattern '{session}/{speaker}_*'" in message
    caplog.clear()
    load_corpus(tmp_path, pattern="{session}/{speaker}_*")
    assert caplog.messages == []


def test_other_layouts_cause_no_warning_about_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay_out(tmp_path, ["1/10/1-10-0000.flac", "2/10/2-10-0000.flac"])
    caplog.set_level(logging.WARNING)
    assert load_corpus(tmp_path).name == "librispeech"
    assert caplog.messages == []
