"""`scratch`: a comparison with a reference implementation in numpy, also on the published checkpoint."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
from numpy.typing import NDArray

from encoders import Encoder, EncoderError, load_encoder

PUBLISHED = Path(__file__).parents[3] / "shared/data/published/saved_model.bilstm.mean.all.specaug.gpu100000.pt"
Floats = NDArray[np.float64]


def slaney_hz(mels: Floats) -> Floats:
    """Convert mels to Hz on Slaney's scale: linear up to 1 kHz (15 mels), then 27 mels for a factor of 6.4."""
    return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * math.log(6.4) / 27))


def reference_mfcc(waveform: Floats) -> Floats:
    """Compute MFCC as librosa documents them, in numpy and float64."""
    padded = np.pad(waveform, 1024)
    n_frames = 1 + len(waveform) // 512
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    frames = np.stack([padded[512 * number : 512 * number + 2048] for number in range(n_frames)])
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    highest = 15 + 27 * math.log(8000 / 1000) / math.log(6.4)
    edges = slaney_hz(np.linspace(0, highest, 130))
    bins = np.arange(1025) * 16_000 / 2048
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    bank = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    decibels = 10 * np.log10(np.maximum(power @ bank.T, 1e-10))
    decibels = np.maximum(decibels, decibels.max() - 80)
    result: Floats = scipy.fft.dct(decibels, norm="ortho", axis=1)[:, :40]
    return result


def reference_lstm(state: dict[str, Any], rows: Floats) -> Floats:
    """Compute the outputs of an LSTM over rows (frames, dim), gate by gate."""

    def sigmoid(values: Floats) -> Floats:
        return np.asarray(1 / (1 + np.exp(-values)))

    layer = 0
    while f"lstm.weight_ih_l{layer}" in state:
        outputs = []
        for suffix in ("", "_reverse"):
            if f"lstm.weight_ih_l{layer}{suffix}" not in state:
                continue
            w, u, b, c = (
                state[f"lstm.{kind}_l{layer}{suffix}"].double().numpy()
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            hidden, cell, found = np.zeros(u.shape[1]), np.zeros(u.shape[1]), []
            for row in rows[::-1] if suffix else rows:
                i, f, g, o = np.split(w @ row + b + u @ hidden + c, 4)
                cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
                hidden = sigmoid(o) * np.tanh(cell)
                found.append(hidden)
            outputs.append(np.stack(found[::-1] if suffix else found))
        rows, layer = np.concatenate(outputs, axis=1), layer + 1
    return rows


def reference_embedding(path: Path, waveform: torch.Tensor) -> Floats:
    state = torch.load(path, map_location="cpu", weights_only=True)["encoder_state_dict"]
    frames = reference_mfcc(waveform.double().numpy())
    starts = [start for start in range(0, len(frames), 50) if start + 100 <= len(frames)] or [0]
    windows = [reference_lstm(state, frames[start : start + 100]).mean(0) for start in starts]
    return np.asarray(np.mean(windows, axis=0))


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(round(16_000 * seconds), generator=generator)
    return torch.nn.functional.conv1d(white[None, None], torch.ones(1, 1, 9) / 9, padding=4)[0, 0] * 0.1


@pytest.fixture(scope="module")
def encoder(scratch_weights: Callable[..., Path]) -> Encoder:
    return load_encoder("scratch", scratch_weights(), device="cpu")


@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, True)])
@pytest.mark.parametrize("seconds", [0.6, 3.2, 4.9, 7.0])
def test_embeddings_equal_reference(
    seconds: float, layers: int, bidirectional: bool, scratch_weights: Callable[..., Path]
) -> None:
    path = scratch_weights(layers=layers, bidirectional=bidirectional)
    found = load_encoder("scratch", path, device="cpu").encode([noise(seconds)])[0]
    expected = reference_embedding(path, noise(seconds))
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(np.linalg.norm(expected)))
    assert found.shape == (12 * (1 + bidirectional),)


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published BiLSTM is not in ../shared/data")
def test_embeddings_of_published_checkpoint_equal_reference() -> None:
    encoder = load_encoder("scratch", PUBLISHED, device="cpu")
    assert encoder.dim == 128
    expected = reference_embedding(PUBLISHED, noise(5.0))
    np.testing.assert_allclose(encoder.encode([noise(5.0)])[0], expected, atol=1e-5 * float(np.linalg.norm(expected)))


def test_batching_does_not_change_embeddings(encoder: Encoder) -> None:
    waveforms = [noise(seconds, seed) for seed, seconds in enumerate([0.1, 6.3, 1.7, 3.2, 9.9])]
    alone = torch.cat([encoder.encode([waveform]) for waveform in waveforms])
    torch.testing.assert_close(encoder.encode(waveforms, batch_size=3), alone, rtol=1e-4, atol=1e-5)
    assert torch.equal(encoder.encode(waveforms), encoder.encode(waveforms))


def test_spec_depends_on_weights_and_not_on_their_path(encoder: Encoder, scratch_weights: Callable[..., Path]) -> None:
    assert load_encoder("scratch", scratch_weights(), device="cpu").spec == encoder.spec
    assert load_encoder("scratch", scratch_weights(seed=1), device="cpu").spec != encoder.spec


def test_other_files_are_refused(tmp_path: Path, write_audio: Callable[..., Path]) -> None:
    with pytest.raises(EncoderError, match="needs a checkpoint: give --encoder_weights FILE"):
        load_encoder("scratch")
    with pytest.raises(EncoderError, match=r"none\.pt: no such file"):
        load_encoder("scratch", tmp_path / "none.pt")
    with pytest.raises(EncoderError, match=r"x\.wav: this is not a checkpoint of a BiLSTM"):
        load_encoder("scratch", write_audio(tmp_path / "x.wav"))
    for number, (content, sentence) in enumerate(
        [
            (
                {"encoder_state_dict": {"linear.weight": torch.ones(2, 2)}},
                "it has no 'lstm.weight_ih_l0'.*linear.weight",
            ),
            (
                {"lstm.weight_ih_l0": torch.ones(8, 39)},
                r"the shape of weight_ih_l0 is \(8, 39\); expected \(4 \* hidden, 40\)",
            ),
            ({"lstm.weight_ih_l0": torch.ones(8, 40)}, "the weights are not those of an LSTM with 1 layer "),
            (["a list"], "not a checkpoint"),
            ({"lstm.weight_ih_l0": torch.ones(0, 40)}, r"the shape of weight_ih_l0 is \(0, 40\)"),
            ({"lstm.weight_ih_l0": torch.full((8, 40), math.nan)}, "contain NaN or infinity"),
            (
                {f"{part}lstm.weight_ih_l0": torch.ones(8, 40) for part in ("", "decoder_")},
                "holds several LSTMs.*decoder_lstm",
            ),
        ]
    ):
        torch.save(content, tmp_path / f"{number}.pt")
        with pytest.raises(EncoderError, match=sentence):
            load_encoder("scratch", tmp_path / f"{number}.pt")


class TouchWhenLoaded:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_code_in_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({"encoder_state_dict": {}, "losses": TouchWhenLoaded(tmp_path / "touched")}, tmp_path / "code.pt")
    with pytest.raises(EncoderError, match="not a checkpoint"):
        load_encoder("scratch", tmp_path / "code.pt")
    assert not (tmp_path / "touched").exists()
