"""`describe_corpus`: figures from headers, files that cannot be read, and the saved files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from corpora import Corpus, describe_corpus, load_corpus

WriteAudio = Callable[..., Path]


@pytest.fixture
def calls(write_audio: WriteAudio, tmp_path: Path) -> Corpus:
    """Return a corpus of different formats, with a part of a file, two splits, and files that cannot be read."""
    folder = tmp_path / "calls"
    write_audio(folder / "a.wav", seconds=2, rate=8000)
    write_audio(folder / "b.flac", seconds=3, channels=2, subtype="PCM_24")
    (folder / "c.wav").write_bytes(b"not audio" * 10)
    (folder / "manifest.csv").write_text(
        "path,speaker,session,start,duration,split\na.wav,ann,monday,,,train\nb.flac,ann,friday,0.5,1.5,test\n"
        "b.flac,ben,friday,2,1,\nb.flac,ben,friday,2,9,\nc.wav,ben,friday,,,\nnone.wav,eva,friday,,,train\n"
    )
    return load_corpus(folder)


def test_rows_have_what_the_headers_say(calls: Corpus, tmp_path: Path) -> None:
    described = describe_corpus(calls, progress=False)
    assert [path.name for path in described.save(tmp_path / "out", "python x.py")] == ["corpus.csv", "corpus.json"]
    with (tmp_path / "out/corpus.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    figures = [tuple(row[name] for name in ("duration", "rate", "channels", "format")) for row in rows]
    assert figures == [
        ("2.0", "8000", "1", "WAV PCM_16"),
        ("1.5", "16000", "2", "FLAC PCM_24"),
        ("1.0", "16000", "2", "FLAC PCM_24"),
        ("", "16000", "2", "FLAC PCM_24"),
        ("", "", "", ""),
        ("", "", "", ""),
    ]
    assert [row["id"] for row in rows] == list(calls.ids)
    assert [row["split"] for row in rows] == ["train", "test", "", "", "", "train"]
    assert "the span ends at 11 s, but the file ends at 3 s" in rows[3]["problem"]
    assert "not audio" in rows[4]["problem"]
    assert rows[5]["problem"] == "no such file"
    assert [name for name, _ in described.failures] == list(calls.ids[3:])
    about = json.loads((tmp_path / "out/corpus.json").read_text())
    assert (about["corpus"], about["command"]) == ("calls", "python x.py")
    assert about["summary"] == described.summary


def test_summary_counts_speakers_sessions_and_formats(calls: Corpus) -> None:
    described = describe_corpus(calls, progress=False)
    summary = described.summary
    assert summary | {"hours": 4.5 / 3600} == summary
    expected = {
        "speakers": 3, "sessions": 2, "speaker_sessions": 4, "utterances": 6, "files": 4,
        "unreadable": 3, "duration": [1, 1.5, 2],
        "utterances_per_speaker": [1, 2, 3], "sessions_per_speaker": [1, 1, 2], "speakers_with_one_session": 2,
        "rates": {"16000": 3, "8000": 1}, "channels": {"2": 3, "1": 1}, "splits": {"train": 2, "test": 1, "none": 3},
        "formats": {"FLAC PCM_24": 3, "WAV PCM_16": 1},
    }  # fmt: skip
    assert {name: summary[name] for name in expected} == expected
    table = dict(described.table)
    assert table["sessions"] == "2 names, 4 pairs of speaker and session"
    assert table["sampling rate (Hz)"] == "16000 (3), 8000 (1)"
    assert table["duration of an utterance (s)"] == "1.00 to 2.00, median 1.50"
    assert table["split"] == "train (2), test (1), none (3)"


def test_a_corpus_of_which_nothing_can_be_read_is_described(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann/a.wav").write_bytes(b"not audio" * 10)
    described = describe_corpus(load_corpus(tmp_path), progress=False)
    assert dict(described.table)["duration of an utterance (s)"] == "-"
    assert "split" not in dict(described.table)
    assert described.save(tmp_path / "out")


def test_the_corpus_of_the_tests_is_described(corpus: Corpus) -> None:
    table = dict(describe_corpus(corpus, progress=False).table)
    assert table["utterances"] == "40 in 40 files"
    assert (table["speakers"], table["sessions"], table["utterances of a speaker"]) == ("4", "8", "10")
    assert table["speakers with one session"] == "0 of 4"
