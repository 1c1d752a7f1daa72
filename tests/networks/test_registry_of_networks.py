"""Every network: padded batches, gradients, sizes, and options that are refused."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import NETWORKS, NetworkError, SpeakerNetwork, create_front_end, create_network, embed_frames

N_FEATURES = 40
# Attention over a single zero query: its weights multiply zeros.
WITHOUT_GRADIENT = {"query_transformer": {"decoder.layers.0.self_attn.in_proj_weight"}}
IMAGES = ("resnet18", "densenet121")


def create(name: str, **options: Any) -> SpeakerNetwork:
    """Return a network with seeded random weights, in which no weight is 0 or 1 as at the start of training."""
    torch.manual_seed(0)
    network = create_network(name, N_FEATURES, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return network


def padded(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.zeros(len(lengths), max(lengths), N_FEATURES)
    for row, length in zip(frames, lengths, strict=True):
        row[:length] = 3 * torch.randn(length, N_FEATURES, generator=generator)
    return frames, torch.tensor(lengths)


def distance(found: Tensor, expected: Tensor) -> float:
    """Return the largest distance of two vectors (n, dim), as a share of the length of the expected one."""
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


@pytest.mark.parametrize("lengths", [[1, 2, 3, 70], [57, 64, 33, 65, 8], [120, 119], [9, 9, 9]], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_padded_batch_is_one_utterance_at_a_time(name: str, lengths: list[int]) -> None:
    network, (frames, n_frames) = create(name).eval(), padded(lengths)
    with torch.inference_mode():
        together = network(frames, n_frames)
        alone = torch.cat([network(row[None, :n], n[None]) for row, n in zip(frames, n_frames, strict=True)])
    assert together.shape == (len(lengths), network.dim)
    assert distance(together, alone) < 1e-4
    assert len({tuple(row) for row in alone.tolist()}) == len(lengths)


@pytest.mark.parametrize("name", ["conv1d", "conv2d"])
def test_normalisation_in_training_ignores_padding(name: str) -> None:
    alone, padded_network = (create(name, dropout=0.0).train() for _ in range(2))
    padded_network.load_state_dict(alone.state_dict())
    frames, n_frames = padded([40, 40, 40])
    expected = alone(frames, n_frames)
    found = padded_network(torch.nn.functional.pad(frames, (0, 0, 0, 200)), n_frames)
    assert distance(found.detach(), expected.detach()) < 1e-4
    for (key, value), other in zip(alone.state_dict().items(), padded_network.state_dict().values(), strict=True):
        torch.testing.assert_close(other, value, atol=1e-5, rtol=1e-5, msg=key)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_parameter(name: str) -> None:
    network, (frames, n_frames) = create(name).train(), padded([40, 64, 33])
    embeddings = network(frames, n_frames)
    (embeddings * torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    without = {key for key, each in network.named_parameters() if each.grad is None or not each.grad.any()}
    assert without == WITHOUT_GRADIENT.get(name, set())
    assert all(each.grad is None or torch.isfinite(each.grad).all() for each in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_eval_mode_is_deterministic(name: str) -> None:
    network, (frames, n_frames) = create(name).eval(), padded([40, 12])
    with torch.inference_mode():
        assert torch.equal(network(frames, n_frames), network(frames, n_frames))


@pytest.mark.parametrize(
    ("name", "options", "dim"),
    [
        ("bilstm", {"hidden": 5, "n_layers": 1}, 10),
        ("bilstm", {"hidden": 5, "n_layers": 2, "bidirectional": False, "pooling": "last"}, 5),
        ("query_transformer", {"width": 24, "n_heads": 3, "n_layers": 1, "feed_forward": 7}, 24),
        ("transformer", {"width": 12, "n_heads": 2, "n_layers": 1}, 12),
        ("mamba", {"width": 10, "n_layers": 1, "state_size": 3}, 10),
        ("mamba2", {"width": 10, "n_layers": 1, "state_size": 3}, 10),
        ("mamba2", {"width": 64, "n_layers": 1, "state_size": 3}, 64),
        ("conv1d", {"dropout": 0.5}, 512),
        ("conv2d", {"dropout": 0.0}, 512),
        ("resnet18", {"n_frames": 160}, 512),
        ("densenet121", {"n_frames": 32}, 1024),
    ],
)
def test_options_give_the_dimensions(name: str, options: dict[str, Any], dim: int) -> None:
    network = create(name, **options).eval()
    with torch.inference_mode():
        assert network(*padded([40, 7])).shape == (2, network.dim) == (2, dim)


def test_last_frame_of_each_utterance_is_used() -> None:
    network, (frames, n_frames) = create("bilstm", bidirectional=False, pooling="last").eval(), padded([5, 9])
    with torch.inference_mode():
        found = network(frames, n_frames)
        changed = frames.clone()
        changed[0, 4] += 1
        assert not torch.allclose(network(changed, n_frames)[0], found[0])
        lstm = network.lstm
        assert isinstance(lstm, nn.LSTM)
        assert torch.allclose(lstm(frames[1:])[0][0, 8], found[1], atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_unknown_options_are_refused_with_the_valid_ones(name: str) -> None:
    with pytest.raises(NetworkError, match=rf"The network '{name}' has no option 'colour'.*Choose one of: [a-z_]+"):
        create_network(name, N_FEATURES, colour=1)


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("log_mel", ".*n_mels.*hop, "),
        ("mfcc", ".*n_mels.*hop, "),
        ("fbank", ".*window_type, factor"),
        ("waveform", r"\. There are none"),
    ],
)
def test_unknown_options_of_front_ends_are_refused(name: str, listed: str) -> None:
    with pytest.raises(NetworkError, match=rf"The front end '{name}' has no option 'n_mel'{listed}"):
        create_front_end(name, n_mel=1)


def test_unknown_names_are_refused_with_the_valid_ones() -> None:
    with pytest.raises(NetworkError, match=r"no network 'conv'.*conv1d.*mamba2"):
        create_network("conv", N_FEATURES)
    with pytest.raises(NetworkError, match=r"no front end 'mel'.*log_mel, mfcc"):
        create_front_end("mel")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("bilstm", {"hidden": 0}, "has hidden=0; expected 1 or more"),
        ("bilstm", {"pooling": "median"}, "pooling is 'median'; choose mean or last"),
        ("bilstm", {"bidirectional": "no"}, "has bidirectional='no'; expected true or false"),
        (
            "query_transformer",
            {"width": 30},
            "n_heads is 8 and width is 30; expected heads that divide",
        ),
        ("query_transformer", {"n_layers": 0}, "has n_layers=0; expected 1 or more"),
        ("conv1d", {"dropout": 2.0}, "cannot be built: .*between 0 and 1"),
        ("conv2d", {"dropout": -1.0}, "cannot be built: .*between 0 and 1"),
        ("transformer", {"width": 31}, "width is 31; expected an even number"),
        ("transformer", {"width": 30}, "cannot be built: n_heads is 4 and width is 30; expected heads that divide"),
        ("mamba", {"state_size": 0}, "has state_size=0; expected 1 or more"),
        ("mamba", {"width": -3}, "has width=-3; expected 1 or more"),
        ("mamba2", {"width": 33}, "width is 33; expected a multiple of 32, or less"),
        ("resnet18", {"n_frames": 16}, "the image is 40 x 16; expected at least 32 x 32"),
        ("densenet121", {"n_frames": 31}, "the image is 40 x 31; expected at least 32 x 32"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NetworkError, match=rf"^The network '{name}' .*{sentence}") as refused:
        create_network(name, N_FEATURES, **options)
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_cut_or_padded_to_their_width(name: str) -> None:
    network, (frames, n_frames) = create(name, n_frames=48).eval(), padded([70, 48, 20])
    with torch.inference_mode():
        found = network(frames, n_frames)
        cut = network(frames[:1, :48], torch.tensor([48]))
        filled = network(torch.cat([frames[2:, :20], torch.zeros(1, 28, N_FEATURES)], dim=1), torch.tensor([48]))
        beyond = frames.clone()
        beyond[0, 48:] = 9.0
        assert distance(network(beyond, n_frames), found) < 1e-4
    assert distance(found[:1], cut) < 1e-4
    assert distance(found[2:], filled) < 1e-4


@pytest.mark.parametrize("n_frames", [99, 100, 149, 150, 300])
def test_windows_are_averaged_and_short_utterances_are_one_window(n_frames: int) -> None:
    network, (frames, counts) = create("bilstm", hidden=4, n_layers=1).eval(), padded([n_frames, 60])
    with torch.inference_mode():
        found = embed_frames(network, frames, counts, window=(100, 50))
        starts = range(0, max(n_frames - 100, 0) + 1, 50)
        windows = [network(frames[:1, start : start + 100][:, :n_frames], torch.tensor([min(100, n_frames)]))
                   for start in starts]  # fmt: skip
        short = network(frames[1:, :60], torch.tensor([60]))
    assert torch.allclose(found[0], torch.cat(windows).mean(0), atol=1e-6)
    assert torch.allclose(found[1], short[0], atol=1e-6)
