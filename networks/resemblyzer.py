"""The speaker network of Resemblyzer: an LSTM on partial utterances of 1.6 s.

The names in the state dict are those of Resemblyzer and of Real-Time-Voice-Cloning, whose checkpoints can be exchanged.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from networks.check_state import check_state
from networks.front_ends import LogMel

N_MELS, N_FFT, HOP = 40, 400, 160
HIDDEN, N_LAYERS = 256, 3
# Length of a partial utterance, and distance from the start of one to the start of the next (frames).
PARTIAL_FRAMES, PARTIAL_STEP = 160, 77
# Frames of a partial that the utterance must cover, except for the first partial: 75 %.
MIN_COVERED = 120


def n_partials(n_samples: int) -> int:
    """Return the number of partial utterances of an utterance with `n_samples` samples."""
    return 1 + max(n_samples // HOP - MIN_COVERED, 0) // PARTIAL_STEP


class PartialMels(nn.Module):
    """Mel power spectrograms of partial utterances: 40 slaney mels at 16 kHz, not logarithmic, centred frames.

    A partial that begins in the utterance and is covered to less than 75 % is left out, unless it is the only one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mels = LogMel(N_MELS, N_FFT, HOP)

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute the partials of a waveform (samples,); zeros follow its last sample.

        Returns
        -------
        Tensor (partials, 160, 40)
        """
        n_frames = (n_partials(len(waveform)) - 1) * PARTIAL_STEP + PARTIAL_FRAMES
        n_samples = (n_frames - 1) * HOP + N_FFT
        padded = pad(waveform, (N_FFT // 2, n_samples - N_FFT // 2 - len(waveform)))
        energies = self.mels.energies(padded[None])[0]
        return energies.unfold(0, PARTIAL_FRAMES, PARTIAL_STEP).transpose(1, 2)


class ResemblyzerLstm(nn.Module):
    """The LSTM of Resemblyzer (Wan et al., 2018; https://arxiv.org/abs/1710.10467): last hidden state, linear, ReLU."""

    dim = HIDDEN

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(N_MELS, HIDDEN, N_LAYERS, batch_first=True)
        self.linear = nn.Linear(HIDDEN, HIDDEN)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "ResemblyzerLstm":
        """Build a network for inference from the tensors of a checkpoint; it is in eval mode and without gradients.

        Raises
        ------
        ValueError
            The tensors are not those of this network; the message says in one phrase what is wrong.
        """
        network = cls().eval()
        check_state(state, network.state_dict())
        network.load_state_dict(dict(state))
        return network.requires_grad_(False)

    def forward(self, partials: Tensor) -> Tensor:
        """Embed partial utterances, whose lengths are equal.

        Parameters
        ----------
        partials : Tensor (partials, 160, 40)

        Returns
        -------
        Tensor (partials, 256)
            float32, non-negative, of unit length.
        """
        _, (hidden, _) = self.lstm(partials.to(next(self.lstm.parameters()).dtype))
        return normalize(torch.relu(self.linear(hidden[-1].float())), dim=1)
