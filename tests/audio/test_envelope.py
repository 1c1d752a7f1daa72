"""`measure_envelope`: the lowest and highest samples of equal parts of a recording."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from audio import AudioError, measure_envelope, read_audio


@pytest.mark.parametrize(("seconds", "n_points"), [(3.0, 10), (150.0, 400), (61.7, 3), (0.01, 700)])
def test_each_part_has_its_lowest_and_highest_sample(seconds: float, n_points: int, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(8000 * seconds)).astype(np.float32)
    samples *= np.linspace(0.1, 1, len(samples), dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    envelope = measure_envelope(tmp_path / "a.wav", n_points)
    assert envelope.shape == (n_points, 2)
    # Parts end at samples, which are rounded differently for each block.
    assert envelope.min() == samples.min()
    assert envelope.max() == samples.max()
    if n_points < len(samples):
        parts = np.array_split(samples, n_points)
        assert envelope[:, 1] == pytest.approx([part.max() for part in parts], abs=0.1)
        assert envelope[:, 0] == pytest.approx([part.min() for part in parts], abs=0.1)


def test_silence_is_flat_and_one_channel_can_be_measured(tmp_path: Path) -> None:
    left, right = np.zeros(130 * 1000), np.tile([0.5, -0.25], 65 * 1000)
    left[:1000] = np.tile([0.2, -0.2], 500)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 1000)
    assert measure_envelope(tmp_path / "a.wav", 130, channel=0)[1:].max() == 0
    assert measure_envelope(tmp_path / "a.wav", 13, channel=1) == pytest.approx(
        np.tile([-0.25, 0.5], (13, 1)), abs=1e-3
    )
    with pytest.raises(AudioError, match="no such file"):
        measure_envelope(tmp_path / "none.wav", 10)


@pytest.mark.parametrize("suffix", [".aac", ".wma", ".m4a", ".mp3", ".flac"])
def test_a_file_is_decoded_once(
    suffix: str, write_compressed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    av = pytest.importorskip("av")
    samples = 0.4 * np.random.default_rng(0).uniform(-1, 1, (2, 150 * 16_000)) * np.linspace(0.1, 1, 150 * 16_000)
    path = tmp_path / f"a{suffix}"
    if suffix in (".mp3", ".flac"):
        soundfile.write(path, samples.T, 16_000)
    else:
        write_compressed(path, samples=samples, channels=2)
    opened, open_container = [], av.open

    def count(*arguments: Any, **options: Any) -> Any:
        opened.append(arguments)
        return open_container(*arguments, **options)

    monkeypatch.setattr(av, "open", count)
    envelope = measure_envelope(path, 300)
    assert len(opened) <= 4  # for the layout, and for the samples
    whole = read_audio(path, None).numpy()
    parts = np.split(whole, np.linspace(0, len(whole), 301).astype(int)[1:-1])
    expected = np.array([(part.min(), part.max()) for part in parts])
    assert envelope == pytest.approx(expected, abs=1e-6)


def test_scaled_and_faulty_samples_are_drawn(tmp_path: Path) -> None:
    samples: NDArray[np.float32] = np.tile(np.array([16_384, -8_192], np.float32), 2_000)
    samples[100:104] = np.nan, np.inf, -np.inf, 0
    soundfile.write(tmp_path / "a.wav", samples, 1000, subtype="FLOAT")
    assert measure_envelope(tmp_path / "a.wav", 4).tolist() == [[-0.25, 0.5]] * 4
