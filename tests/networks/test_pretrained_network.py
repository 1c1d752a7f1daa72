"""Networks that are fine-tuned: the vectors of the frozen encoder, padding, and parts that are frozen."""

import shutil
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
    with pytest.raises(EncoderError, match=r"\(digest 00000000\) are not found .*: its weights have the digest .*put"):
        Pretrained(network="wav2vec2", source=str(folder), digest="0" * 64).create()
    for source, sentence in (
        ("/nowhere/model.pt", r"nothing at /nowhere/model\.pt, .*put model\.pt back"),
        (folder, "this is a folder"),
        (campplus_weights, "its weights have the digest"),
    ):
        with pytest.raises(EncoderError, match=rf"^{source}: the pretrained weights .*{sentence}"):
            Pretrained(network="campplus", source=str(source), digest="0" * 64).create()
    with pytest.raises(EncoderError, match="this is a file"):
        Pretrained(network="wav2vec2", source=str(campplus_weights), digest="0" * 64).create()
    with pytest.raises(EncoderError, match=r"this is a folder\. Give a checkpoint of .* as --init_weights, or --init_"):
        Pretrained.find("campplus", folder)
    with pytest.raises(NetworkError, match="pooling is 'max'; choose mean or mean"):
        Pretrained.find("wav2vec2", folder).create(pooling="max")


@pytest.mark.parametrize("damage", ["absent", "shape", "scalar", "extra"])
def test_damaged_weights_of_campplus_are_refused_before_training(
    damage: str, campplus_state: Callable[..., dict[str, Tensor]], tmp_path: Path
) -> None:
    state = dict(campplus_state())
    name = "xvector.dense.linear.weight" if damage == "scalar" else "head.conv1.weight"
    if damage == "absent":
        del state[name]
    else:
        state["more" if damage == "extra" else name] = torch.zeros(() if damage == "scalar" else (3, 3))
    torch.save(state, path := tmp_path / "bad.pt")
    with pytest.raises(EncoderError, match=rf"^{path}: this is not a checkpoint of 3D-Speaker's or WeSpeaker's CAM"):
        Pretrained.find("campplus", path)


def test_incomplete_names_and_folders_of_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"this folder has no config\.json; expected the folder of a model"):
        Pretrained.find("wav2vec2", tmp_path)
    for network in ("wav2vec2", "campplus"):
        with pytest.raises(EncoderError, match="--init_weights has no name"):
            Pretrained.find(network, "")


def test_weights_of_a_run_on_windows_are_found_beside_the_trained_file(speech_model: SaveModel, tmp_path: Path) -> None:
    digest = Pretrained.find("wav2vec2", speech_model()).digest
    pretrained = Pretrained(network="wav2vec2", source=r"C:\models\tiny", digest=digest)
    with pytest.raises(EncoderError, match=r"put tiny back, beside the trained file"):
        pretrained.create(tmp_path)
    shutil.copytree(speech_model(), tmp_path / "tiny")
    assert pretrained.create(tmp_path).dim == 32


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("tiny", "beside/tiny"),
        ("tiny", "pretrained_models/tiny"),
        ("owner/tiny", "beside/tiny"),
        ("owner/tiny", "beside/owner/tiny"),
        ("owner/tiny", "pretrained_models/owner/tiny"),
    ],
)
def test_weights_are_found_where_their_digest_fits(
    source: str, place: str, speech_model: SaveModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    is_id = source == "owner/tiny"
    if not is_id:
        source = str(tmp_path / "tiny")
        Path(source).touch()  # a file is there now
    pretrained = Pretrained(
        network="wav2vec2", source=source, digest=Pretrained.find("wav2vec2", speech_model()).digest
    )
    shutil.copytree(speech_model(num_hidden_layers=2), "pretrained_models/tiny")  # other weights
    with pytest.raises(EncoderError) as refused:
        pretrained.create(Path("beside"))
    sentence = str(refused.value)
    assert sentence.startswith(
        f"{source}: the pretrained weights of the network 'wav2vec2' (digest {pretrained.digest[:8]})"
    )
    assert "pretrained_models/tiny: its weights have the digest" in sentence
    assert "nothing at beside/" in sentence
    assert ("owner/tiny: it is not in the Hugging Face cache" if is_id else f"{source}: this is a file") in sentence
    assert "--encoder_weights" not in sentence
    Path("beside/tiny").mkdir(parents=True)  # an empty folder
    shutil.copytree(speech_model(), place, dirs_exist_ok=True)
    assert pretrained.create(Path("beside")).dim == 32


def test_a_download_that_fails_names_the_flag_of_training() -> None:
    with pytest.raises(
        EncoderError, match=r"\(HF_HUB_OFFLINE is set\)\. Put its .* that holds them with --init_weights\.$"
    ):
        Pretrained.find("wav2vec2", "owner/tiny")


@pytest.mark.parametrize("name", ["wav2vec2", "campplus"])
def test_layers_that_do_not_exist_cannot_be_frozen(name: str, speech_model: SaveModel, campplus_weights: Path) -> None:
    pretrained = Pretrained.find(name, speech_model() if name == "wav2vec2" else campplus_weights)
    with pytest.raises(ValueError, match="transformer layers"):
        pretrained.create().freeze(n_layers=4)
