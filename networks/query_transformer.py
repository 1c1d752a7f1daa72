"""The Transformer of wq2012's "speaker recognition from scratch"."""

import torch
from torch import Tensor, nn

from networks.masking import valid_frames
from networks.speaker_network import SpeakerNetwork, check_heads


class QueryTransformer(SpeakerNetwork):
    """A Transformer encoder over the frames, and a decoder that turns one zero query into the embedding.

    There is no encoding of positions, so the order of the frames has no effect. The names of its tensors are the
    published.

    Parameters
    ----------
    n_features : int
        Number of values in a frame.
    width : int
        Size of the states, and of the embedding.
    n_heads : int
        Number of attention heads.
    n_layers : int
        Number of layers of the encoder; the decoder has one.
    feed_forward : int
        Size of the hidden layer within each layer.
    dropout : float
        Share of the activations that are dropped in training.
    """

    front_end, crop_frames, window = "mfcc", 100, 100

    def __init__(
        self,
        n_features: int,
        width: int = 32,
        n_heads: int = 8,
        *,
        n_layers: int = 2,
        feed_forward: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.linear_layer = nn.Linear(n_features, width)
        check_heads(width, n_heads)
        layer = nn.TransformerEncoderLayer(width, n_heads, feed_forward, dropout=dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)
        last = nn.TransformerDecoderLayer(width, n_heads, feed_forward, dropout=dropout, batch_first=True)
        self.decoder = nn.TransformerDecoder(last, 1)
        self.dim = width

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        padding = ~valid_frames(n_frames, frames.shape[1])
        states = self.encoder(torch.sigmoid(self.linear_layer(frames)), src_key_padding_mask=padding)
        query = frames.new_zeros(len(frames), 1, self.dim)
        output: Tensor = self.decoder(query, states, memory_key_padding_mask=padding)
        return output[:, 0]
