"""Mamba and Mamba 2 over the frames: the models of transformers, which use the kernels of mamba-ssm where they are."""

import logging
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus
from torch.utils.checkpoint import checkpoint
from transformers import Mamba2Config, Mamba2Model, MambaConfig, MambaModel, PreTrainedModel
from transformers.models.mamba.modeling_mamba import MambaMixer

from networks.masking import masked_mean
from networks.speaker_network import SpeakerNetwork

logger = logging.getLogger(__name__)

# Settings of the models of text that these are.
NO_WORDS: dict[str, Any] = {
    "vocab_size": 1,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "use_cache": False,
}
# Packages with kernels for CUDA.
KERNELS = ("mamba_ssm", "causal_conv1d")
# Frames of which a training step keeps the states at the same time. It computes those of other frames again.
BLOCK = 32


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "falling back to its reference PyTorch implementation" not in record.getMessage()


# transformers advises to install kernels, with a line for each, also where there is no GPU to use them.
logging.getLogger("transformers.integrations.hub_kernels").addFilter(_is_no_advice)


@cache
def has_kernels() -> bool:
    """Return whether the kernels for CUDA are installed; if they are not, say so once."""
    absent = [name for name in KERNELS if find_spec(name) is None]
    if absent:
        logger.info("Without the packages %s, Mamba computes the same more slowly", " and ".join(absent))
    return not absent


class Mamba(SpeakerNetwork):
    """Layers of Mamba (Gu and Dao, 2023), and the mean over the valid frames.

    A layer is causal, so frames after the end of an utterance cannot reach the valid ones.

    Parameters
    ----------
    n_features : int
        Number of values in a frame.
    width : int
        Size of the states of the layers, and of the embedding.
    n_layers : int
        Number of layers.
    state_size : int
        Size of the recurrent state of each channel.
    """

    def __init__(self, n_features: int, width: int = 512, n_layers: int = 3, *, state_size: int = 32) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, width)
        self.layers = self._build(width, n_layers, state_size)
        self.layers.set_input_embeddings(nn.Identity())  # of words, which there are none
        self.dim = width

    def _build(self, width: int, n_layers: int, state_size: int) -> PreTrainedModel:
        config = MambaConfig(hidden_size=width, num_hidden_layers=n_layers, state_size=state_size, **NO_WORDS)
        model = MambaModel(config)
        for number, layer in enumerate(model.layers):
            mixer = RecurrentMixer(config, number)
            mixer.load_state_dict(layer.get_submodule("mixer").state_dict())
            layer.mixer = mixer
        return model

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        if frames.is_cuda:
            has_kernels()
        states: Tensor = self.layers(inputs_embeds=self.linear(frames)).last_hidden_state
        return masked_mean(states, n_frames)


class Mamba2(Mamba):
    """Layers of Mamba 2 (Dao and Gu, 2024), and the mean over the valid frames.

    Parameters
    ----------
    n_features, width, n_layers, state_size
        As in `Mamba`. Heads have 64 channels, so the width is a multiple of 32, or smaller.
    """

    def _build(self, width: int, n_layers: int, state_size: int) -> PreTrainedModel:
        head_dim = min(64, 2 * width)
        if 2 * width % head_dim:
            raise ValueError(f"width is {width}; expected a multiple of 32, or less")
        config = Mamba2Config(
            hidden_size=width,
            num_hidden_layers=n_layers,
            state_size=state_size,
            head_dim=head_dim,
            num_heads=2 * width // head_dim,
            n_groups=1,
            chunk_size=64,
            **NO_WORDS,
        )
        return Mamba2Model(config)


class RecurrentMixer(MambaMixer):
    """The mixer of a layer of Mamba, which computes the recurrence frame by frame where there are no kernels.

    The one of transformers keeps the decay of every state in every frame, and its gradients take a time that grows with
    the square of the number of frames: a training step on five crops of 200 frames took three minutes.
    """

    def forward(self, hidden_states: Tensor, *arguments: Any, **options: Any) -> Tensor:
        if hidden_states.is_cuda and has_kernels():
            computed: Tensor = super().forward(hidden_states, *arguments, **options)
            return computed
        inputs, gate = self.in_proj(hidden_states).chunk(2, dim=2)
        inputs = silu(self.conv1d(inputs.transpose(1, 2))[..., : inputs.shape[1]]).transpose(1, 2)
        sizes = [self.time_step_rank, self.ssm_state_size, self.ssm_state_size]
        steps, to_state, from_state = self.x_proj(inputs).split(sizes, dim=2)
        rates = -torch.exp(self.A_log.float())
        outputs = scan(inputs, softplus(self.dt_proj(steps)), rates, to_state=to_state, from_state=from_state)
        outputs = (outputs + inputs * self.D).to(inputs.dtype)
        mixed: Tensor = self.out_proj(outputs * silu(gate))
        return mixed


def scan(inputs: Tensor, steps: Tensor, rates: Tensor, *, to_state: Tensor, from_state: Tensor) -> Tensor:
    """Compute the outputs of a selective state space: ``state = exp(step rate) state + step to_state input``.

    The decays are multiplied into the state frame by frame, so nothing overflows, whatever the lengths and the steps.

    Parameters
    ----------
    inputs, steps : Tensor (batch, time, channels)
        Inputs, and time steps, which are positive.
    rates : Tensor (channels, states)
        Rates of growth, which are negative.
    to_state, from_state : Tensor (batch, time, states)
        Weights of the inputs in the state, and of the state in the outputs.

    Returns
    -------
    Tensor (batch, time, channels)
        float32.
    """
    sequences = [each.float() for each in (steps, steps.float() * inputs, to_state, from_state)]
    state = torch.zeros(len(inputs), *rates.shape, device=inputs.device)
    outputs = []
    for parts in zip(*(torch.split(each, BLOCK, dim=1) for each in sequences), strict=True):
        if torch.is_grad_enabled() and rates.requires_grad:
            # The other kind of checkpoint, which is not reentrant, takes five times as long for many small operations.
            block, state = checkpoint(_scan_block, state, rates, *parts, use_reentrant=True, preserve_rng_state=False)
        else:
            block, state = _scan_block(state, rates, *parts)
        outputs.append(block)
    return torch.cat(outputs, dim=1)


def _scan_block(state: Tensor, rates: Tensor, *sequences: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs of a block of frames (batch, time, channels), and the state after it."""
    outputs = []
    # Slices from `unbind` have gradients that are stacked once; those of an index fill all frames for each frame.
    for step, driven, to_state, from_state in zip(*(each.unbind(1) for each in sequences), strict=True):
        state = torch.exp(step[..., None] * rates) * state + driven[..., None] * to_state[:, None]
        outputs.append((state * from_state[:, None]).sum(2))  # a batched product takes three times as long
    return torch.stack(outputs, dim=1), state
