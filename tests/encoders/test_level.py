"""What 20 dB louder and quieter recordings do to each encoder of the registry, with random or published weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor
from torch.nn.functional import cosine_similarity

from audio import read_audio
from encoders import ENCODERS, load_encoder

# Encoders whose vectors do not depend on the level, because they normalise each recording.
INVARIANT = {"campplus", "ecapa", "spectral", "wav2vec2", "trained", "onnx"}
# Cosine of the vector of a recording with those of the louder and of the quieter one, for the other encoders.
MOVED = {
    "resemblyzer": (0.502, 0.805),
    "audiosep": (0.946, 0.913),
    "scratch": (0.189, 0.601),
    "wav2vec2 without normalisation": (1.0, 0.999),
}


@pytest.mark.parametrize("name", [*ENCODERS, "wav2vec2 without normalisation"])
def test_level(
    name: str,
    campplus_weights: Path,
    ecapa_weights: Path,
    resemblyzer_weights: Path,
    clap_weights: Path,
    speech_model: Callable[..., Path],
    scratch_weights: Callable[..., Path],
    trained_weights: Callable[..., Path],
    onnx_file: Callable[..., Path],
    write_audio: Callable[..., Path],
    tmp_path: Path,
) -> None:
    makers: dict[str, Callable[[], Path]] = {
        "campplus": lambda: campplus_weights,
        "ecapa": lambda: ecapa_weights,
        "resemblyzer": lambda: resemblyzer_weights,
        "audiosep": lambda: clap_weights,
        "scratch": scratch_weights,
        "wav2vec2": speech_model,
        "wav2vec2 without normalisation": lambda: speech_model(do_normalize=False),
        "trained": trained_weights,  # on log-mel minus the mean of each band
        "onnx": onnx_file,
    }
    weights = makers[name]() if name in makers else None
    encoder = load_encoder(name.partition(" ")[0], weights, device="cpu")
    wave = read_audio(write_audio(tmp_path / "a.wav", seconds=2.0, subtype="FLOAT"), encoder.sample_rate)
    plain, *others = encoder.encode([wave, 10 * wave, wave / 10]).flatten(1)
    if name in INVARIANT:
        assert max(distance(plain, other) for other in others) < 1e-4
    else:
        moved = [float(cosine_similarity(plain, other, dim=0)) for other in others]
        assert moved == pytest.approx(MOVED[name], abs=0.02)
        assert min(distance(plain, other) for other in others) > 1e-4


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / one.norm())
