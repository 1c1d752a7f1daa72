"""`write_manifest` and `cut_segments`: manifests that are read as they were meant, and cutting that can be resumed."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch

from audio import read_audio
from audio import write_audio as write_audio_file
from corpora import MeetingSegment, cut_segments, find_segments, load_corpus, write_manifest
from files import OutputError

WriteAudio = Callable[..., Path]
RTTM = "".join(
    f"SPEAKER day 1 {start} 2 <NA> <NA> {speaker} <NA> <NA>\n"
    for start, speaker in ((0, "ann"), (2.5, "ben"), (5.125, "ann"), (7.25, "Zoë"))
)
NAMES = ["day_ann_0000", "day_ben_0001", "day_ann_0002", "day_Zoë_0003"]


@pytest.fixture
def segments(write_audio: WriteAudio, tmp_path: Path) -> tuple[MeetingSegment, ...]:
    write_audio(tmp_path / "audio/day.flac", seconds=10)
    (tmp_path / "day.rttm").write_text(RTTM)
    return find_segments(tmp_path / "day.rttm", tmp_path / "audio").segments


def cut(folder: Path, segments: tuple[MeetingSegment, ...]) -> dict[str, int]:
    """Cut the segments, and return the identity of each file on the disk: a file that is replaced has another."""
    assert cut_segments(folder, segments, progress=False) == {}
    return {path.name: path.stat().st_ino for path in folder.glob("*.wav")}


def test_the_manifest_lists_parts_of_the_recording(segments: tuple[MeetingSegment, ...], tmp_path: Path) -> None:
    folder = tmp_path / "out/deep"
    path = write_manifest(folder, segments)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "speaker", "session", "start", "duration", "channel", "name"]
    assert rows[2] == {
        "path": "../../audio/day.flac", "speaker": "day_ann", "session": "day", "start": "5.125", "duration": "2.0",
        "channel": "", "name": "day_ann_0002",
    }  # fmt: skip
    corpus = load_corpus(folder)
    assert corpus.speakers == ("day_Zoë", "day_ann", "day_ben")
    assert [(each.start, each.duration, each.session) for each in corpus] == [
        (each.start, each.duration, "day") for each in segments
    ]
    assert {each.path.resolve() for each in corpus} == {tmp_path / "audio/day.flac"}


def test_paths_in_the_manifest_lead_to_the_files_through_links(
    segments: tuple[MeetingSegment, ...], tmp_path: Path
) -> None:
    (tmp_path / "disk/deep/er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk/deep/er")
    write_manifest(tmp_path / "link", segments)
    assert all(each.path.exists() for each in load_corpus(tmp_path / "link"))


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_files_have_the_samples_of_the_segments(
    audio_format: str, segments: tuple[MeetingSegment, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    assert cut_segments(folder, segments, audio_format, progress=False) == {}  # type: ignore[arg-type]
    write_manifest(folder, segments, audio_format)  # type: ignore[arg-type]
    corpus = load_corpus(folder)
    assert [each.id for each in corpus] == [f"{name}.{audio_format}" for name in NAMES]
    for utterance, segment in zip(corpus, segments, strict=True):
        expected = read_audio(segment.path, 16_000, segment.start, duration=segment.duration)
        assert torch.equal(read_audio(utterance.path, None), expected)


def test_files_are_cut_at_16_khz(write_audio: WriteAudio, tmp_path: Path) -> None:
    write_audio(tmp_path / "audio/day.wav", seconds=3, rate=44_100, channels=2)
    (tmp_path / "day.rttm").write_text("SPEAKER day 1 0.5 2 <NA> <NA> ann\n")
    cut(tmp_path / "out", find_segments(tmp_path / "day.rttm", tmp_path / "audio").segments)
    assert len(read_audio(tmp_path / "out/day_ann_0000.wav", None)) == 32_000


def test_one_channel_is_cut_and_listed(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "audio/day.wav", seconds=10, channels=3)
    (tmp_path / "day.rttm").write_text(RTTM)
    segments = find_segments(tmp_path / "day.rttm", tmp_path / "audio", channel=2).segments
    write_manifest(tmp_path / "parts", segments)
    assert {each.channel for each in load_corpus(tmp_path / "parts")} == {2}
    cut(tmp_path / "out", segments)
    samples, _ = soundfile.read(path, dtype="float32")
    cut_samples, _ = soundfile.read(tmp_path / "out/day_ann_0000.wav", dtype="float32")
    assert (cut_samples == samples[:32_000, 2]).all()
    write_manifest(tmp_path / "out", segments, "wav")
    assert {each.channel for each in load_corpus(tmp_path / "out")} == {None}


def test_complete_files_are_not_cut_again(segments: tuple[MeetingSegment, ...], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    before = cut(folder, segments)
    assert set(before) == {f"{name}.wav" for name in NAMES}
    (folder / "day_ben_0001.wav").rename(tmp_path / "gone.wav")  # it keeps its number
    after = cut(folder, segments)
    assert {name for name in before if before[name] != after[name]} == {"day_ben_0001.wav"}


def test_an_interrupted_run_goes_on(
    segments: tuple[MeetingSegment, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    written: list[Path] = []

    def interrupt(path: Path, waveform: torch.Tensor, sample_rate: int) -> Path:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        return write_audio_file(path, waveform, sample_rate)

    with monkeypatch.context() as patch:
        patch.setattr("corpora.write_segments.write_audio", interrupt)
        patch.setattr(os, "cpu_count", lambda: 1)
        with pytest.raises(KeyboardInterrupt):
            cut_segments(folder, segments, progress=False)
    first = {path.name: path.stat().st_ino for path in folder.glob("*.wav")}
    assert set(first) == {path.name for path in written}
    after = cut(folder, segments)
    assert set(after) == {f"{name}.wav" for name in NAMES}
    assert {name: after[name] for name in first} == first


def test_a_file_of_another_part_or_recording_is_cut_again(
    segments: tuple[MeetingSegment, ...], write_audio: WriteAudio, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    cut(folder, segments)
    (tmp_path / "day.rttm").write_text(RTTM.replace("2.5 2 ", "2.5 1.75 "))
    changed = find_segments(tmp_path / "day.rttm", tmp_path / "audio").segments
    cut(folder, changed)
    assert len(read_audio(folder / "day_ben_0001.wav", None)) == 28_000
    write_audio(tmp_path / "audio/day.flac", seconds=10, seed=5)
    os.utime(tmp_path / "audio/day.flac", ns=(1, 1))
    again = find_segments(tmp_path / "day.rttm", tmp_path / "audio").segments
    cut(folder, again)
    expected = read_audio(tmp_path / "audio/day.flac", 16_000, 0, duration=2)
    assert torch.equal(read_audio(folder / "day_ann_0000.wav", None), expected)


def test_segments_of_an_earlier_run_stay_and_are_known(segments: tuple[MeetingSegment, ...], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    before = cut(folder, segments)
    assert cut(folder, segments[:1]) == before
    assert cut(folder, segments) == before


def test_files_of_the_user_are_not_overwritten(segments: tuple[MeetingSegment, ...], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "day_ben_0001.wav").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"day_ben_0001\.wav: this file exists, and segments\.csv does not list it"):
        cut_segments(folder, segments, progress=False)
    assert [path.name for path in folder.iterdir()] == ["day_ben_0001.wav"]


def test_a_segment_without_a_signal_fails_alone(
    segments: tuple[MeetingSegment, ...], write_audio: WriteAudio, tmp_path: Path
) -> None:
    samples = read_audio(tmp_path / "audio/day.flac", None)
    samples[40_000:72_000] = 0
    write_audio_file(tmp_path / "audio/day.flac", samples, 16_000)
    failed = cut_segments(tmp_path / "out", segments, progress=False)
    assert list(failed) == ["day_ben_0001"]
    assert "this part has no signal" in failed["day_ben_0001"]
    assert len(list((tmp_path / "out").glob("*.wav"))) == 3
