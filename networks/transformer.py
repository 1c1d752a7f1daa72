"""A Transformer encoder over the frames."""

import math

import torch
from torch import Tensor, nn

from networks.masking import masked_mean, valid_frames
from networks.speaker_network import SpeakerNetwork, check_heads


class Transformer(SpeakerNetwork):
    """A Transformer encoder with sinusoidal positions (Vaswani et al., 2017), and the mean over the valid frames.

    Parameters
    ----------
    n_features : int
        Number of values in a frame.
    width : int
        Size of the states, and of the embedding.
    n_heads : int
        Number of attention heads.
    n_layers : int
        Number of layers.
    dropout : float
        Share of the activations that are dropped in training.
    """

    def __init__(
        self, n_features: int, width: int = 256, n_heads: int = 4, *, n_layers: int = 3, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width is {width}; expected an even number")
        self.linear = nn.Linear(n_features, width)
        check_heads(width, n_heads)
        layer = nn.TransformerEncoderLayer(width, n_heads, 4 * width, dropout=dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)
        self.dim = width

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        states = self.linear(frames) + _positions(frames.shape[1], self.dim, frames.device)
        padding = ~valid_frames(n_frames, frames.shape[1])
        return masked_mean(self.encoder(states, src_key_padding_mask=padding), n_frames)


def _positions(n_frames: int, width: int, device: torch.device) -> Tensor:
    """Return sines and cosines of the positions (n_frames, width)."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    angles = torch.arange(n_frames, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
