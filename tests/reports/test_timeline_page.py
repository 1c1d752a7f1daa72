"""`write_timeline_page`: the picture of the turns of a recording, and its tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from files import describe_file
from reports import write_timeline_page
from verification import Turn, write_turns

ReadPage = Callable[[Path], Any]
ABOUT = {
    "command": "python speaker_verification.py identify --timeline <&>",
    "versions": {"voxprobe": "0.1"},
    "created": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Return a recording of 100 s, which is drawn in several panels."""
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, 100 * 1000)
    soundfile.write(tmp_path / "the meeting & <b>.wav", samples, 1000)
    return tmp_path / "the meeting & <b>.wav"


def turn(start: float, end: float, speaker: str, label: str = "") -> Turn:
    return Turn(start=start, end=end, speaker=speaker, probability=0.75, label=label)


def test_page_has_the_turns_and_the_time_of_each_speaker(recording: Path, read_page: ReadPage, tmp_path: Path) -> None:
    turns = [turn(0, 10, "ben"), turn(10, 65, "anna"), turn(65, 70, "unknown"), turn(70.25, 90.25, "anna")]
    rttm, table = write_turns(tmp_path / "day.rttm", turns, recording)
    path = write_timeline_page(tmp_path / "day.html", recording, turns, about=ABOUT)
    page = read_page(path)
    assert f"{recording.name}: 2 enrolled speakers in 1:40" in page.text
    assert [shown for shown, _ in page.column("speaker", "speaker")] == ["anna", "ben", "unknown"]
    assert page.column("turns", "speaker") == [("2", "2"), ("1", "1"), ("1", "1")]
    assert page.column("seconds", "speaker")[0] == ("75.0", "75.0")
    assert "Turns of unknown speakers may be of several people." in page.text
    assert all(name in page.text for name in (rttm.name, table.name))
    assert "identify --timeline <&>" in page.text
    # The panels are of 25 s; a turn is drawn in each that it reaches.
    drawn = [title for titles in page.titles.values() for title in titles]
    assert drawn.count("anna, 0:10.0 to 1:05.0") == 3
    assert len(drawn) == 7
    assert "a report" in str(describe_file(path))
    assert "a list of turns" in str(describe_file(table))
    assert write_timeline_page(tmp_path / "day.html", recording, turns, about=ABOUT).read_bytes() == path.read_bytes()


def test_names_are_escaped_and_labels_are_listed(
    recording: Path, hostile: tuple[str, ...], read_page: ReadPage, tmp_path: Path
) -> None:
    turns = [turn(5 * number, 5 * number + 4, name, name) for number, name in enumerate(hostile)]
    page = read_page(write_timeline_page(tmp_path / "day.html", recording, turns, about=ABOUT))
    assert f"{len(hostile)} enrolled speakers" in page.text


def test_recording_without_speech_has_a_page(recording: Path, read_page: ReadPage, tmp_path: Path) -> None:
    page = read_page(write_timeline_page(tmp_path / "day.html", recording, [], about=ABOUT))
    assert "no speech in 1:40" in page.text
    assert "svg" in page.tags()
    assert "table" not in page.tags()


def test_page_of_an_hour_stays_small(read_page: ReadPage, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(3600 * 1000), 1000, subtype="PCM_U8")
    turns = [turn(2 * number, 2 * number + 1.5, f"speaker {number % 7}") for number in range(1800)]
    path = write_timeline_page(tmp_path / "long.html", tmp_path / "long.wav", turns, about=ABOUT)
    assert "The first 1000 turns are listed." in read_page(path).text
    assert path.stat().st_size < 2_000_000
