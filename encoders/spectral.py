"""A baseline without weights: statistics of MFCC over an utterance."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchaudio.functional import create_dct, melscale_fbanks

from encoders.base import Encoder, EncoderError
from encoders.device import single_thread
from encoders.spec import Spec

SAMPLE_RATE = 16_000
N_FFT = 512
WINDOW = 400  # 25 ms
HOP = 160  # 10 ms
LOWEST, HIGHEST = 20.0, 7600.0  # Hz
# Added to the mel energies of an utterance of unit power before the logarithm.
FLOOR = 1e-6
# Frames transformed at a time: all of 10 s at once takes 3 times as long, most of it in the kernel, handing out memory.
BLOCK = 256
# Keeps digital near-silence from being divided by zero; far under the power of one quantisation step of 16 bits.
SMALLEST_POWER = 1e-10


@dataclass(frozen=True)
class SpectralOptions:
    """The composition, chosen by measurement (``benchmarks/spectral_composition.py``)."""

    n_mels: int = 64
    """Mel bands."""
    n_mfcc: int = 40
    """Cepstral coefficients, C0 included, whose mean and standard deviation are taken."""
    n_delta: int = 20
    """Coefficients, from C0 on, of whose deltas the standard deviation is taken."""


class SpectralEncoder(Encoder):
    """Mean and standard deviation of MFCC, and standard deviation of their deltas, over an utterance.

    A deterministic baseline: it hears the long-term colour of a voice and of its microphone and room alike, so it does
    well within a session and much less well across sessions.

    Each utterance is scaled to unit power, so that its level does not count. The frames (25 ms, every 10 ms, without
    padding) become slaney mel energies, their logarithms, MFCC by an orthonormal DCT (Davis and Mermelstein, 1980), and
    deltas by regression over five frames. Shorter than a frame, an utterance is padded to one; under about 0.5 s
    its deviations are not to be relied on.
    """

    Options = SpectralOptions
    mel: Tensor
    dct: Tensor
    window: Tensor

    def __init__(self, spec: Spec, weights: str | Path | None = None) -> None:
        super().__init__(spec)
        options = SpectralOptions(**spec["options"])
        mel = melscale_fbanks(N_FFT // 2 + 1, LOWEST, HIGHEST, options.n_mels, SAMPLE_RATE, mel_scale="slaney")
        margin = (N_FFT - WINDOW) // 2
        self.n_delta = options.n_delta
        self.register_buffer("mel", mel)
        self.register_buffer("dct", create_dct(options.n_mfcc, options.n_mels, norm="ortho"))
        self.register_buffer("window", torch.nn.functional.pad(torch.hann_window(WINDOW), (margin, margin)))

    @classmethod
    def describe(cls, weights: str | Path | None, options: SpectralOptions) -> Spec:
        if weights is not None:
            raise EncoderError(f"The encoder 'spectral' has no weights; leave --encoder_weights {weights} out.")
        if not 1 <= options.n_mfcc <= options.n_mels or not 0 <= options.n_delta <= options.n_mfcc:
            raise EncoderError(f"The options are {options}; expected 1 <= n_mfcc <= n_mels and 0 <= n_delta <= n_mfcc.")
        return {
            "name": "spectral",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            "dim": 2 * options.n_mfcc + options.n_delta,
            "layers": [],
            "weights": None,
            "options": asdict(options),
        }

    def encode(self, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
        with single_thread():
            return super().encode(waveforms, batch_size)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        coefficients, n_frames = self._mfcc(waveforms, lengths)
        mean, deviation = _masked_statistics(coefficients, n_frames)
        some = coefficients[..., : self.n_delta]
        if some.shape[1] < 5:
            return torch.cat([mean, deviation, some.new_zeros(len(some), self.n_delta)], dim=1)
        deltas = (2 * (some[:, 4:] - some[:, :-4]) + some[:, 3:-1] - some[:, 1:-3]) / 10
        return torch.cat([mean, deviation, _masked_statistics(deltas, n_frames - 4)[1]], dim=1)

    def _mfcc(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return MFCC (batch, frames, n_mfcc), and how many frames of each utterance lie within it (batch,)."""
        if waveforms.shape[1] < N_FFT:
            waveforms = torch.nn.functional.pad(waveforms, (0, N_FFT - waveforms.shape[1]))
        power = waveforms.square().sum(1) / lengths  # padding is zero, and adds nothing
        # The transform of torch.stft(center=False), framed as (batch, frames, n_fft): nothing has to be transposed.
        frames = waveforms.unfold(1, N_FFT, HOP)
        energies = torch.cat([self._mel_energies(block) for block in torch.split(frames, BLOCK, dim=1)], dim=1)
        scaled = energies / power.clamp_min(SMALLEST_POWER)[:, None, None]
        n_frames = 1 + (lengths - N_FFT).clamp_min(0) // HOP
        return (scaled + FLOOR).log() @ self.dct, n_frames

    def _mel_energies(self, frames: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(frames * self.window)
        power: Tensor = spectrum.real.square().add_(spectrum.imag.square())  # 5 times faster than abs().square()
        return torch.matmul(power, self.mel)


def _masked_statistics(frames: Tensor, n_valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and population standard deviation (batch, dim) over the valid frames; zero if there are none."""
    valid = (torch.arange(frames.shape[1], device=frames.device) < n_valid[:, None])[..., None]
    count = n_valid.clamp_min(1)[:, None]
    mean = torch.where(valid, frames, 0).sum(1) / count
    variance = torch.where(valid, frames - mean[:, None], 0).square().sum(1) / count
    return mean, variance.sqrt()
