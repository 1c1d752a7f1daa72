"""`--channel` of the scripts: calls whose two channels have a speaker each."""

import csv
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from features import MEAN_CHANNEL, FeatureSet

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]
VERIFY, EXTRACT = "speaker_verification.py", "extract_features.py"


@pytest.fixture(scope="module")
def calls(corpus_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three calls, in which 101 is on the left and 104 on the right, and a mono recording."""
    folder = tmp_path_factory.mktemp("calls")
    for number in range(3):
        sides = [
            soundfile.read(corpus_root / f"{speaker}/{speaker}0/{speaker}-{speaker}0-000{number}.flac")[0]
            for speaker in (101, 104)
        ]
        soundfile.write(folder / f"call{number}.wav", np.stack(sides, axis=1), 16_000)
    shutil.copy(corpus_root / "101/1011/101-1011-0001.flac", folder / "mono.flac")
    return folder


@pytest.fixture(scope="module")
def verifier(trained_features: Path, run_script: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verifier") / "verifier.pt"
    done = run_script(VERIFY, "train", "--features_path", trained_features, "--output", path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def warnings_of(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the warnings of channels that differ, each once."""

    def take() -> list[str]:
        found = [message for message in caplog.messages if "channels that differ" in message]
        caplog.clear()
        return found

    return take


def test_both_sides_of_a_call_are_enrolled_and_identified_apart(
    calls: Path,
    verifier: Path,
    call_script: Run,
    assert_refused: Check,
    tmp_path: Path,
    warnings_of: Callable[[], list[str]],
) -> None:
    store, files = tmp_path / "speakers.db", [calls / "call0.wav", calls / "call1.wav"]
    for name, channel in (("left", 0), ("right", 1)):
        done = call_script(
            VERIFY, "enroll", *files, "--store", store, "--name", name, "--channel", channel, "--verifier", verifier
        )
        assert (done.returncode, warnings_of()) == (0, []), done.stderr
        assert "2 recordings enrolled" in done.stdout
    listed = call_script(VERIFY, "list", "--store", store, "--name", "right")
    assert [line.split()[0] for line in listed.stdout.splitlines()[2:]] == [f"{file}#channel1" for file in files]
    for name, channel in (("left", 0), ("right", 1)):
        output = tmp_path / f"{name}.csv"
        done = call_script(
            VERIFY, "identify", calls, "--store", store, "--channel", channel, "--output", output, "--p_known", 0.9
        )
        assert (done.returncode, warnings_of()) == (3 * channel, []), done.stderr
        assert f"call2.wav#channel{channel} " in done.stdout
        with output.open() as file:
            rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
        assert rows["call2.wav"]["speaker"] == name
        assert {row["channel"] for row in rows.values()} == {str(channel)}
        # A channel that a file lacks does not cost the other files.
        assert ("there is no channel 1" in rows["mono.flac"]["error"]) == (channel == 1)
    done = call_script(VERIFY, "identify", calls, "--store", store, "--output", tmp_path / "mean.csv")
    assert (done.returncode, len(warned := warnings_of())) == (0, 1)
    assert warned[0].startswith("3 files, such as ")
    with (tmp_path / "mean.csv").open() as file:
        assert "channel" not in next(csv.reader(file))
    done = call_script(VERIFY, "verify", calls / "mono.flac", "--store", store, "--name", "left", "--channel", 3)
    assert_refused(done, f"{calls / 'mono.flac'}: there is no channel 3")


def test_who_speaks_when_in_one_channel(
    calls: Path, verifier: Path, call_script: Run, tmp_path: Path, warnings_of: Callable[[], list[str]]
) -> None:
    store, output = tmp_path / "speakers.db", tmp_path / "turns.rttm"
    enroll = [VERIFY, "enroll", calls / "call0.wav", "--store", store, "--name", "ann", "--verifier", verifier]
    assert call_script(*enroll, "--channel", 1).returncode == 0
    timeline = [VERIFY, "identify", calls / "call0.wav", "--store", store, "--timeline", "--output", output]
    windows = ["--window", 0.5, "--hop", 0.1, "--p_known", 0.99]
    done = call_script(*timeline, *windows, "--channel", 1)
    assert (done.returncode, warnings_of()) == (0, []), done.stderr
    assert output.read_text().startswith("SPEAKER call0 2 0.000 ")  # RTTM counts channels from 1
    done = call_script(*timeline, *windows)
    assert (done.returncode, len(warnings_of())) == (0, 1)


def test_two_files_are_compared_in_channels_of_their_own(
    calls: Path, verifier: Path, call_script: Run, assert_refused: Check
) -> None:
    command = [VERIFY, "verify", calls / "call0.wav", calls / "mono.flac", "--verifier", verifier, "--channel"]
    same, other = (call_script(*command, side, "mean") for side in (0, 1))
    scores = [float(done.stdout.split()[1].rstrip(",")) for done in (same, other)]
    assert scores[0] > scores[1]
    assert_refused(call_script(*command, 1), "mono.flac: there is no channel 1")
    assert_refused(call_script(*command, 0, 1, 0), "--channel has 3 values for 2 audio files")


def test_features_of_a_channel_are_a_file_of_their_own(
    calls: Path,
    call_script: Run,
    tmp_path: Path,
    warnings_of: Callable[[], list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    people, outputs = tmp_path / "people", tmp_path / "outputs"
    for name in ("ann", "ben"):
        shutil.copytree(calls, people / name)
    soundfile.write(people / "ben" / "call0.wav", np.random.default_rng(0).uniform(-0.1, 0.1, (16_000, 2)), 16_000)
    command = [EXTRACT, people, "--encoder", "spectral", "--output_dir", outputs]
    done = call_script(*command)
    assert (done.returncode, len(warned := warnings_of())) == (0, 1), done.stderr
    assert warned[0].startswith("6 files, such as ")
    done = call_script(*command, "--channel", 1)
    assert done.returncode == 3  # the mono recordings
    assert done.stdout.count("there is no channel 1") == 2
    mean, right = (FeatureSet.load(outputs / f"people_features_spectral{end}.pt") for end in ("", "_channel1"))
    assert mean.audio is not None
    assert right.audio is not None
    assert (set(mean.audio.channel.tolist()), set(right.audio.channel.tolist())) == ({MEAN_CHANNEL}, {1})
    assert right.ids[0] == "ann/call0.wav#channel1"
    done = call_script(*command)
    assert "8 utterances, 0 of them computed now" in caplog.text


def test_a_classifier_identifies_the_speakers_of_a_channel(
    calls: Path, classifier: Path, call_script: Run, tmp_path: Path, warnings_of: Callable[[], list[str]]
) -> None:
    for channel, speaker in enumerate(("101", "104")):
        output = tmp_path / "predictions.json"
        command = ["speaker_recognition_inference.py", calls / "call0.wav", "--classifier", classifier]
        done = call_script(*command, "--channel", channel, "--output", output)
        assert (done.returncode, warnings_of()) == (0, []), done.stderr
        assert f'"speaker": "{speaker}"' in output.read_text().partition("},")[0]
        assert f'"channel": {channel}' in output.read_text()


def test_a_channel_has_no_effect_on_features(trained_features: Path, call_script: Run, assert_refused: Check) -> None:
    done = call_script("speaker_recognition_librispeech.py", "--features_path", trained_features, "--channel", 0)
    assert_refused(done, "--channel has no effect on a finished features file")
    done = call_script(VERIFY, "enroll", "--features_path", trained_features, "--channel", 0)
    assert_refused(done, "--channel is a channel of audio; it has no effect on --features_path")
