"""Manifests: their columns, the variants that other programs write, and errors."""

import csv
import logging
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import Corpus, CorpusError, Utterance, load_corpus


def rows_of(corpus: Corpus) -> list[tuple[str, str, str]]:
    return [(utterance.id, utterance.speaker, utterance.session) for utterance in corpus]


def write_manifest(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.csv").write_bytes(text.encode(encoding))
    return folder


def test_manifest(tmp_path: Path) -> None:
    root = write_manifest(
        tmp_path / "meetings",
        "path,speaker,session,start,duration,note\n"
        "a.wav,ann,m1,,,whole\n"
        'b.wav,ann,m1,0,,"whole, with a comma"\n'
        "sub/c.wav,bob,m1,1.5,2.25,\n"
        "sub/c.wav,bob,m1,12.000,0.1,\n"
        "sub/c.wav,bob,,100,,\n"
        '"../other, place/d.wav",bob,m2,0,10,\n',
    )
    corpus = load_corpus(root)
    assert rows_of(corpus) == [
        ("a.wav", "ann", "m1"),
        ("b.wav", "ann", "m1"),
        ("sub/c.wav#1.5-2.25", "bob", "m1"),
        ("sub/c.wav#12-0.1", "bob", "m1"),
        ("sub/c.wav#100-", "bob", "bob"),
        ("../other, place/d.wav#0-10", "bob", "m2"),
    ]
    assert corpus.utterances[2] == Utterance(root / "sub/c.wav", "bob", "m1", 1.5, 2.25, root=root)
    assert corpus.utterances[0].duration is None
    assert corpus.utterances[5].path.resolve() == tmp_path / "other, place/d.wav"
    assert corpus.name == "meetings"
    assert corpus.root == root


@pytest.mark.parametrize("layout_name", ["auto", "manifest"])
def test_manifest_file_may_have_any_name(layout_name: str, tmp_path: Path) -> None:
    folder = write_manifest(tmp_path / "lists", "speaker,path\nann,a.wav\n")
    path = (folder / "manifest.csv").rename(folder / "train.txt")
    corpus = load_corpus(path, layout_name)
    assert rows_of(corpus) == [("a.wav", "ann", "ann")]
    assert (corpus.root, corpus.name) == (folder, "lists")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("path,speaker\nä.wav,Zoë\n", "utf-8-sig"),  # with a byte-order mark
        ("path,speaker\r\nä.wav,Zoë\r\n", "utf-8"),
        ("path, speaker\n  ä.wav , Zoë \n", "utf-8"),
        ("path,speaker\n\nä.wav,Zoë\n\n\n", "utf-8"),
        ('"path","speaker"\n"ä.wav","Zoë"', "utf-8"),
        ("path,speaker,session,start,duration\nä.wav,Zoë\n", "utf-8"),
        ("path,speaker,session,start,duration\nä.wav,Zoë, , , \n", "utf-8"),
        ("Path,SPEAKER\rä.wav,Zoë\r", "utf-8"),
        ("path;speaker\nä.wav;Zoë\n;\n;;;\n", "utf-8"),
        ("path\tspeaker\t\nä.wav\tZoë\t\n", "utf-8"),
        ("path|speaker\nä.wav|Zoë\n", "utf-8"),
        ("path,speaker,,\nä.wav,Zoë,,\n,,,\n , ,,,,\n", "utf-8"),
        ("file name,Speaker-ID\nä.wav,Zoë\n", "utf-8"),
        ("path,speaker,session\nä.wav,Zoë,NaN\n", "utf-8"),
    ],
)
def test_csv_variants_of_spreadsheet_programs(text: str, encoding: str, tmp_path: Path) -> None:
    corpus = load_corpus(write_manifest(tmp_path, text, encoding))
    assert rows_of(corpus) == [("ä.wav", "Zoë", "Zoë")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,name\na.wav,ann\n", r"manifest\.csv: its first line is 'path,name'; expected path,speaker"),
        ("", r"its first line is ''; expected path,speaker"),
        ("a.wav,ann,mon\nb.wav,bob,tue\n", r"its first line is 'a\.wav,ann,mon'; expected path,speaker"),
        ("a.wav,ann\nb,bob\n", r"its first line is 'a\.wav,ann'; expected path,speaker"),
        ("a.wav,b.wav\n", r"its first line is 'a\.wav,b\.wav'; expected path,speaker"),
        ("path,speaker,path\na.wav,ann,b.wav\n", r"the columns 'path' and 'path' have the same meaning"),
        ("path,speaker,start,Start (s)\na.wav,ann,1,2\n", r"the columns 'start' and 'Start \(s\)' have the same"),
        ("path,speaker,start_sample\na.wav,ann,1\n", r"'start_sample' counts samples.* 'start' in seconds"),
        ("path,speaker\na.wav,ann\nb.wav,ann,0,5\n", r"line 3: this row has 4 cells, but the header has 2"),
        ('path,speaker\na.wav,"ann\nb.wav,bob\n', r"in the row that begins in line 2: .*not closed"),
        ("path,speaker\na\0.wav,ann\n", r"this is not a text file"),
        ("path,speaker\na.wav,nan\nb.wav,ann\nc.wav,None\n", r"lines 2, 4: the speaker is 'nan', which stands for a"),
        ("path,speaker\na.wav,ann\nb.wav,Unknown\n", r"'Unknown' cannot be a speaker's name.* speaker of b\.wav\."),
        ("path,speaker,probability,error\na.wav,ann,0.5,\n", r"not a manifest.*; it is a file of predictions"),
        ("path,speaker,start,end\na.wav,ann,2,2\n", r"line 2: end is 2, and start is 2; expected an end after"),
        ("path,speaker,duration,end\na.wav,ann,2,3\n", r"line 2: duration is 2, but from start to end are 3 s"),
        ("path;speaker;start\na.wav;ann;1,000,5\n", r"line 2: start is '1,000,5'.*write a decimal point"),
        ("path,speaker\n", r"lists no utterance"),
        ("path,speaker\na.wav,ann\nb.wav,\n", r"line 3: the speaker is empty"),
        ("path,speaker\na.wav,ann\nb.wav\n", r"line 3: the speaker is empty"),
        ("path,speaker\na.wav,ann\n\n ,bob\n", r"line 4: the path is empty"),
        ("path,speaker,start\na.wav,ann,0\nb.wav,ann,soon\n", r"line 3: start is 'soon'; expected a number of seconds"),
        ('path,speaker,start\na.wav,ann,"1,5"\n', r"line 2: start is '1,5'; .* write a decimal point"),
        ('path,speaker,duration\n"a\nb.wav",ann,\nc.wav,ann,x\n', r"line 4: duration is 'x'"),
        ("path,speaker,start\na.wav,ann,-1\n", r"line 2: start is -1"),
        ("path,speaker,start\na.wav,ann,nan\n", r"line 2: start is nan"),
        ("path,speaker,start\na.wav,ann,inf\n", r"line 2: start is inf"),
        ("path,speaker,duration\na.wav,ann,0\n", r"line 2: duration is 0"),
        ("path,speaker,duration\na.wav,ann,-2\n", r"line 2: duration is -2"),
        ("path,speaker\na.wav,ann\nb.wav,ann\na.wav,bob\n", r"a\.wav is listed 2 times"),
        ("path,speaker\na.wav,ann\n./x/../a.wav,bob\n", r"a\.wav is listed 2 times"),
        ("path,speaker,start,duration\na.wav,ann,1,2\na.wav,bob,1.0,2.00\n", r"a\.wav#1-2 is listed 2 times"),
    ],
)
@pytest.mark.parametrize("layout_name", ["auto", "manifest"])
def test_invalid_manifest_is_refused(text: str, message: str, layout_name: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus(write_manifest(tmp_path / "m", text), layout_name)
    assert str(tmp_path / "m") in str(caught.value)


@pytest.mark.parametrize(("column", "expected"), [("sesion", "session"), ("spilt", "split")])
def test_columns_that_are_not_used_are_logged_once(
    column: str, expected: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = load_corpus(write_manifest(tmp_path, f",path,speaker,note,{column}\n1,a.wav,ann,x,1\n2,b.wav,ann,y,2\n"))
    assert rows_of(corpus) == [("a.wav", "ann", "ann"), ("b.wav", "ann", "ann")]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    listed = f"number 1, without a name, 'note', {column!r} (perhaps you meant {expected!r})"
    assert record.getMessage() == f"{tmp_path / 'manifest.csv'}: the columns {listed} are not used"


@pytest.mark.parametrize(
    ("header", "times"),
    [
        ("start,end", "1.5,3.75"),
        ("start,end,duration", "1.5,3.75,2.25"),
        ("start,end,duration", "1.5,3.75,2.249"),
        ("Start Time,stop", "1.5,3.75"),
        ("onset,offset", "1.5,3.75"),
        ("offset,duration", "1.5,2.25"),
        ("begin (s),end [s]", "1.5,3.75"),
        ("start_ms,end_ms", "1500,3750"),
        ("startSec,endSec", "1.5,3.75"),
        ("startTimeMs,durationMs", "1500,2250"),
        ("startsec,endsec", "1.5,3.75"),
        ("segment_start,segment_end", "1.5,3.75"),
        ("utt_start_ms,utt_dur_ms", "1500,2250"),
        ("segmentStartTime,segmentEndTime", "1.5,3.75"),
        ("from,to", "1.5,3.75"),
        ("from,length", "1.5,2.25"),
        ("from_ms,to_ms", "1500,3750"),
        ("start,length", "1.5,2.25"),
        ("start,finish", "1.5,3.75"),
    ],
)
def test_end_and_other_names_of_times_are_read(
    header: str, times: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = load_corpus(write_manifest(tmp_path, f"path,speaker,{header}\na.wav,ann,{times}\n"))
    assert corpus.ids[0].startswith("a.wav#1.5-2.2")
    assert not caplog.records


@pytest.mark.parametrize(
    ("header", "cells", "name", "column"),
    [
        ("durations", "2.5", "durations", "duration"),
        ("clip_start,end", "1,2", "clip_start", "start"),
        ("start,end_at", "1,2", "end_at", "end"),
        ("t0,t1", "1,2", "t0", "start"),
        ("start,tmax", "1,00:00:05.5", "tmax", "end"),
        ("from", "1e1", "from", "start"),
    ],
)
def test_columns_that_are_probably_times_are_refused(
    header: str, cells: str, name: str, column: str, tmp_path: Path
) -> None:
    root = write_manifest(tmp_path, f"path,speaker,{header}\na.wav,ann,{cells}\n")
    with pytest.raises(CorpusError, match=rf"manifest\.csv: the column '{name}' is probably the {column} of segments"):
        load_corpus(root)


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("length", "5"),  # of the file
        ("from", "Berlin"),
        ("file_duration", "5"),
        ("start_word", "so"),
        ("durations", "NaN"),
        ("start,end,durations", "0,1,1"),
    ],
)
def test_columns_that_are_not_those_of_segments_are_named_in_a_warning(
    header: str, cells: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = load_corpus(write_manifest(tmp_path, f"path,speaker,{header}\na.wav,ann,{cells}\n"))
    assert corpus.ids[0] == ("a.wav#0-1" if "end" in header else "a.wav")
    [message] = caplog.messages
    assert f"the column {header.split(',')[-1]!r}" in message
    assert message.endswith("is not used")


def test_names_of_columns_that_are_read_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    load_corpus(write_manifest(tmp_path, "Path,spk_id,onset,offset\na.wav,ann,0,1\n"))
    assert "reads the column 'spk_id' as speaker, 'onset' as start, 'offset' as end" in caplog.text


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimal_commas_are_read_without_commas_between_cells(delimiter: str, tmp_path: Path) -> None:
    text = "path;speaker;start;end\na.wav;ann;0,5;1,75\n".replace(";", delimiter)
    assert load_corpus(write_manifest(tmp_path, text)).ids == ("a.wav#0.5-1.25",)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_comma_that_can_separate_thousands_is_refused(delimiter: str, tmp_path: Path) -> None:
    text = "path;speaker;start;end\na.wav;ann;0,500;1,002\n".replace(";", delimiter)
    with pytest.raises(CorpusError, match=r"line 2: end is '1,002', .* decimals or thousands; write 1\.002 or 1002\."):
        load_corpus(write_manifest(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "order"), [("a.wav,ann\nb.flac,ben\n", "path,speaker"), ("ann;x/a.WAV", "speaker,path")]
)
def test_two_columns_without_header_are_read_and_logged(
    text: str, order: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    corpus = load_corpus(write_manifest(tmp_path, text))
    assert corpus.utterances[0].speaker == "ann"
    assert corpus.ids[0] in ("a.wav", "x/a.WAV")
    assert f"the first line is no header; the columns are read as {order}" in caplog.text


def test_backslashes_separate_folders_if_that_file_exists(tmp_path: Path) -> None:
    root = write_manifest(tmp_path, "path,speaker\np0\\0.flac,ann\np0\\1.flac,ann\np1\\0.flac,ben\n")
    (root / "p0").mkdir()
    (root / "p0/0.flac").touch()
    (root / "p0\\1.flac").touch()  # a name with a backslash
    assert load_corpus(root).ids == ("p0/0.flac", "p0\\1.flac", "p1\\0.flac")


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-16", "this text is in UTF-16; expected a text in UTF-8. Save it as UTF-8: as 'CSV UTF-8'"),
        ("utf-16-le", "this text is in UTF-16; "),
        ("utf-16-be", "this text is in UTF-16; "),
        ("utf-32", "this text is in UTF-32; "),
        ("latin-1", "line 2: the byte 0xe4 is not valid UTF-8, so the text is in another encoding"),
    ],
)
def test_manifest_in_other_encoding_is_refused(encoding: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=rf"manifest\.csv.*{message}"):
        load_corpus(write_manifest(tmp_path, "path,speaker\nä.wav,Zoë\n", encoding))


def test_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"there is no manifest\.csv in this folder"):
        load_corpus(tmp_path, "manifest")


WORD = st.text("abcxyzäß语 _-'\",;=", min_size=1, max_size=6).map(str.strip).filter(bool)
ROWS = st.lists(
    st.tuples(WORD, WORD, st.just("") | WORD, st.integers(0, 10**7), st.none() | st.integers(1, 10**7)),
    min_size=1,
    max_size=8,
    unique_by=lambda row: (row[0], row[3], row[4]),
)


@settings(deadline=None, max_examples=60)
@given(rows=ROWS)
def test_manifest_written_by_csv_is_read_back(rows: list[tuple[str, str, str, int, int | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with open(Path(folder, "manifest.csv"), "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "speaker", "session", "start", "duration"])
            for path, speaker, session, start, duration in rows:
                writer.writerow([path, speaker, session, start / 1000, "" if duration is None else duration / 1000])
        corpus = load_corpus(folder)
    assert [(u.path, u.speaker, u.session, u.start, u.duration) for u in corpus] == [
        (Path(folder, path), speaker, session or speaker, start / 1000, None if duration is None else duration / 1000)
        for path, speaker, session, start, duration in rows
    ]


def test_column_of_the_split(tmp_path: Path) -> None:
    root = write_manifest(tmp_path / "given", "path,speaker,split\na.wav,ann,train\nb.wav,ann,Dev\nc.wav,ann,\n")
    assert [utterance.split for utterance in load_corpus(root)] == ["train", "validation", None]


def test_words_in_the_column_of_the_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ["train-clean-100", "dev_other", "n/a", "NaN", "other", "train-test", "other", "TEST"]
    rows = [f"{number}.wav,ann,{word}\n" for number, word in enumerate(words)]
    root = write_manifest(tmp_path, "path,speaker,split\n" + "".join(rows))
    expected = ["train", "validation", None, None, None, None, None, "test"]
    assert [utterance.split for utterance in load_corpus(root)] == expected
    [message] = caplog.messages
    assert message == (
        f"{tmp_path / 'manifest.csv'}: the column 'split' has other words than train, validation (or dev) and test: "
        "'other', 'train-test'; rows with them are in no split"
    )


def test_channels_are_numbered_from_0(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "path,speaker,start,duration,channel,name\n"
    cells = {"": None, "mean": None, "Mean": None, "nan": None, "0": 0, "7": 7, "1.0": 1}
    text += "".join(f"{row}.wav,ann,1,2,{cell},ann_{row:04d}\n" for row, cell in enumerate(cells))
    corpus = load_corpus(write_manifest(tmp_path, text + "0.wav,ann,1,2,3,\n"))
    assert [utterance.channel for utterance in corpus] == [*cells.values(), 3]
    assert [corpus.ids[0], corpus.ids[-1]] == ["0.wav#1-2", "0.wav#1-2#channel3"]
    assert caplog.records == []  # the names of segments are no surprise


@pytest.mark.parametrize("cell", ["-1", "A", "0.5", "1;2", "all"])
def test_other_channels_are_refused(cell: str, tmp_path: Path) -> None:
    root = write_manifest(tmp_path, f"path,speaker,channelNumber\na.wav,ann,0\nb.wav,ann,{cell}\n")
    message = rf"manifest\.csv, line 3: channel is '{cell}'; expected the number of a channel, from 0, or mean"
    with pytest.raises(CorpusError, match=message):
        load_corpus(root)
