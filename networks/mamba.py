"""Mamba and Mamba 2 over the frames: the implementations of transformers, which use the kernels where they are."""

from typing import Any

from torch import Tensor, nn
from transformers import Mamba2Config, Mamba2Model, MambaConfig, MambaModel, PreTrainedModel

from networks.masking import masked_mean
from networks.speaker_network import SpeakerNetwork

# Settings of the models of text that these are.
NO_WORDS: dict[str, Any] = {
    "vocab_size": 1,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "use_cache": False,
}


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
        return MambaModel(config)

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        states: Tensor = self.layers(inputs_embeds=self.linear(frames)).last_hidden_state
        return masked_mean(states, n_frames)


class Mamba2(Mamba):
    """Layers of Mamba 2 (Dao and Gu, 2024), and the mean over the valid frames.

    Parameters
    ----------
    n_features, width, n_layers, state_size
        As in `Mamba`. Heads have 64 channels.
    """

    def _build(self, width: int, n_layers: int, state_size: int) -> PreTrainedModel:
        head_dim = min(64, 2 * width)
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
