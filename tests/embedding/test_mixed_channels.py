"""One warning for files whose channels differ but are averaged, in threads, in processes and with windows."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from corpora import Utterance
from embedding import embed_utterances, warn_of_mixed_channels
from encoders import Encoder, load_encoder

RATE = 16_000


@pytest.fixture
def calls(tmp_path: Path, write_audio: Callable[..., Path]) -> list[Utterance]:
    """Return three calls with a voice in each channel, two stereo recordings of one voice, and a mono recording."""
    paths = [write_audio(tmp_path / f"call{number}.wav", 3.0, channels=2, seed=number) for number in range(3)]
    for number in range(2):
        path = write_audio(tmp_path / f"stereo{number}.flac", 3.0, seed=10 + number)
        left, _ = soundfile.read(path)
        # Another level, a delay of a fraction of a millisecond, and the noise of each microphone.
        noise = np.random.default_rng(number).normal(0, 0.01, (len(left), 2))
        soundfile.write(path, np.stack([left, 0.5 * np.roll(left, 3)], axis=1) + noise, RATE)
        paths.append(path)
    paths.append(write_audio(tmp_path / "mono.wav", 3.0, seed=20))
    return [Utterance(path, "ann", "", root=tmp_path) for path in paths]


def warnings_of(utterances: Sequence[Utterance], encoder: Encoder, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    assert all(row.error is None for row in embed_utterances(utterances, encoder))
    return [message for message in caplog.messages if "channels that differ" in message]


@pytest.mark.parametrize("in_processes", [False, True])
def test_calls_are_counted_in_one_warning(
    in_processes: bool,
    calls: list[Utterance],
    spectral: Encoder,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    if in_processes:
        request.getfixturevalue("many_workers")
    [message] = warnings_of(calls, spectral, caplog)
    assert message.startswith("3 files, such as ")
    assert "call" in message.partition(", have")[0].rpartition("/")[2]
    assert "Read one channel with --channel 0 or --channel 1" in message
    assert warnings_of(calls[3:], spectral, caplog) == []


def test_one_channel_of_a_call_gives_no_warning(
    calls: list[Utterance], spectral: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    sides = [Utterance(each.path, "ann", "", channel=side) for each in calls[:3] for side in (0, 1)]
    assert warnings_of(sides, spectral, caplog) == []


def test_segments_and_windows_of_a_file_are_measured_together(
    calls: list[Utterance], clap_weights: Path, spectral: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    segments = [
        Utterance(each.path, "ann", "", start=start, duration=0.6) for each in calls for start in (0.1, 1.2, 2.2)
    ]
    [message] = warnings_of(segments, spectral, caplog)
    assert message.startswith("3 files, such as ")
    windowed = load_encoder("audiosep", weights=clap_weights, device="cpu", window=1.0)
    [message] = warnings_of([calls[0], calls[3], calls[5]], windowed, caplog)
    assert message.startswith(f"1 file, such as {calls[0].path}, has channels that differ")


def test_recordings_are_compared_before_they_are_used(
    calls: list[Utterance], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = Utterance(tmp_path / "missing.wav", "ann", "")
    warn_of_mixed_channels([missing, *calls])
    [message] = caplog.messages
    assert message.startswith("3 files of 5 that were compared, such as ")
    caplog.clear()
    warn_of_mixed_channels(calls[3:])
    warn_of_mixed_channels([Utterance(calls[0].path, "ann", "", channel=1)])
    warn_of_mixed_channels([])
    assert caplog.messages == []
