"""The LSTM of wq2012's "speaker recognition from scratch"."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from networks.masking import masked_mean
from networks.speaker_network import SpeakerNetwork

# Maximum number of different lengths that are computed one after another: the gradient of a packed batch takes several
# times as long on a CPU.
MAX_LENGTHS = 4


class BiLstm(SpeakerNetwork):
    """An LSTM over the frames, and the mean of its outputs or the last one. The names of its tensors are the published.

    Parameters
    ----------
    n_features : int
        Number of values in a frame.
    hidden : int
        Size of the hidden state in each direction.
    n_layers : int
        Number of layers.
    bidirectional : bool
        Whether there is a second LSTM from the end to the start.
    pooling : {"mean", "last"}
        ``mean`` averages the outputs over the valid frames; ``last`` takes the output of the last valid frame.
    """

    front_end, crop_frames, window = "mfcc", 100, 100
    training_threads = 1  # its products are small, and each waits for the one before

    def __init__(
        self,
        n_features: int,
        hidden: int = 64,
        n_layers: int = 3,
        *,
        bidirectional: bool = True,
        pooling: str = "mean",
    ) -> None:
        super().__init__()
        if pooling not in ("mean", "last"):
            raise ValueError(f"pooling is {pooling!r}; choose mean or last")
        self.lstm = nn.LSTM(n_features, hidden, n_layers, batch_first=True, bidirectional=bidirectional)
        self.pooling, self.dim = pooling, hidden * (1 + bidirectional)

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        lengths = sorted(set(n_frames.tolist()))
        if len(lengths) <= MAX_LENGTHS:
            outputs: Tensor = frames.new_zeros((frames.shape[0], frames.shape[1], self.dim))
            for length in lengths:
                rows = n_frames == length
                outputs[rows, :length] = self.lstm(frames[rows, :length])[0].to(outputs.dtype)
        else:
            packed = pack_padded_sequence(frames, n_frames.cpu(), batch_first=True, enforce_sorted=False)
            outputs = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]
        if self.pooling == "mean":
            return masked_mean(outputs, n_frames)
        rows = torch.arange(len(outputs), device=outputs.device)
        last: Tensor = outputs[rows, n_frames - 1]
        return last
