"""The layout of AISHELL-4: meetings with RTTM or TextGrid files, and annotations that cannot be used."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from corpora import Corpus, CorpusError, load_corpus

DATA = Path(__file__).parents[3] / "shared" / "data"
Row = tuple[str, str, str]
LINES = ["SPEAKER {0} 1 0.5 1.25 <NA> <NA> 001-M <NA> <NA>", "SPEAKER {0} 1 1.0 2.5 <NA> <NA> 002-F <NA> <NA>"]
GRID = (
    '"ooTextFile"\n"TextGrid"\n0\n9\n<exists>\n1\n"IntervalTier"\n"003-F"\n0\n9\n2\n0\n2\n""\n2\n4.5\n"words"\n'
)  # fmt: skip


def lay_out(root: Path, files: Sequence[str]) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"not audio")
    return root


def annotate(path: Path, lines: Sequence[str] = LINES, end: str = "\n", encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line.format(path.stem) + end for line in lines).encode(encoding))


def rows_of(corpus: Corpus) -> list[Row]:
    return [(utterance.id, utterance.speaker, utterance.session) for utterance in corpus]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("layout_name", ["auto", "aishell4"])
@pytest.mark.parametrize("place", ["TextGrid", "rttm", "RTTM", "wav", "", "wav/rttm"])
@pytest.mark.parametrize("above", ["", "test/"])
def test_each_line_is_an_utterance_of_a_speaker_of_the_meeting(
    above: str, place: str, layout_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lay_out(tmp_path, [f"{above}wav/M1.flac", f"{above}wav/M2.flac"])
    for name in ("M1", "M2"):
        annotate(tmp_path / above / place / f"{name}.rttm")
    with caplog.at_level(logging.INFO):
        corpus = load_corpus(tmp_path, layout_name)
    assert corpus.name == "aishell4"
    assert rows_of(corpus) == [
        (f"{above}wav/{name}.flac#{span}", f"{name}_{label}", name)
        for name in ("M1", "M2")
        for span, label in (("0.5-1.25", "001-M"), ("1-2.5", "002-F"))
    ]
    assert all(utterance.channel is None for utterance in corpus)
    assert warnings_of(caplog) == []
    assert "labels of speakers are local to a meeting. 2 labels are in several meetings" in caplog.text
    assert "such as M1_001-M and M2_001-M" in caplog.text


@pytest.mark.parametrize("folder", ["meetings", "beamformed 1"])
def test_the_folder_of_the_recordings_may_have_any_name(folder: str, tmp_path: Path) -> None:
    lay_out(tmp_path, [f"{folder}/M1.flac"])
    annotate(tmp_path / "rttm" / "M1.rttm", LINES[:1])
    assert rows_of(load_corpus(tmp_path)) == [(f"{folder}/M1.flac#0.5-1.25", "M1_001-M", "M1")]


def test_one_file_may_describe_all_meetings(tmp_path: Path) -> None:
    lay_out(tmp_path, ["wav/M1.wav", "wav/M 2.wav"])
    annotate(tmp_path / "rttm" / "all.rttm", [LINES[0].format("M1"), LINES[1].format("M_2")])
    assert rows_of(load_corpus(tmp_path)) == [
        ("wav/M 2.wav#1-2.5", "M_2_002-F", "M_2"),
        ("wav/M1.wav#0.5-1.25", "M1_001-M", "M1"),
    ]


def test_text_grids_are_read_where_there_is_no_rttm(tmp_path: Path) -> None:
    lay_out(tmp_path, ["wav/M1.flac", "wav/M2.flac"])
    annotate(tmp_path / "TextGrid" / "M1.rttm", LINES[:1])
    for name in ("M1", "M2"):
        (tmp_path / "TextGrid" / f"{name}.TextGrid").write_text(GRID)
    assert rows_of(load_corpus(tmp_path)) == [
        ("wav/M1.flac#0.5-1.25", "M1_001-M", "M1"),
        ("wav/M2.flac#2-2.5", "M2_003-F", "M2"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_lines_that_cannot_be_used_are_logged(encoding: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay_out(tmp_path, ["wav/Gespräch.flac", "wav/M2.flac", "wav/M3.flac"])
    lines = [
        *LINES,
        "",
        "SPEAKER {0} 1 -2 1 <NA> <NA> 001-M",
        LINES[0],  # repeated, with another format of the number
        "SPEAKER {0} 1 1.00 2.50 <NA> <NA> 003-李",  # of the span of another speaker
        "SPEAKER {0} 1 4 0.3 <NA> <NA> 003-李",
    ]
    rttm = tmp_path / "rttm"
    annotate(rttm / "Gespräch.rttm", lines, "\r\n", encoding)
    annotate(rttm / "M2.rttm")
    annotate(rttm / "M9.rttm")
    (rttm / "M3.rttm").write_bytes(b"\xff\xfea\x00")
    corpus = load_corpus(tmp_path)
    assert rows_of(corpus)[:2] == [
        ("wav/Gespräch.flac#0.5-1.25", "Gespräch_001-M", "Gespräch"),
        ("wav/Gespräch.flac#4-0.3", "Gespräch_003-李", "Gespräch"),
    ]
    assert len(corpus) == 4
    found = warnings_of(caplog)
    assert [
        f"{rttm / 'Gespräch.rttm'}: skipped 1 line, not well formed: line 4 "
        "('SPEAKER Gespräch 1 -2 1 <NA> <NA> 001-M')",
        f"{tmp_path}: RTTM files list 1 meeting without audio: M9",
        f"{tmp_path}: left out 1 segment (repeats of an earlier line): Gespräch.rttm line 5",
        f"{tmp_path}: left out 2 segments (spans with several speakers, who speak at once): "
        "Gespräch.rttm line 2, Gespräch.rttm line 6",
        f"{tmp_path}: skipped 1 audio file that the layout aishell4 does not recognise: wav/M3.flac",
    ] == [message for message in found if "UTF-16" not in message]
    assert sum(message.startswith(f"{rttm / 'M3.rttm'}: this text is in UTF-16") for message in found) == 1


def test_a_second_file_of_a_meeting_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay_out(tmp_path, ["wav/M1.flac", "wav/M1.wav", "wav/M2.wav"])
    for name in ("M1", "M2"):
        annotate(tmp_path / "rttm" / f"{name}.rttm", LINES[:1])
    assert [row[0] for row in rows_of(load_corpus(tmp_path))] == ["wav/M1.flac#0.5-1.25", "wav/M2.wav#0.5-1.25"]
    assert "another file in the same folder is of the same meeting: wav/M1.wav" in caplog.text


def test_annotations_of_other_recordings_make_no_corpus_of_meetings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lay_out(tmp_path, ["ann/1.wav", "ben/1.wav"])
    annotate(tmp_path / "rttm" / "M1.rttm")
    assert load_corpus(tmp_path).speakers == ("ann", "ben")
    assert warnings_of(caplog) == []
    message = "none of the 2 audio files fits the layout 'aishell4'"
    with caplog.at_level(logging.INFO), pytest.raises(CorpusError, match=message):
        load_corpus(tmp_path, "aishell4")
    assert "RTTM files list 1 meeting without audio: M1" in caplog.text


@pytest.mark.parametrize(
    ("audio", "annotation"),
    [("{0}/wav/{0}{1}.wav", "{0}/textgrid/{0}{1}.TextGrid"), ("{0}/{0}{1}.wav", "{0}/{0}{1}.TextGrid"),
     ("{0}/{0}{1}.wav", "{0}/{0}{1}.rttm")],
)  # fmt: skip
def test_folders_of_speakers_with_annotations_are_no_meetings(audio: str, annotation: str, tmp_path: Path) -> None:
    for speaker in ("anna", "ben"):
        for number in (1, 2, 3):
            lay_out(tmp_path, [audio.format(speaker, number)])
            path = tmp_path / annotation.format(speaker, number)
            annotate(path, LINES[:1])
            if path.suffix == ".TextGrid":
                path.write_text(GRID.replace("003-F", "words"))
    corpus = load_corpus(tmp_path)
    assert corpus.name == tmp_path.name
    assert corpus.speakers == ("anna", "ben")


def test_segments_past_the_end_are_found_when_they_are_read(write_audio: Callable[..., Path], tmp_path: Path) -> None:
    write_audio(tmp_path / "wav" / "M1.flac", seconds=2, channels=8)
    annotate(tmp_path / "wav" / "M1.rttm")
    problems = load_corpus(tmp_path).validate()
    assert [problem.subject for problem in problems if problem.kind == "unreadable"] == ["wav/M1.flac#1-2.5"]
    assert "the span ends at 3.5 s, but the file ends at 2 s" in problems[0].message


@pytest.mark.skipif(not (DATA / "aishell4").is_dir(), reason=f"{DATA / 'aishell4'} is not there")
def test_the_test_set_of_aishell4(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rttm = sorted((DATA / "aishell4" / "rttm").glob("*.rttm"))
    lay_out(tmp_path, [f"wav/{path.stem}.flac" for path in rttm])
    (tmp_path / "TextGrid").symlink_to(rttm[0].parent)
    corpus = load_corpus(tmp_path)
    assert len({utterance.session for utterance in corpus}) == 20
    assert len(corpus.speakers) == 116
    assert len(corpus) == 10_541 - 6
    assert sum((utterance.duration or 0) >= 1.5 for utterance in corpus) == 7_746
    [message] = warnings_of(caplog)
    assert "left out 6 segments (spans with several speakers, who speak at once)" in message
