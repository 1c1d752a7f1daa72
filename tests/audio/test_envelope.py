"""`measure_envelope`: the lowest and highest samples of equal parts of a recording."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio import AudioError, measure_envelope


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
