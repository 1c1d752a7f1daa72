"""`find_segments`: the numbering of lines, faults of RTTM files, overlap, and lists of segments."""

import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora import CorpusError, FoundSegments, describe_missing, find_segments, load_corpus, read_segment_list
from corpora.overlaps import Overlaps

AISHELL4 = Path(__file__).parents[3] / "shared/data/aishell4/rttm"
WriteAudio = Callable[..., Path]
Find = Callable[..., FoundSegments]


def line(start: float, duration: float, speaker: str, meeting: str = "day") -> str:
    return f"SPEAKER {meeting} 1 {start} {duration} <NA> <NA> {speaker} <NA> <NA>\n"


def write_silence(path: Path, seconds: float) -> None:
    """Write the header of a WAV file of silence, and a hole in place of the samples, which takes no space."""
    rate, size = 8000, round(8000 * seconds)
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, rate, rate, 1, 8,
                         b"data", size)  # fmt: skip
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + size)


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """Return a function that finds the segments of an RTTM file with the recording ``day``, which lasts 60 s."""
    for name in ("rttm", "audio"):
        (tmp_path / name).mkdir()
    write_silence(tmp_path / "audio/day.wav", 60)

    def run(text: str | bytes, **options: Any) -> FoundSegments:
        (tmp_path / "rttm/day.rttm").write_bytes(text if isinstance(text, bytes) else text.encode())
        return find_segments(tmp_path / "rttm", tmp_path / "audio", **options)

    return run


def names(found: FoundSegments) -> list[str]:
    return [each.name for each in found.segments]


def reasons(found: FoundSegments) -> dict[str, int]:
    return dict(Counter(each.reason for each in found.dropped))


def test_the_index_counts_all_lines_of_the_file(find: Find, tmp_path: Path) -> None:
    text = (
        ";; comment\nSPKR-INFO day 1 <NA> <NA> <NA> unknown ann <NA> <NA>\n\n"
        + line(0, 1.5, "ann")
        + line(1, 1.49, "ben")
        + line(2, 3, "ben")
    )
    found = find(text)
    assert names(found) == ["day_ann_0003", "day_ben_0005"]
    first = found.segments[0]
    assert (first.speaker, first.session, first.start, first.duration) == ("day_ann", "day", 0, 1.5)
    assert first.path == tmp_path / "audio/day.wav"
    assert reasons(found) == {"too short": 1}
    assert not found.has_faults
    assert dict(found.summary) == {
        "meetings": "1", "speakers": "2", "segments": "2", "hours": "0.00", "dropped: too short": "1",
    }  # fmt: skip


def test_faults_are_listed_with_their_lines_and_stop_nothing(find: Find, tmp_path: Path) -> None:
    text = (
        line(0, 2, "ann")
        + line(-1, 2, "ann")
        + line(1, -2, "ann")
        + line(0, 2, "ann")  # as line 1
        + line(58.5, 2, "ann")
        + line(58, 2.05, "ann")  # 0.05 s past the end, which rounding makes
        + line(3, 2, "ann", "night")
        + line(5, 0, "ann")
        + "SPEAKER day 1 5\n"
    )
    (tmp_path / "rttm/broken.rttm").write_bytes(text.encode("utf-16"))
    found = find(text)
    assert names(found) == ["day_ann_0000", "day_ann_0005"]
    assert reasons(found) == {
        "negative times": 2, "repeated line": 1, "past the end of the audio": 1, "no audio": 1, "no duration": 1,
        "not well formed": 1,
    }  # fmt: skip
    problems = "\n".join(found.problems)
    for expected in (
        "broken.rttm: this text is in UTF-16",
        "negative times: 2 lines: day.rttm, line 2 (",
        "day.rttm, line 3 (",
        "repeated line: 1 line: day.rttm, line 4 (ann 0 2)",
        "past the end of the audio: 1 line: day.rttm, line 5 (day_ann_0004)",
        "no audio: 1 line: day.rttm: night",
    ):
        assert expected in problems
    assert found.has_faults
    assert found.n_meetings == 2


def test_a_repeated_line_is_no_fault(find: Find) -> None:
    found = find(line(0, 2, "ann") + line(0, 2, "ann"))
    assert names(found) == ["day_ann_0000"]
    assert not found.has_faults


def test_a_span_of_two_speakers_is_of_neither(find: Find) -> None:
    found = find(line(0, 2, "ann") + line(0, 2, "ben") + line(3, 2, "ben"))
    assert names(found) == ["day_ben_0002"]
    assert found.problems == [
        "same span as another speaker: 2 lines: day.rttm, line 1 (day_ann_0000), day.rttm, line 2 (day_ben_0001)"
    ]
    assert not found.has_faults


def test_windows_line_ends_and_other_letters_are_read_and_noted(find: Find) -> None:
    found = find(("\ufeff" + line(0, 2, "Zoë") + line(3, 2, "陈")).replace("\n", "\r\n"))
    assert names(found) == ["day_Zoë_0000", "day_陈_0001"]
    assert [note.partition(": ")[0] for note in found.notes] == ["day.rttm", "day.rttm"]
    assert "(CRLF)" in found.notes[0]
    assert "Zoë, 陈" in found.notes[1]
    assert not found.has_faults


def test_names_in_other_encodings_are_left_out(find: Find) -> None:
    found = find(line(0, 2, "ann").encode() + line(3, 2, "陈").encode("gb18030"))
    assert names(found) == ["day_ann_0000"]
    assert reasons(found) == {"name not in UTF-8": 1}
    assert "day.rttm, line 2 ('\\udcb3\\udcc2')" in "\n".join(found.problems)


def test_names_are_those_of_files(find: Find) -> None:
    assert names(find(line(0, 2, "a/b"))) == ["day_a_b_0000"]


def test_a_channel_that_the_recording_lacks_is_a_fault(write_audio: WriteAudio, find: Find, tmp_path: Path) -> None:
    write_audio(tmp_path / "audio/night.wav", seconds=3, channels=2)
    text = line(0, 2, "ann", "night") + line(0, 2, "ann")
    assert [each.channel for each in find(text, channel=1).segments] == [1]
    assert "day.wav: there is no channel 1: channels are numbered from 0, and the file has one" in "\n".join(
        find(text, channel=1).problems
    )
    assert names(find(text)) == ["night_ann_0000", "day_ann_0001"]


def test_a_recording_that_cannot_be_read_or_chosen_is_a_fault(
    write_audio: WriteAudio, find: Find, tmp_path: Path
) -> None:
    (tmp_path / "audio/bad.wav").write_bytes(b"x" * 100)
    for name in ("two.wav", "below/two.flac"):
        write_audio(tmp_path / "audio" / name, seconds=3)
    found = find(line(0, 2, "ann") + line(0, 2, "ann", "bad") + line(0, 2, "ann", "two"))
    assert names(found) == ["day_ann_0000"]
    (problem,) = found.problems
    assert problem.startswith("audio not usable: 2 lines: ")
    assert "bad.wav: this is not audio" in problem
    assert "two may be " in problem


def test_two_rttm_files_of_one_meeting_do_not_make_one_name_twice(find: Find, tmp_path: Path) -> None:
    (tmp_path / "rttm/a.rttm").write_text(line(10, 2, "ann"))
    found = find(line(0, 2, "ann"))
    assert [(each.name, each.start) for each in found.segments] == [("day_ann_0000", 10)]
    assert reasons(found) == {"name used twice": 1}


def test_short_pauses_of_a_speaker_are_joined_before_durations_are_checked(find: Find) -> None:
    text = (
        line(0, 1, "ann")
        + line(0.5, 4, "ben")
        + line(1.2, 1, "ann")  # a pause of 0.2 s
        + line(2.3, 0.4, "ann")  # 0.1 s
        + line(3.5, 2, "ann")  # 0.8 s
        + line(4, 0.5, "ann")  # within the one before
    )
    found = find(text, merge_gap=0.2)
    spans = [(each.name, each.start, each.duration) for each in found.segments]
    assert spans == [("day_ann_0000", 0, 2.7), ("day_ben_0001", 0.5, 4), ("day_ann_0004", 3.5, 2)]
    assert reasons(found) == {"joined to the segment before": 3}
    assert names(find(text)) == ["day_ben_0001", "day_ann_0004"]


def test_segments_of_two_recordings_are_not_joined(find: Find, tmp_path: Path) -> None:
    write_silence(tmp_path / "audio/day_a.wav", 60)
    found = find(line(1, 2, "a_b") + line(3.1, 2, "b", meeting="day_a"), merge_gap=0.3)
    assert [(each.session, each.duration) for each in found.segments] == [("day", 2), ("day_a", 2)]
    assert found.notes == ("the label day_a_b is that of a_b in day, and of b in day_a: rename one",)


def test_segments_that_touch_do_not_overlap(find: Find) -> None:
    assert len(find(line(1.1, 2.2, "ann") + line(3.3, 2.0, "ben"), max_overlap=0).segments) == 2
    assert len(find(line(0.7, 3.0, "ann") + line(3.1, 3.0, "ben"), max_overlap=0.2).segments) == 2


def test_speech_that_cannot_be_used_overlaps_too(find: Find) -> None:
    text = (line(1, 4, "ann") + line(10, 4, "ann")).encode() + line(1.5, 4, "XX").encode().replace(b"XX", b"j\xf6rg")
    assert names(find(text, max_overlap=0)) == ["day_ann_0001"]


def test_nearly_equal_lines_of_one_speaker_are_one_segment(find: Find) -> None:
    found = find(line(1.0000001, 2, "ann") + line(1.0, 2, "ann"))
    assert names(found) == ["day_ann_0000"]
    assert reasons(found) == {"repeated line": 1}


def test_segments_without_a_sample_are_dropped(find: Find) -> None:
    text = line(1, 1e-7, "ann") + line(60, 0.05, "ann") + line(2, 0.5, "ann")
    found = find(text, min_duration=0)
    assert names(found) == ["day_ann_0002"]
    assert reasons(found) == {"past the end of the audio": 1, "too short": 1}


def test_long_and_overlapped_segments_are_dropped(find: Find) -> None:
    text = line(0, 10, "ann") + line(8, 4, "ben") + line(9, 1, "eva") + line(20, 10.5, "eva")
    assert names(find(text, max_overlap=0.5, max_duration=10)) == ["day_ann_0000", "day_ben_0001"]
    assert reasons(find(text, max_overlap=0.2))["too much overlap"] == 1  # ben: 2 s of 4; ann: 2 s of 10 in all
    assert names(find(text, max_overlap=0)) == ["day_eva_0003"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.integers(1, 15)), min_size=1, max_size=12))
def test_the_share_of_overlap_is_that_of_counting_seconds(segments: list[tuple[str, int, int]]) -> None:
    meeting = Overlaps((speaker, (start, start + length)) for speaker, start, length in segments)
    for speaker, start, length in segments:
        overlapped = np.zeros(100, bool)
        for other, begin, count in segments:
            if other != speaker:
                overlapped[begin : begin + count] = True
        expected = overlapped[start : start + length].mean()
        assert meeting.share(speaker, start, start + length) == pytest.approx(expected, abs=1e-6)


def test_a_list_keeps_its_segments_and_labels_and_names_what_is_missing(find: Find, tmp_path: Path) -> None:
    listed = tmp_path / "data_fixed.csv"
    listed.write_text(
        "path,label\n/data/cut/day_ann_0000.wav,speaker 1\nC:\\cut\\day_ben_0002.wav,speaker 2\n"
        "day_ben_0001.wav,speaker 2\nday_eva_0009.wav,speaker 3\n"
    )
    found = find(line(0, 2, "ann") + line(2, 1, "ben") + line(3, 2, "ben") + line(5, 2, "ann"),
                 labels=read_segment_list(listed))  # fmt: skip
    assert [(each.name, each.speaker) for each in found.segments] == [
        ("day_ann_0000", "speaker 1"), ("day_ben_0002", "speaker 2"),
    ]  # fmt: skip
    assert found.missing == {"day_ben_0001": "too short", "day_eva_0009": "no such line in the RTTM files"}
    assert describe_missing(found.missing) == [
        "1 listed segment missing (too short): day_ben_0001",
        "1 listed segment missing (no such line in the RTTM files): day_eva_0009",
    ]
    assert reasons(found)["not in the list"] == 1
    assert found.has_faults


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\na.wav,1\n", "its first line is 'file,label'; expected the columns path,label"),
        ("path,label\na.wav,1\nb/a.wav,2\n", "line 3: the segment a has the labels '1' and '2'"),
        ("path,label\na.wav\n", "line 2: the path or the label is empty"),
        ("", "expected the columns path,label"),
        ("label,path\nx,a.wav\ny\n", "line 3: the path or the label is empty"),
        ("path,label\na.wav,nan\n", "line 2: 'nan' cannot be the name of a speaker"),
        ("path,label\na.wav,Unknown\n", "line 2: 'Unknown' cannot be the name of a speaker"),
    ],
)
def test_lists_that_do_not_fit_are_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(CorpusError, match=r"list\.csv") as refused:
        read_segment_list(path)
    assert words in str(refused.value)


def test_folders_without_rttm_or_audio_are_refused(find: Find, tmp_path: Path) -> None:
    find(line(0, 2, "ann"))
    for rttm, audio, words in (
        ("none", "audio", "none: no such folder"),
        ("rttm", "none", "none: no such folder"),
        ("audio", "audio", r"no file in this folder whose name ends in \.rttm"),
        ("rttm", "rttm", "there is no audio in this folder"),
    ):
        with pytest.raises(CorpusError, match=words):
            find_segments(tmp_path / rttm, tmp_path / audio)


def test_segments_of_all_durations_are_the_utterances_of_the_layout(find: Find, tmp_path: Path) -> None:
    text = line(0, 0.5, "ann") + line(-1, 2, "ann") + line(0, 0.5, "ann") + line(3, 2, "ben") + line(3, 2, "eva")
    found = find(text + line(8, 2.1234567, "eva"), min_duration=0)
    corpus = load_corpus(tmp_path, "aishell4")
    assert len(corpus) == 2
    assert [(each.path.name, each.speaker, each.session, each.start, each.duration) for each in corpus] == [
        (each.path.name, each.speaker, each.session, each.start, each.duration) for each in found.segments
    ]


@pytest.mark.skipif(not AISHELL4.exists(), reason="needs the RTTM files of AISHELL-4 in ../shared/data")
def test_counts_of_the_test_set_of_aishell4(tmp_path: Path) -> None:
    for path in AISHELL4.glob("*.rttm"):
        write_silence(tmp_path / f"{path.stem}.wav", 3600)
    every = find_segments(AISHELL4, tmp_path, min_duration=0)
    # In three short spans, two speakers speak at once.
    assert (len(every.segments), len(every.dropped)) == (10_541 - 6, 6)
    found = find_segments(AISHELL4, tmp_path)
    assert len(found.segments) == 7_746
    assert found.n_meetings == 20
    assert len({each.session for each in found.segments}) == 20
    assert not found.has_faults
    # Counted by comparing each pair of segments of a meeting.
    alone = find_segments(AISHELL4, tmp_path, max_overlap=0)
    assert len(alone.segments) == 7_746 - 2_225
