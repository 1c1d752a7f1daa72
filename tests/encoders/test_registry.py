"""`load_encoder`, its lazy twin, specs and devices."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from encoders import (
    ENCODERS,
    EncoderError,
    default_spec,
    describe_encoder,
    lazy_encoder,
    load_encoder,
    resolve_device,
    spec_differences,
    spec_digest,
)


@pytest.fixture
def weights(
    clap_weights: Path, speech_model: Callable[..., Path], scratch_weights: Callable[..., Path]
) -> dict[str, Path]:
    """Return small random weights for the encoders that have any."""
    return {"audiosep": clap_weights, "wav2vec2": speech_model(), "scratch": scratch_weights()}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_registered_encoder_describes_itself_in_plain_values(name: str, weights: dict[str, Path]) -> None:
    spec = describe_encoder(name, weights.get(name))
    assert set(spec) - {"clip_seconds", "normalises", "source"} == {
        "name", "version", "sample_rate", "dim", "layers", "weights", "precision", "options",
    }  # fmt: skip
    assert spec["name"] == name
    assert json.loads(json.dumps(spec)) == spec


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_frozen_and_in_eval_mode(name: str, weights: dict[str, Path]) -> None:
    encoder = load_encoder(name, weights.get(name), device="cpu")
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert encoder.spec == describe_encoder(name, weights.get(name))
    layers = [len(encoder.layers)] if len(encoder.layers) > 1 else []
    assert encoder.encode([torch.randn(5000)]).shape == (1, *layers, encoder.dim)


def test_an_unknown_name_is_answered_with_the_valid_ones() -> None:
    with pytest.raises(EncoderError, match=r"'spectrl'.*spectral"):
        load_encoder("spectrl")


def test_an_unknown_option_is_answered_with_the_valid_ones() -> None:
    with pytest.raises(EncoderError, match=r"'n_mfc'.*n_mfcc.*n_mels, n_mfcc, n_delta"):
        load_encoder("spectral", n_mfc=20)


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(EncoderError, match="n_mfcc <= n_mels"):
        load_encoder("spectral", n_mels=20, n_mfcc=40)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(EncoderError, match="fp32"):
        load_encoder("spectral", precision="fp8")


def test_weights_for_an_encoder_without_any_are_refused() -> None:
    with pytest.raises(EncoderError, match="no weights"):
        load_encoder("spectral", weights="some.pt")


def test_an_alias_is_the_same_encoder(clap_weights: Path) -> None:
    assert describe_encoder("clap", clap_weights) == describe_encoder("audiosep", clap_weights)


def test_the_default_spec_is_that_of_no_choice() -> None:
    assert default_spec("spectral") == describe_encoder("spectral")


def test_a_lazy_encoder_is_built_at_first_use_and_once() -> None:
    lazy = lazy_encoder("spectral", device="cpu")
    assert "encoder" not in vars(lazy)
    waveform = torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    first = lazy.encode([waveform])
    built = lazy.encoder
    assert torch.equal(lazy.encode([waveform]), first)
    assert lazy.encoder is built
    assert lazy.spec == built.spec


def test_differences_of_specs_are_named_and_precision_is_none() -> None:
    spec = describe_encoder("spectral")
    other = describe_encoder("spectral", n_mfcc=30)
    assert spec_differences(spec, {**spec, "precision": "bf16"}) == []
    assert spec_digest(spec) == spec_digest({**spec, "precision": "bf16"})
    assert spec_digest(spec) != spec_digest(other)
    assert any("n_mfcc is 40 there, 30 here" in difference for difference in spec_differences(spec, other))


def test_devices() -> None:
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(EncoderError, match="no device 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(EncoderError, match="cuda devices"):
        resolve_device(f"cuda:{torch.cuda.device_count()}")
