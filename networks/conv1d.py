"""A network of convolutions over time."""

from torch import Tensor, nn

from networks.masking import masked_mean, normalize_valid, valid_frames
from networks.speaker_network import SpeakerNetwork

# Channels, kernel size and stride of each block.
BLOCKS = ((128, 5, 1), (256, 5, 2), (512, 3, 1), (512, 3, 1))


class Conv1d(SpeakerNetwork):
    """Four blocks of a convolution over time, batch normalisation and ReLU, and the mean over the valid frames.

    Padding cannot reach the valid frames: it is set to zero after each block, as a convolution does at the end of an
    utterance that is alone, and the normalisation ignores it.

    Parameters
    ----------
    n_features : int
        Number of values in a frame.
    dropout : float
        Share of the channels that are dropped before the mean, in training.
    """

    dim = BLOCKS[-1][0]

    def __init__(self, n_features: int, dropout: float = 0.1) -> None:
        super().__init__()
        channels = (n_features, *(block[0] for block in BLOCKS))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False),
                nn.BatchNorm1d(after),
                nn.ReLU(inplace=True),
            )
            for before, (after, kernel, stride) in zip(channels, BLOCKS, strict=False)
        )
        self.strides = tuple(stride for _, _, stride in BLOCKS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        x = frames.transpose(1, 2)
        for block, stride in zip(self.blocks, self.strides, strict=True):
            convolution, norm, activation = block.children()
            x = convolution(x)
            n_frames = (n_frames - 1) // stride + 1
            valid = valid_frames(n_frames, x.shape[2])
            x = activation(normalize_valid(norm, x, valid)) * valid[:, None]
        return masked_mean(self.dropout(x.transpose(1, 2)), n_frames)
