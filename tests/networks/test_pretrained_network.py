"""Networks that are fine-tuned: the vectors of the frozen encoder, padding, and parts that are frozen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from encoders import EncoderError, Pretrained, load_encoder
from networks import NetworkError, PretrainedNetwork, create_front_end, default_settings

SaveModel = Callable[..., Path]
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
MODELS: dict[str, dict[str, Any]] = {
    "wav2vec2": {"family": "Wav2Vec2"},
    "wav2vec2 large": {"family": "Wav2Vec2", **LARGE},
    "hubert batch norm": {"family": "Hubert", "conv_pos_batch_norm": True},
    "wavlm": {"family": "WavLM"},
    "wavlm large": {"family": "WavLM", **LARGE},
    "data2vec": {"family": "Data2VecAudio", "conv_pos_kernel_size": 9},
    "unispeech-sat": {"family": "UniSpeechSat"},
}
LENGTHS = [16_000, 1_000, 9_000, 23_456]


ABSENT = "the pretrained weights of the network 'campplus' .* are not there"


def noises() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.02 * (n + 1) * torch.randn(k, generator=generator) for n, k in enumerate(LENGTHS)]


def embed(network: PretrainedNetwork, waveforms: list[Tensor], pretrained: Pretrained) -> Tensor:
    """Embed waveforms in one padded batch."""
    front_end = create_front_end(default_settings(pretrained.network)["front_end"], **pretrained.front_end_options)
    lengths = torch.tensor([len(each) for each in waveforms])
    frames, n_frames = front_end(torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True), lengths)
    return network.forward(frames, n_frames)


def distance(found: Tensor, expected: Tensor) -> float:
    """Return the largest relative distance of a vector from its expected value."""
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


@pytest.mark.parametrize("pooling", ["mean", "mean+std"])
@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
def test_padded_batches_have_the_vectors_of_the_frozen_encoder(
    settings: dict[str, Any], pooling: str, speech_model: SaveModel
) -> None:
    folder = speech_model(**settings)
    pretrained = Pretrained.find("wav2vec2", folder)
    network = pretrained.create(pooling=pooling, **pretrained.network_options).eval()
    encoder = load_encoder("wav2vec2", folder, device="cpu", layers="last", pooling=pooling)
    expected = encoder.encode(noises())
    together = embed(network, noises(), pretrained).detach()
    alone = torch.cat([embed(network, [each], pretrained) for each in noises()]).detach()
    assert together.shape == (4, network.dim) == expected.shape
    assert distance(together, expected) < 1e-4
    assert distance(together, alone) < 1e-4


def test_padded_batches_of_campplus_have_the_vectors_of_the_frozen_encoder(campplus_weights: Path) -> None:
    pretrained = Pretrained.find("campplus", campplus_weights)
    network = pretrained.create().train()  # batch norms keep their statistics
    expected = load_encoder("campplus", campplus_weights, device="cpu").encode(noises())
    assert distance(embed(network, noises(), pretrained).detach(), expected) < 1e-4


@pytest.mark.parametrize(
    ("settings", "n_layers"), [(MODELS["wav2vec2"], 2), (MODELS["wav2vec2 large"], 2), (MODELS["wavlm"], 1)], ids=str
)
def test_frozen_parts_have_no_gradients_and_no_dropout(
    settings: dict[str, Any], n_layers: int, speech_model: SaveModel
) -> None:
    folder = speech_model(**settings, layerdrop=0.5, hidden_dropout=0.5, feat_proj_dropout=0.5)
    pretrained = Pretrained.find("wav2vec2", folder)
    network: Any = pretrained.create()
    network.freeze(feature_extractor=True, n_layers=n_layers)
    outputs: list[Tensor] = []
    network.encoder.layers[n_layers - 1].register_forward_hook(
        lambda *call: outputs.append(call[2][0] if isinstance(call[2], tuple) else call[2])
    )
    network.train()
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.autograd.backward(embed(network, noises(), pretrained).square().sum())
    frozen = network.frozen_names()
    assert torch.equal(outputs[0], outputs[1])
    assert not outputs[0].requires_grad
    names = {name for name, each in network.named_parameters() if each.grad is None}
    assert names == {name for name in frozen if name in dict(network.named_parameters())}
    assert any(name.startswith("convolutions.0") for name in frozen)
    assert not any(name.startswith(f"encoder.layers.{n_layers}.") for name in frozen)


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
def test_gradients_reach_every_parameter(settings: dict[str, Any], speech_model: SaveModel) -> None:
    # With several processes, a parameter without a gradient would stop the training.
    pretrained = Pretrained.find("wav2vec2", speech_model(**settings, layerdrop=0.5))
    network = pretrained.create(pooling="mean+std").train()
    torch.manual_seed(0)
    torch.autograd.backward(embed(network, noises(), pretrained).square().sum())
    assert [name for name, each in network.named_parameters() if each.grad is None] == []


def test_gradients_reach_every_parameter_of_campplus(campplus_weights: Path) -> None:
    pretrained = Pretrained.find("campplus", campplus_weights)
    network = pretrained.create().train()
    torch.autograd.backward(embed(network, noises(), pretrained).square().sum())
    found = {name: each.grad for name, each in network.named_parameters()}
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in found.values())


def test_trained_layers_are_dropped_in_training_alone(speech_model: SaveModel) -> None:
    off = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}
    pretrained = Pretrained.find("wav2vec2", speech_model(layerdrop=0.5, **off))
    network = pretrained.create()
    vectors = {tuple(embed(network.train(), noises()[:1], pretrained).flatten().tolist()) for _ in range(20)}
    assert len(vectors) > 1
    frozen = {tuple(embed(network.eval(), noises()[:1], pretrained).flatten().tolist()) for _ in range(3)}
    assert len(frozen) == 1


def test_gradient_checkpointing_does_not_change_the_gradients(speech_model: SaveModel) -> None:
    pretrained = Pretrained.find("wav2vec2", speech_model())
    gradients = []
    for is_checkpointed in (False, True):
        network = pretrained.create().train()
        network.freeze(n_layers=1)
        if is_checkpointed:
            network.checkpoint_gradients()
        torch.manual_seed(0)
        torch.autograd.backward(embed(network, noises(), pretrained).square().sum())
        gradients.append({name: each.grad for name, each in network.named_parameters() if each.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_gradients_are_finite_where_the_deviation_is_zero(speech_model: SaveModel) -> None:
    pretrained = Pretrained.find("wav2vec2", speech_model())
    network = pretrained.create(pooling="mean+std").train()
    torch.autograd.backward(embed(network, [noises()[0][:400]], pretrained).sum())  # one frame
    assert all(torch.isfinite(each.grad).all() for each in network.parameters() if each.grad is not None)


def test_other_weights_than_those_of_the_reference_are_refused(speech_model: SaveModel, campplus_weights: Path) -> None:
    folder = speech_model()
    with pytest.raises(EncoderError, match=r"its weights have the digest .*; expected 00000000, those that"):
        Pretrained(network="wav2vec2", source=str(folder), digest="0" * 64).create()
    missing = Pretrained(network="campplus", source="/nowhere/model.pt", digest="0" * 64)
    with pytest.raises(EncoderError, match=rf"/nowhere/model\.pt: {ABSENT}.*put model\.pt"):
        missing.create()
    with pytest.raises(EncoderError, match=r"this is a folder\. Give a checkpoint of .* as --init_weights, or --init_"):
        Pretrained.find("campplus", folder)
    with pytest.raises(NetworkError, match="pooling is 'max'; choose mean or mean"):
        Pretrained.find("wav2vec2", folder).create(pooling="max")


@pytest.mark.parametrize("name", ["wav2vec2", "campplus"])
def test_layers_that_do_not_exist_cannot_be_frozen(name: str, speech_model: SaveModel, campplus_weights: Path) -> None:
    pretrained = Pretrained.find(name, speech_model() if name == "wav2vec2" else campplus_weights)
    with pytest.raises(ValueError, match="transformer layers"):
        pretrained.create().freeze(n_layers=4)
