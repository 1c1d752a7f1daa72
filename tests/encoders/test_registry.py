"""`load_encoder`, `lazy_encoder`, `encoder_from_spec`, specs and devices."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from encoders import (
    ENCODERS,
    EncoderError,
    default_spec,
    encoder_from_spec,
    encoder_options,
    lazy_encoder,
    load_encoder,
    resolve_device,
    spec_differences,
    spec_digest,
)


@pytest.fixture
def weights(
    campplus_weights: Path,
    ecapa_weights: Path,
    resemblyzer_weights: Path,
    clap_weights: Path,
    speech_model: Callable[..., Path],
    scratch_weights: Callable[..., Path],
    trained_weights: Callable[..., Path],
    onnx_file: Callable[..., Path],
) -> dict[str, Path]:
    """Return random weights of the encoders that have weights."""
    return {
        "campplus": campplus_weights,
        "ecapa": ecapa_weights,
        "resemblyzer": resemblyzer_weights,
        "audiosep": clap_weights,
        "wav2vec2": speech_model(),
        "scratch": scratch_weights(),
        "trained": trained_weights(),
        "onnx": onnx_file(),
    }


@pytest.mark.parametrize("name", ENCODERS)
def test_every_spec_has_the_required_keys_and_plain_values(name: str, weights: dict[str, Path]) -> None:
    spec = lazy_encoder(name, weights.get(name)).spec
    optional = {
        "clip_seconds", "min_seconds", "whole_seconds", "piece_seconds", "normalises", "source",
        "trained_speakers", "network", "front_end", "frames",
    }  # fmt: skip
    assert set(spec) - optional == {
        "name", "version", "sample_rate", "dim", "layers", "weights", "trained_on", "precision", "options",
    }  # fmt: skip
    assert spec["name"] == name
    assert json.loads(json.dumps(spec)) == spec


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_is_frozen_and_in_eval_mode(name: str, weights: dict[str, Path]) -> None:
    encoder = load_encoder(name, weights.get(name), device="cpu")
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert encoder.spec == lazy_encoder(name, weights.get(name)).spec
    layers = [len(encoder.layers)] if len(encoder.layers) > 1 else []
    assert encoder.encode([torch.randn(5000)]).shape == (1, *layers, encoder.dim)


def test_unknown_name_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(EncoderError, match=r"'spectrl'.*spectral"):
        load_encoder("spectrl")


def test_unknown_option_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(EncoderError, match=r"'n_mfc'.*n_mfcc.*n_mels, n_mfcc, n_delta"):
        load_encoder("spectral", n_mfc=20)


@pytest.mark.parametrize("value", ["many", 40.5, True, None])
def test_option_of_wrong_type_is_refused(value: object) -> None:
    with pytest.raises(EncoderError) as caught:
        load_encoder("spectral", n_mfcc=value)
    assert str(caught.value) == f"The encoder 'spectral' has n_mfcc={value!r}; expected a whole number."


def test_class_variables_of_options_are_not_options(clap_weights: Path) -> None:
    with pytest.raises(EncoderError, match=r"no option 'max_window'.*Choose one of: window, hop\.$"):
        load_encoder("audiosep", clap_weights, max_window=100.0)
    assert encoder_options("audiosep") == ("window", "hop")


def test_contradicting_options_are_refused() -> None:
    with pytest.raises(EncoderError, match="n_mfcc <= n_mels"):
        load_encoder("spectral", n_mels=20, n_mfcc=40)


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(EncoderError, match="fp32"):
        load_encoder("spectral", precision="fp8")


def test_weights_for_encoder_without_weights_are_refused() -> None:
    with pytest.raises(EncoderError, match="no weights"):
        load_encoder("spectral", weights="some.pt")


def test_alias_gives_the_same_encoder(clap_weights: Path) -> None:
    assert lazy_encoder("clap", clap_weights).spec == lazy_encoder("audiosep", clap_weights).spec


def test_default_spec_equals_spec_without_options() -> None:
    assert default_spec("spectral") == lazy_encoder("spectral").spec


def test_encoder_from_spec_has_the_same_spec() -> None:
    spec = lazy_encoder("spectral", n_mfcc=30).spec
    assert encoder_from_spec(spec, device="cpu").spec == spec


def test_encoder_from_spec_refuses_unknown_encoder() -> None:
    spec = {**lazy_encoder("spectral").spec, "name": "made up"}
    with pytest.raises(EncoderError, match="the encoder 'made up', which is not one of this project's encoders"):
        encoder_from_spec(spec)


def test_lazy_encoder_is_built_once_at_first_use() -> None:
    lazy = lazy_encoder("spectral", device="cpu")
    assert "encoder" not in vars(lazy)
    waveform = torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    first = lazy.encode([waveform])
    built = lazy.encoder
    assert torch.equal(lazy.encode([waveform]), first)
    assert lazy.encoder is built
    assert lazy.spec == built.spec


def test_spec_differences_are_listed_and_ignore_precision() -> None:
    spec = lazy_encoder("spectral").spec
    other = lazy_encoder("spectral", n_mfcc=30).spec
    assert spec_differences(spec, {**spec, "precision": "bf16"}) == []
    assert spec_digest(spec) == spec_digest({**spec, "precision": "bf16"})
    assert spec_digest(spec) != spec_digest(other)
    assert any("n_mfcc is 40 there, 30 here" in difference for difference in spec_differences(spec, other))


def test_devices_are_resolved_or_refused() -> None:
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(EncoderError, match="no device 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(EncoderError, match=r"this machine has \d+ cuda device"):
        resolve_device(f"cuda:{torch.cuda.device_count()}")


def test_limit_of_the_bandwidth_is_a_part_of_the_spec() -> None:
    limited = load_encoder("spectral", device="cpu", max_bandwidth=4_000)
    default = lazy_encoder("spectral", device="cpu").spec
    assert limited.spec == {**default, "max_bandwidth": 4_000}
    assert spec_differences(default, limited.spec) == ["max_bandwidth is None there, 4000 here"]
    assert encoder_from_spec(limited.spec, device="cpu").spec == limited.spec
    assert lazy_encoder("spectral", device="cpu", max_bandwidth=8_000).spec == default  # half the encoder's rate


@pytest.mark.parametrize("limit", [0, 999, -4_000, 4_000.5, "4000"])
def test_impossible_limit_of_the_bandwidth_is_refused(limit: object) -> None:
    with pytest.raises(EncoderError, match=r"max_bandwidth is .*; expected whole Hz, 1000 or more\."):
        encoder_from_spec({**lazy_encoder("spectral").spec, "max_bandwidth": limit})
