"""A network of convolutions over time and frequency."""

from torch import Tensor, nn

from networks.masking import masked_mean, normalize_valid, valid_frames
from networks.speaker_network import SpeakerNetwork

CHANNELS = (64, 128, 256, 512)


class Conv2d(SpeakerNetwork):
    """Four blocks of a 3 x 3 convolution with stride 2, batch normalisation and ReLU, and the mean over both axes.

    Frames after the end of an utterance are set to zero after each block, and the normalisation ignores them, so they
    cannot reach the valid ones.

    Parameters
    ----------
    n_features : int
        Number of values in a frame.
    dropout : float
        Share of the channels that are dropped before the mean, in training.
    """

    dim = CHANNELS[-1]

    def __init__(self, n_features: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            )
            for before, after in zip((1, *CHANNELS), CHANNELS, strict=False)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        x = frames[:, None]
        for block in self.blocks:
            convolution, norm, activation = block.children()
            x = convolution(x)
            n_frames = (n_frames - 1) // 2 + 1
            valid = valid_frames(n_frames, x.shape[2])
            x = activation(normalize_valid(norm, x, valid)) * valid[:, None, :, None]
        return masked_mean(self.dropout(x.mean(3).transpose(1, 2)), n_frames)
