"""The network of silero-vad for 16 kHz, which gives the probability of speech of each 32 ms.

It computes what ``silero_vad.jit`` of silero-vad 6.2.3 does (https://github.com/snakers4/silero-vad, MIT). The names
in the state dict are those of that file, without its prefix ``_model.``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

SAMPLE_RATE = 16_000
# Length of a chunk, and of the end of the chunk before it, which is an input too (samples).
CHUNK, CONTEXT = 512, 64
N_FFT, HOP, N_BINS = 256, 128, 129
HIDDEN = 128
# Prefix of the names of the 16 kHz network in the published file, which also holds a network for 8 kHz.
PREFIX = "_model."
# Number of chunks whose frames are computed in one pass; more are slower, because they leave the cache of the CPU.
PASS = 256
# (hidden state, cell state) of the LSTM, each (1, batch, 128).
State = tuple[Tensor, Tensor]


class SileroVad(nn.Module):
    """Spectrum of each chunk of 32 ms, four convolutions, and an LSTM over the chunks.

    The part before the LSTM sees each chunk alone, so it is computed for many chunks at a time. A chunk depends on
    earlier ones only: padding at the end of a waveform does not change the chunks before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft = _Spectrum()
        sizes = [(N_BINS, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1)]  # channels in and out, stride
        self.encoder = nn.ModuleList(_Convolution(*size) for size in sizes)
        self.decoder = _Decoder()

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "SileroVad":
        """Build the network for inference from the tensors of the published file.

        Raises
        ------
        ValueError
            The tensors are not those of this network.
        """
        network = cls().eval()
        own = {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}
        try:
            network.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(" ".join(str(error).split())) from error
        return network.requires_grad_(False)

    def forward(self, waveforms: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Compute the probability of speech of each chunk.

        Parameters
        ----------
        waveforms : Tensor (batch, 64 + 512 chunks)
            At 16 kHz. The first 64 samples are those before the first chunk; zeros if it begins the recording.
        state : (Tensor, Tensor), optional
            State after the chunks before, if the waveforms continue recordings.

        Returns
        -------
        probabilities : Tensor (batch, chunks)
        state : (Tensor, Tensor)
            State after the last chunk.
        """
        chunks = waveforms.unfold(1, CONTEXT + CHUNK, CHUNK)
        batch, n_chunks = chunks.shape[:2]
        parts = torch.split(chunks.flatten(0, 1), PASS)
        features = torch.cat([self._features(part) for part in parts]).view(batch, n_chunks, HIDDEN)
        return self.decoder(features, state)  # type: ignore[no-any-return]

    def _features(self, chunks: Tensor) -> Tensor:
        """Compute the input of the LSTM (chunks, 128) from chunks with their contexts (chunks, 576)."""
        x: Tensor = self.stft(chunks)
        for layer in self.encoder:
            x = torch.relu(layer(x))
        return x[..., 0]


class _Spectrum(nn.Module):
    """Magnitudes of the short-time Fourier transform, whose basis is a tensor of the published file."""

    forward_basis_buffer: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("forward_basis_buffer", torch.zeros(2 * N_BINS, 1, N_FFT))

    def forward(self, chunks: Tensor) -> Tensor:
        """Return the magnitudes (chunks, 129, 4) of chunks (chunks, 576)."""
        frames = pad(chunks, (0, CONTEXT), mode="reflect").unfold(1, N_FFT, HOP)
        parts = frames @ self.forward_basis_buffer[:, 0].T
        magnitudes = (parts[..., :N_BINS].square() + parts[..., N_BINS:].square()).sqrt()
        return magnitudes.transpose(1, 2)


class _Convolution(nn.Module):
    """A convolution over the four frames of a chunk, under the name that the published file gives it."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.reparam_conv = nn.Conv1d(n_in, n_out, 3, stride=stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (chunks, channels, frames)."""
        convolved: Tensor = self.reparam_conv(x)
        return convolved


class _Decoder(nn.Module):
    """The LSTM over the chunks, and the layer that turns its output into probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTMCell(HIDDEN, HIDDEN)
        self.decoder = nn.Sequential(nn.Identity(), nn.ReLU(), nn.Conv1d(HIDDEN, 1, 1), nn.Sigmoid())

    def forward(self, features: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return the probabilities (batch, chunks) of features (batch, chunks, 128), and the state after them."""
        if state is None:
            zeros = features.new_zeros(1, len(features), HIDDEN)
            state = (zeros, zeros)
        weights = [self.rnn.weight_ih, self.rnn.weight_hh, self.rnn.bias_ih, self.rnn.bias_hh]
        hidden, last_hidden, last_cell = torch.lstm(
            features, state, weights,
            has_biases=True, num_layers=1, dropout=0.0, train=False, bidirectional=False, batch_first=True,
        )  # fmt: skip
        return self.decoder(hidden.transpose(1, 2))[:, 0], (last_hidden, last_cell)
