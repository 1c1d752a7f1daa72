"""Mamba and Mamba 2 without kernels: their recurrences, written out in float64, and the models of transformers."""

import logging
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import MambaConfig, MambaModel

from networks import SpeakerNetwork, create_network

Floats = NDArray[np.float64]
SIZES = {"width": 12, "n_layers": 2, "state_size": 4}


def create(name: str, step: float = 0.0) -> SpeakerNetwork:
    """Return a small network whose weights are all random, and whose time steps are larger by about `step`."""
    torch.manual_seed(0)
    network = create_network(name, 6, **SIZES).eval()
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
            if key.endswith(("dt_proj.bias", "dt_bias")):
                parameter.add_(step)
    return network


def silu(x: Floats) -> Floats:
    return np.asarray(x / (1 + np.exp(-x)))


def normalised(x: Floats, weight: Floats) -> Floats:
    return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weight)


def causal_convolution(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """Filter each channel of x (time, channels) with the kernel of its own (channels, 1, size)."""
    size = weight.shape[2]
    before = np.concatenate([np.zeros((size - 1, x.shape[1])), x])
    return np.stack([(before[time : time + size] * weight[:, 0].T).sum(0) + bias for time in range(len(x))])


def mix(x: Floats, w: dict[str, Floats]) -> Floats:
    """Compute a layer of Mamba frame by frame."""
    inputs, gate = np.split(x @ w["in_proj.weight"].T, 2, axis=1)
    inputs = silu(causal_convolution(inputs, w["conv1d.weight"], w["conv1d.bias"]))
    n_states = w["A_log"].shape[1]
    steps, b, c = np.split(inputs @ w["x_proj.weight"].T, [-2 * n_states, -n_states], axis=1)
    steps = np.logaddexp(0, steps @ w["dt_proj.weight"].T + w["dt_proj.bias"])
    state, outputs = np.zeros(w["A_log"].shape), []
    for time in range(len(x)):
        decay = np.exp(-np.exp(w["A_log"]) * steps[time][:, None])
        state = decay * state + (steps[time] * inputs[time])[:, None] * b[time]
        outputs.append(state @ c[time] + w["D"] * inputs[time])
    return np.asarray((np.stack(outputs) * silu(gate)) @ w["out_proj.weight"].T)


def mix2(x: Floats, w: dict[str, Floats]) -> Floats:
    """Compute a layer of Mamba 2 frame by frame; it has one head for these sizes, and one group."""
    n_heads, inner = len(w["A_log"]), w["out_proj.weight"].shape[1]
    gate, inputs, steps = np.split(x @ w["in_proj.weight"].T, [inner, -n_heads], axis=1)
    inputs = silu(causal_convolution(inputs, w["conv1d.weight"], w["conv1d.bias"]))
    inputs, b, c = np.split(inputs, [inner, inner + (inputs.shape[1] - inner) // 2], axis=1)
    steps = np.logaddexp(0, steps + w["dt_bias"])
    heads = inputs.reshape(len(x), n_heads, -1)
    state, outputs = np.zeros((n_heads, heads.shape[2], b.shape[1])), []
    for time in range(len(x)):
        decay = np.exp(-np.exp(w["A_log"]) * steps[time])[:, None, None]
        state = decay * state + (steps[time][:, None] * heads[time])[:, :, None] * b[time]
        outputs.append((state @ c[time] + w["D"][:, None] * heads[time]).reshape(-1))
    return np.asarray(normalised(np.stack(outputs) * silu(gate), w["norm.weight"]) @ w["out_proj.weight"].T)


def reference(network: SpeakerNetwork, frames: Floats) -> Floats:
    """Compute the embedding of frames (time, features) in float64."""
    state = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    x = frames @ state["linear.weight"].T + state["linear.bias"]
    for layer in range(SIZES["n_layers"]):
        prefix = f"layers.layers.{layer}."
        own = {name.removeprefix(f"{prefix}mixer."): each for name, each in state.items() if name.startswith(prefix)}
        mixer = mix2 if "dt_bias" in own else mix
        x = x + mixer(normalised(x, own[f"{prefix}norm.weight"]), own)
    return np.asarray(normalised(x, state["layers.norm_f.weight"]).mean(0))


def noise(n_frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, n_frames, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("step", [0.0, 10.0])
@pytest.mark.parametrize("n_frames", [1, 31, 32, 33, 64, 65, 150])
@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_embedding_is_that_of_the_recurrence(name: str, n_frames: int, step: float) -> None:
    network, frames = create(name, step), noise(n_frames)
    expected = reference(network, frames[0].double().numpy())
    with torch.inference_mode():
        found = network(frames, torch.tensor([n_frames]))[0].numpy()
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)
    trained = network.train()(frames, torch.tensor([n_frames]))[0].detach().numpy()
    assert np.linalg.norm(trained - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_long_inputs_with_large_steps_stay_finite_and_exact(name: str) -> None:
    # The sum of the rates times the steps over all frames is about -1e6: its exponential is 0, the inverse infinite.
    network, frames = create(name, 200.0), 3 * noise(2000)
    found = network(frames, torch.tensor([2000]))
    found.square().sum().backward()
    assert torch.isfinite(found).all()
    assert all(torch.isfinite(each.grad).all() for each in network.parameters() if each.grad is not None)
    expected = reference(network, frames[0].double().numpy())
    assert np.linalg.norm(found[0].detach().numpy() - expected) < 1e-4 * np.linalg.norm(expected)


def test_values_and_gradients_are_those_of_transformers() -> None:
    network = create("mamba")
    layers = network.get_submodule("layers")
    config = layers.config
    assert isinstance(config, MambaConfig)
    model = MambaModel(config)
    model.set_submodule("embeddings", nn.Identity())
    model.load_state_dict(layers.state_dict())
    inputs = torch.randn(3, 70, 12, generator=torch.Generator().manual_seed(0))
    expected, found = (each(inputs_embeds=inputs).last_hidden_state for each in (model, layers))
    assert torch.allclose(found, expected, atol=1e-6)
    for outputs in (expected, found):
        outputs.square().mean().backward()
    theirs = dict(model.named_parameters())
    for name, parameter in layers.named_parameters():
        assert parameter.grad is not None
        grad = theirs[name].grad
        assert grad is not None
        assert float((parameter.grad - grad).norm()) <= 1e-4 * float(grad.norm())


def test_absent_kernels_are_not_advised_on_a_cpu(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The loggers of transformers do not propagate, and log this once in a process.
    hub = logging.getLogger("transformers.integrations.hub_kernels")
    monkeypatch.setattr(hub, "handlers", [caplog.handler])
    getattr(logging.Logger, "warning_once").cache_clear()  # noqa: B009, a method that transformers adds
    for name in ("mamba", "mamba2"):
        create(name)(noise(5), torch.tensor([5]))
    assert [record.getMessage() for record in caplog.records] == []
    hub.warning("another warning")
    assert {record.getMessage() for record in caplog.records} == {"another warning"}


def test_bf16_on_a_cpu_keeps_the_recurrence_in_fp32() -> None:
    network, frames = create("mamba"), noise(100)
    exact = network(frames, torch.tensor([100])).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(frames, torch.tensor([100]))
    found.float().square().sum().backward()
    # bfloat16 has 8 bits: a layer's products are off by 1 / 256, not by the sum over all frames.
    assert float((found.detach() - exact).norm()) < 8 / 256 * float(exact.norm())
    assert math.isfinite(float(sum(each.grad.norm() for each in network.parameters() if each.grad is not None)))
