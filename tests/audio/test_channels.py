"""One channel of a recording is read as if it were a file of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audio import AudioError, full_scale_of, read_audio, read_recording, read_window, span_seconds

SECONDS = 1.5
FORMATS = [("a.wav", "PCM_16"), ("a.wav", "FLOAT"), ("a.flac", "PCM_16"), ("a.flac", "PCM_24")]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, list[Path]]]:
    """Return a function that writes a file of several channels, and each channel as a file; written once."""
    folder = tmp_path_factory.mktemp("arrays")

    def write(name: str, subtype: str, rate: int, n_channels: int) -> tuple[Path, list[Path]]:
        own = folder / f"{subtype} {rate} {n_channels}"
        paths = [own / name, *(own / f"{channel} {name}" for channel in range(n_channels))]
        if not own.joinpath(name).exists():
            own.mkdir(exist_ok=True)
            n_frames = round(SECONDS * rate)
            samples = np.random.default_rng(n_channels).uniform(-0.9, 0.9, (n_frames, n_channels)).astype(np.float32)
            soundfile.write(paths[0], samples, rate, subtype=subtype)
            for channel, path in enumerate(paths[1:]):
                soundfile.write(path, samples[:, channel], rate, subtype=subtype)
        return paths[0], paths[1:]

    return write


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_channel_is_read_as_a_file_of_its_own(
    data: st.DataObject, arrays: Callable[..., tuple[Path, list[Path]]]
) -> None:
    name, subtype = data.draw(st.sampled_from(FORMATS))
    rate = data.draw(st.sampled_from([8_000, 16_000, 44_100]))
    n_channels = data.draw(st.sampled_from([1, 2, 8]))
    channel = data.draw(st.integers(0, n_channels - 1))
    whole, apart = arrays(name, subtype, rate, n_channels)
    start = data.draw(st.floats(0, 1))
    duration = data.draw(st.one_of(st.none(), st.floats(0.01, 0.4)))
    sample_rate = data.draw(st.sampled_from([None, 8_000, 16_000, 22_050]))
    span: dict[str, Any] = {
        "start": start,
        "duration": duration,
        "max_bandwidth": data.draw(st.sampled_from([None, 3_000])),
    }
    found = read_audio(whole, sample_rate, channel=channel, **span)
    assert torch.equal(found, read_audio(apart[channel], sample_rate, **span))
    if duration is not None and sample_rate is not None and len(found) > 2:
        first = data.draw(st.integers(0, len(found) // 2))
        window: dict[str, Any] = {"count": data.draw(st.integers(2, len(found))), "start": start, "duration": duration}
        one = read_window(whole, sample_rate, first, channel=channel, **window)
        other = read_window(apart[channel], sample_rate, first, **window)
        assert torch.equal(one.waveform, other.waveform)
    seconds = span_seconds(whole, start, duration, channel=channel)
    assert seconds == span_seconds(apart[channel], start, duration)


@pytest.mark.parametrize(("name", "subtype"), FORMATS)
def test_the_mean_of_all_channels_is_the_default(
    name: str, subtype: str, arrays: Callable[..., tuple[Path, list[Path]]]
) -> None:
    whole, apart = arrays(name, subtype, 16_000, 8)
    mean = torch.stack([read_audio(path, None) for path in apart]).double().mean(dim=0).float()
    assert torch.equal(read_audio(whole, None), mean)
    assert torch.equal(read_audio(whole, None, channel=None), mean)


@pytest.mark.parametrize(
    ("n_channels", "channel", "found"), [(1, 1, "one channel, which is 0; give 0"), (8, 8, "8 channels, 0 to 7; give")]
)
def test_a_channel_that_the_file_lacks_is_refused(
    n_channels: int, channel: int, found: str, arrays: Callable[..., tuple[Path, list[Path]]]
) -> None:
    path, _ = arrays("a.flac", "PCM_16", 8_000, n_channels)
    message = f"there is no channel {channel}: channels are numbered from 0, and the file has {found}"
    window: dict[str, Any] = {"count": 100, "start": 0.0, "duration": 1.0}
    for read in (
        lambda: read_audio(path, None, channel=channel),
        lambda: read_recording(path, 8_000, channel=channel),
        lambda: span_seconds(path, channel=channel),
        lambda: read_window(path, 8_000, 0, channel=channel, **window),
    ):
        with pytest.raises(AudioError, match=message) as caught:
            read()
        assert (caught.value.path, caught.value.fault) == (path, "no_channel")
    with pytest.raises(ValueError, match="channel must be >= 0"):
        read_audio(path, None, channel=-1)


def test_channels_that_cancel_can_be_read_one_at_a_time(
    tmp_path: Path, tone: Callable[..., NDArray[np.float64]]
) -> None:
    path, samples = tmp_path / "a.wav", tone(440, 8_000)
    soundfile.write(path, np.stack([samples, -samples], axis=1), 8_000)
    with pytest.raises(AudioError, match=r"cancel each other in their mean.*give one channel"):
        read_audio(path, None)
    one, other = (read_audio(path, None, channel=channel) for channel in (0, 1))
    torch.testing.assert_close(one, -other, rtol=0, atol=2**-15)  # a step of 16-bit samples


def test_a_silent_channel_is_refused_by_its_number(tmp_path: Path, tone: Callable[..., NDArray[np.float64]]) -> None:
    path, samples = tmp_path / "a.wav", tone(440, 8_000)
    soundfile.write(path, np.stack([samples, np.zeros_like(samples)], axis=1), 8_000)
    assert len(read_audio(path, None, channel=0)) == len(samples)
    with pytest.raises(AudioError, match="all samples of channel 1 are zero; this channel has no signal"):
        read_audio(path, None, channel=1)
    with pytest.raises(AudioError, match=r"all samples of channel 1 from 0\.1 s to 0\.2 s are zero"):
        read_audio(path, None, 0.1, duration=0.1, channel=1)


def test_the_scale_of_a_file_is_that_of_all_its_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    samples = np.random.default_rng(0).uniform(-1, 1, (8_000, 2)) * [20_000, 2]  # the second alone would be at most 1
    soundfile.write(path, samples, 8_000, subtype="FLOAT")
    assert full_scale_of(path) == 2**15
    expected = torch.from_numpy(samples[:, 1].astype(np.float32) / np.float32(2**15))
    for start, count in ((0.0, 8_000), (0.5, 2_000)):
        recording = read_recording(path, None, start, duration=count / 8_000, channel=1)
        assert recording.full_scale == 2**15
        assert torch.equal(recording.waveform, expected[round(8_000 * start) :][:count])
