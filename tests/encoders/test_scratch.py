"""`scratch`: comparisons with references in numpy and of plain PyTorch modules, also on the published checkpoint."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
from numpy.typing import NDArray

from encoders import Encoder, EncoderError, encoder_from_spec, load_encoder, spec_digest
from encoders.weights import tensors_digest

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


def reference_transformer_embedding(path: Path, waveform: torch.Tensor, n_heads: int) -> Floats:
    """Compute the embedding with the modules that the published system is made of, one window at a time."""
    state = torch.load(path, map_location="cpu", weights_only=True)["encoder_state_dict"]
    width, feed_forward = len(state["linear_layer.weight"]), len(state["decoder.layers.0.linear1.weight"])
    n_layers = len([name for name in state if name.startswith("encoder") and name.endswith("linear1.weight")])
    network = torch.nn.ModuleDict(
        {
            "linear_layer": torch.nn.Linear(40, width),
            "encoder": torch.nn.TransformerEncoder(
                torch.nn.TransformerEncoderLayer(width, n_heads, feed_forward, batch_first=True), n_layers
            ),
            "decoder": torch.nn.TransformerDecoder(
                torch.nn.TransformerDecoderLayer(width, n_heads, feed_forward, batch_first=True), 1
            ),
        }
    )
    network.load_state_dict(state)
    network.double().eval()
    frames = torch.from_numpy(reference_mfcc(waveform.double().numpy()))
    starts = [start for start in range(0, len(frames), 50) if start + 100 <= len(frames)] or [0]
    with torch.no_grad():
        windows = [
            network["decoder"](
                torch.zeros(1, 1, width, dtype=torch.float64),
                network["encoder"](torch.sigmoid(network["linear_layer"](frames[None, start : start + 100]))),
            )[0, 0]
            for start in starts
        ]
    return np.asarray(torch.stack(windows).mean(0))


@pytest.mark.parametrize(("n_heads", "sizes"), [(8, {}), (2, {"width": 32, "layers": 1, "feed_forward": 40})])
@pytest.mark.parametrize("seconds", [0.6, 3.2, 7.0])
def test_embeddings_of_transformer_equal_reference(
    seconds: float, n_heads: int, sizes: dict[str, int], published_transformer: Callable[..., Path]
) -> None:
    path = published_transformer(**sizes)
    encoder = load_encoder("scratch", path, device="cpu", n_heads=n_heads)
    found = encoder.encode([noise(seconds)])[0]
    expected = reference_transformer_embedding(path, noise(seconds), n_heads)
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(np.linalg.norm(expected)))
    # The number of heads and the audio change the embedding by more than ten times the tolerance.
    for other in (
        reference_transformer_embedding(path, noise(seconds, 1), n_heads),
        reference_transformer_embedding(path, noise(seconds), 4),
    ):
        assert np.linalg.norm(expected - other) > 1e-4 * np.linalg.norm(expected)


def test_batches_of_transformer_do_not_change_embeddings(published_transformer: Callable[..., Path]) -> None:
    encoder = load_encoder("scratch", published_transformer(), device="cpu")
    waveforms = [noise(seconds, seed) for seed, seconds in enumerate([0.1, 6.3, 1.7, 3.2, 9.9])]
    alone = torch.cat([encoder.encode([waveform]) for waveform in waveforms])
    torch.testing.assert_close(encoder.encode(waveforms, batch_size=3), alone, rtol=1e-4, atol=1e-5)


def test_last_frame_is_an_option_of_a_bilstm(scratch_weights: Callable[..., Path]) -> None:
    path = scratch_weights(layers=1, bidirectional=False)
    state = torch.load(path, weights_only=True)["encoder_state_dict"]
    frames = reference_mfcc(noise(5.0).double().numpy())
    windows = [reference_lstm(state, frames[start : start + 100])[-1] for start in range(0, len(frames) - 99, 50)]
    expected = np.mean(windows, axis=0)
    found = load_encoder("scratch", path, device="cpu", pooling="last").encode([noise(5.0)])[0]
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(np.linalg.norm(expected)))


def test_spec_has_options_only_where_they_are_not_the_defaults(
    scratch_weights: Callable[..., Path], published_transformer: Callable[..., Path]
) -> None:
    path = scratch_weights()
    names = {name.removeprefix("lstm."): tensor for name, tensor in torch.load(path)["encoder_state_dict"].items()}
    spec = load_encoder("scratch", path, device="cpu").spec
    # That of earlier versions: features and classifiers that they saved stay valid.
    earlier = {
        "name": "scratch", "version": 1, "sample_rate": 16_000, "dim": 24, "layers": [], "options": {},
        "weights": tensors_digest(names), "precision": "fp32",
    }  # fmt: skip
    assert spec == {**earlier, "trained_on": "unknown"}
    assert spec_digest(spec) == spec_digest(earlier)
    assert load_encoder("scratch", path, device="cpu", pooling="mean", n_heads=8).spec == spec
    last = load_encoder("scratch", path, device="cpu", pooling="last")
    assert last.spec["options"] == {"pooling": "last"}
    assert encoder_from_spec(last.spec, path, "cpu").spec == last.spec
    transformer = load_encoder("scratch", published_transformer(), device="cpu", n_heads=4)
    assert transformer.spec["options"] == {"n_heads": 4}


def test_options_that_do_not_fit_are_refused(
    scratch_weights: Callable[..., Path], published_transformer: Callable[..., Path]
) -> None:
    with pytest.raises(EncoderError, match=r"its network, bilstm, has no option 'n_heads'; it has 'pooling'"):
        load_encoder("scratch", scratch_weights(), n_heads=4)
    with pytest.raises(EncoderError, match=r"query_transformer, has no option 'pooling'; it has 'n_heads'"):
        load_encoder("scratch", published_transformer(), pooling="last")
    for n_heads in (5, 0, -1):
        with pytest.raises(EncoderError, match=rf"n_heads is {n_heads}; expected a divisor .* width, 16"):
            load_encoder("scratch", published_transformer(), n_heads=n_heads)
    with pytest.raises(EncoderError, match=r"pooling='median'; expected mean or last"):
        load_encoder("scratch", scratch_weights(), pooling="median")


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
                "it has neither 'lstm.weight_ih_l0' nor 'linear_layer.weight'.*linear.weight",
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
            (
                {f"{part}linear_layer.weight": torch.ones(8, 40) for part in ("a.", "b.")},
                "holds several Transformers.*a.linear_layer, b.linear_layer",
            ),
            ({"linear_layer.weight": torch.ones(8, 39)}, r"linear_layer.weight is \(8, 39\); expected \(width, 40\)"),
            ({"linear_layer.weight": torch.ones(8, 40)}, "has no 'encoder.layers.0.linear1.weight'"),
            (
                {"linear_layer.weight": torch.ones(8, 40), "encoder.layers.0.linear1.weight": torch.ones(6, 8)},
                "the weights are not those of a Transformer with 1 layer ",
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
