"""`read_rttm` and `rttm_utterances`: the segments of an RTTM file, and the recordings that they are parts of."""

import logging
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora import CorpusError, RttmSegment, Utterance, read_rttm, rttm_utterances, segments_of_recording, spans_alone


def write_rttm(path: Path, segments: Sequence[tuple[str, float, float, str]], extra: str = "") -> Path:
    lines = (f"SPEAKER {name} 1 {start} {length} <NA> <NA> {who} <NA> <NA>\n" for name, start, length, who in segments)
    path.write_text("".join(lines) + extra)
    return path


def spans(utterances: Sequence[Utterance]) -> list[tuple[str, float, float | None]]:
    return [(each.speaker, each.start, each.duration) for each in utterances]


def test_segments_are_read_and_malformed_lines_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    extra = (
        "SPKR-INFO day 1 <NA> <NA> <NA> unknown ann <NA> <NA>\n\n;; a comment\nSPEAKER day 1 0.5 two <NA> <NA> ben\n"
        "SPEAKER day 1 0.5\nSPEAKER day 1 -1 2 <NA> <NA> ben <NA> <NA>\nSPEAKER day 1 1 0 <NA> <NA> ben\n"
        "SPEAKER day 1 1 2 <NA> <NA> <NA> <NA>\n"
    )
    path = write_rttm(tmp_path / "day.rttm", [("day", 0.5, 2.25, "ann")], extra)
    with caplog.at_level(logging.WARNING):
        assert read_rttm(path) == [RttmSegment("day", "ann", 0.5, 2.25)]
    assert "skipped 5 lines, not well formed: line 5 (" in caplog.text
    assert "and 2 more" in caplog.text


def test_a_line_of_no_known_type_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_rttm(tmp_path / "day.rttm", [("day", 0, 1, "ann")], "Speaker day 1 1 1 <NA> <NA> ben <NA> <NA>\n")
    assert len(read_rttm(path)) == 1
    assert "skipped 1 line, not well formed: line 2 (" in caplog.text


def test_names_in_either_unicode_form_are_one(tmp_path: Path) -> None:
    composed, decomposed = "Zoë", unicodedata.normalize("NFD", "Zoë")
    path = write_rttm(tmp_path / "day.rttm", [(composed, 0, 1, decomposed), (composed, 2, 1, composed)])
    recording = tmp_path / f"{decomposed}.wav"
    recording.touch()
    for name in (composed, decomposed):
        found = rttm_utterances(path, [recording], speaker=name)
        assert spans(found) == [("Zoë", 0, 1), ("Zoë", 2, 1)]
    path.write_bytes(path.read_text().encode("utf-16"))
    with pytest.raises(CorpusError, match=r"day\.rttm: this text is in UTF-16"):
        read_rttm(path)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = write_rttm(tmp_path / "day.rttm", [("day", 0.5, 2.25, "ann")])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_rttm(path) == [RttmSegment("day", "ann", 0.5, 2.25)]


def test_segments_become_utterances_of_the_recordings_with_their_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    segments = [("the_day", 0.5, 2.25, "ann"), ("the_day", 3, 1, "ben"), ("night", 1, 2, "ann"), ("other", 0, 9, "eva")]
    path = write_rttm(tmp_path / "all.rttm", segments)
    files = [tmp_path / "the day.wav", tmp_path / "night.flac", tmp_path / "noon.flac"]
    with caplog.at_level(logging.WARNING):
        found = rttm_utterances(path, files)
    assert spans(found) == [("ann", 0.5, 2.25), ("ben", 3, 1), ("ann", 1, 2)]
    assert [each.path for each in found] == [files[0], files[0], files[1]]
    assert [each.session for each in found] == ["the_day", "the_day", "night"]
    assert f"there are no segments of {files[2]}" in caplog.text
    assert spans(rttm_utterances(path, files, speaker="ben")) == [("ben", 3, 1)]
    assert spans(rttm_utterances(path, files, speaker="ben", name="Benjamin")) == [("Benjamin", 3, 1)]


def test_only_parts_in_which_one_speaker_speaks_alone_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    segments = [("day", 0, 10, "ann"), ("day", 2, 1, "ben"), ("day", 9.5, 2, "ben"), ("day", 4, 2, "ann")]
    path = write_rttm(tmp_path / "day.rttm", segments)
    with caplog.at_level(logging.WARNING):
        found = rttm_utterances(path, [tmp_path / "day.wav"], min_seconds=1.8)
    # ann's second segment is within the first; each is a part of its own.
    assert spans(found) == [("ann", 0, 2), ("ann", 3, 6.5), ("ann", 4, 2)]
    assert "left out 1 segment shorter than 1.8 s" in caplog.text
    assert "no segment is left of ben, who never speaks alone for so long" in caplog.text


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = write_rttm(tmp_path / "day.rttm", [("day", 0, 10, "ann"), ("day", 0, 10, "ben")])
    empty = write_rttm(tmp_path / "empty.rttm", [])
    day, night = tmp_path / "day.wav", tmp_path / "night.wav"
    cases: list[tuple[Path, list[Path], dict[str, Any], str]] = [
        (tmp_path / "gone.rttm", [day], {}, r"gone\.rttm: this file cannot be read"),
        (empty, [day], {}, r"empty\.rttm: there is no segment in this file"),
        (path, [night], {}, "describes the recordings day, but the given files are night.wav"),
        (path, [day, tmp_path / "b" / "day.wav"], {}, "have the same name without the suffix"),
        (path, [day], {"speaker": "anna"}, "perhaps you meant 'ann'"),
        (path, [day], {"name": "carl"}, r"several speakers \(ann, ben\)"),
        (path, [day], {}, "no segment of at least 0 s in which ann or ben speaks alone"),
    ]
    for rttm, files, options, words in cases:
        with pytest.raises(CorpusError, match=words):
            rttm_utterances(rttm, files, **options)


def test_segments_have_the_index_of_their_line_among_all_lines(tmp_path: Path) -> None:
    path = tmp_path / "day.rttm"
    path.write_text(
        ";; by hand\n\nSPEAKER day 1 0 1 <NA> <NA> ann\nSPKR-INFO day 1 <NA> <NA> <NA> unknown ann <NA> <NA>\n"
        "SPEAKER day 1 -1 1 <NA> <NA> ann\r\nSPEAKER day 1 2 1 <NA> <NA> ben\n"
    )
    assert [(segment.speaker, segment.line) for segment in read_rttm(path)] == [("ann", 2), ("ben", 5)]


def test_segments_of_one_recording_end_with_the_audio(tmp_path: Path) -> None:
    listed = [("the_day", 5.0, 3.25, "ben"), ("the_day", 1.0, 2.0, "ann"), ("other", 0.0, 90.0, "ann")]
    path = write_rttm(tmp_path / "days.rttm", [*listed, ("the_day", 8.1, 0.2, "ann")])
    found = segments_of_recording(path, Path("the day.flac"), 8.0)
    assert [(each.speaker, each.start, each.end) for each in found] == [("ann", 1.0, 3.0), ("ben", 5.0, 8.0)]
    with pytest.raises(CorpusError, match=r"line 4 ends at 8\.30 s, but the day\.flac is 7\.00 s long"):
        segments_of_recording(path, Path("the day.flac"), 7.0)
    with pytest.raises(
        CorpusError, match=r"describes the recordings the_day, other, but the given files are week\.wav"
    ):
        segments_of_recording(path, Path("week.wav"), 100.0)


def test_of_several_channels_one_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, call = tmp_path / "calls.rttm", Path("call.wav")
    lines = [
        f"SPEAKER call {1 + number % 2} {number} 1 <NA> <NA> {who} <NA> <NA>\n" for number, who in enumerate("abc")
    ]
    path.write_text("".join([*lines, "SPEAKER other 1 0 1 <NA> <NA> d\n", "SPEAKER third A 0 1 <NA> <NA> e\n"]))
    for channel, speakers in ((None, "abc"), (0, "ac"), (1, "b")):
        found = segments_of_recording(path, call, 4.0, channel=channel)
        assert "".join(each.speaker for each in found) == speakers
    with pytest.raises(
        CorpusError, match=r"of channel 1, 2 \(counted from 1\), and --channel 2 is channel 3\. Give one"
    ):
        segments_of_recording(path, call, 4.0, channel=2)
    assert not caplog.messages
    for name, channel, warnings in (("other", None, 0), ("other", 0, 0), ("third", 1, 0), ("other", 1, 1)):
        assert len(segments_of_recording(path, Path(f"{name}.wav"), 4.0, channel=channel)) == 1
        assert len(caplog.messages) == warnings
    assert "of channel 1 (counted from 1), and --channel 1 is channel 2; they are used" in caplog.text


SPANS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.integers(1, 8)), max_size=8)


@given(SPANS)
def test_times_of_one_speaker_alone_are_those_of_each_tick(listed: list[tuple[str, int, int]]) -> None:
    found = spans_alone((speaker, (start, start + length)) for speaker, start, length in listed)
    ticks = {tick: {who for who, start, length in listed if start <= tick < start + length} for tick in range(30)}
    for speaker, spans in found.items():
        assert spans == sorted(spans)
        assert all(one[1] < other[0] for one, other in pairwise(spans))
        covered = {tick for start, end in spans for tick in range(int(start), int(end))}
        assert covered == {tick for tick, who in ticks.items() if who == {speaker}}
