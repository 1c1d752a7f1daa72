"""The `spectral` encoder: statistics of MFCC over an utterance, a baseline without weights."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchaudio.functional import create_dct, melscale_fbanks

from encoders.base import CPU, Encoder, EncoderError
from encoders.spec import Spec
from networks import single_thread

SAMPLE_RATE = 16_000
N_FFT = 512
WINDOW = 400  # 25 ms
HOP = 160  # 10 ms
MIN_FREQUENCY, MAX_FREQUENCY = 20.0, 7600.0  # Hz
# Added to the mel energies of an utterance of unit power before the logarithm.
FLOOR = 1e-6
# Frames per FFT call. All frames of 10 s in one call take 3 times as long, mostly for the allocation of memory.
BLOCK = 256
# Lower bound of an utterance's power, against division by zero; far below one quantisation step of 16 bits.
MIN_POWER = 1e-10


@dataclass(frozen=True)
class SpectralOptions:
    """Options of `spectral`; the defaults were selected by measurement (``benchmarks/spectral_composition.py``)."""

    n_mels: int = 64
    """Number of mel bands."""
    n_mfcc: int = 40
    """Number of cepstral coefficients, C0 included; their mean and standard deviation are used."""
    n_delta: int = 20
    """Number of coefficients, from C0 on, whose deltas are used (their standard deviation)."""


class SpectralEncoder(Encoder):
    """Mean and standard deviation of MFCC, and standard deviation of their deltas, over an utterance.

    This is a deterministic baseline. It describes the average spectrum of voice, microphone and room together, so it
    works well within a session and much worse across sessions.

    Each utterance is scaled to unit power, so that its level has no effect. Frames (25 ms, every 10 ms, without
    padding) are turned into slaney mel energies, logarithms, MFCC with an orthonormal DCT (Davis and Mermelstein,
    1980), and deltas with a regression over five frames. An utterance shorter than a frame is padded to one frame. The
    deviations of utterances shorter than about 0.5 s are not reliable.
    """

    Options = SpectralOptions
    mel: Tensor
    dct: Tensor
    window: Tensor

    def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
        super().__init__(spec, weights, device)
        options = SpectralOptions(**spec["options"])
        mel = melscale_fbanks(
            N_FFT // 2 + 1, MIN_FREQUENCY, MAX_FREQUENCY, options.n_mels, SAMPLE_RATE, mel_scale="slaney"
        )
        margin = (N_FFT - WINDOW) // 2
        self.n_delta = options.n_delta
        window = torch.nn.functional.pad(torch.hann_window(WINDOW), (margin, margin))
        # Constants, which follow from the options, are not persistent: persistent tensors count as weights.
        self.register_buffer("mel", mel, persistent=False)
        self.register_buffer("dct", create_dct(options.n_mfcc, options.n_mels, norm="ortho"), persistent=False)
        self.register_buffer("window", window, persistent=False)

    @classmethod
    def describe(cls, weights: str | Path | None, options: SpectralOptions) -> Spec:
        if weights is not None:
            raise EncoderError(f"The encoder 'spectral' has no weights; remove --encoder_weights {weights}.")
        if not 1 <= options.n_mfcc <= options.n_mels <= N_FFT // 2 + 1 or not 0 <= options.n_delta <= options.n_mfcc:
            raise EncoderError(
                f"n_mels is {options.n_mels}, n_mfcc is {options.n_mfcc} and n_delta is {options.n_delta}; expected "
                f"1 <= n_mfcc <= n_mels <= {N_FFT // 2 + 1} and 0 <= n_delta <= n_mfcc."
            )
        return {
            "name": "spectral",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            "dim": 2 * options.n_mfcc + options.n_delta,
            "layers": [],
            "weights": None,
            "trained_on": [],
            "options": asdict(options),
        }

    def encode(self, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
        with single_thread():
            return super().encode(waveforms, batch_size)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        coefficients, n_frames = self._mfcc(waveforms, lengths)
        mean, deviation = _masked_statistics(coefficients, n_frames)
        first = coefficients[..., : self.n_delta]
        if first.shape[1] < 5:
            return torch.cat([mean, deviation, first.new_zeros(len(first), self.n_delta)], dim=1)
        deltas = (2 * (first[:, 4:] - first[:, :-4]) + first[:, 3:-1] - first[:, 1:-3]) / 10
        return torch.cat([mean, deviation, _masked_statistics(deltas, n_frames - 4)[1]], dim=1)

    def _mfcc(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return MFCC (batch, frames, n_mfcc) and the number of valid frames of each utterance (batch,)."""
        if waveforms.shape[1] < N_FFT:
            waveforms = torch.nn.functional.pad(waveforms, (0, N_FFT - waveforms.shape[1]))
        power = waveforms.square().sum(1) / lengths  # padding is zero
        # As torch.stft(center=False), but with frames of shape (batch, frames, n_fft), which need no transposition.
        frames = waveforms.unfold(1, N_FFT, HOP)
        energies = torch.cat([self._mel_energies(block) for block in torch.split(frames, BLOCK, dim=1)], dim=1)
        scaled = energies / power.clamp_min(MIN_POWER)[:, None, None]
        n_frames = 1 + (lengths - N_FFT).clamp_min(0) // HOP
        return (scaled + FLOOR).log() @ self.dct, n_frames

    def _mel_energies(self, frames: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(frames * self.window)
        power: Tensor = spectrum.real.square().add_(spectrum.imag.square())  # 5 times faster than abs().square()
        return torch.matmul(power, self.mel)


def _masked_statistics(frames: Tensor, n_valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and population standard deviation (batch, dim) over the valid frames; zeros if there are none."""
    valid = (torch.arange(frames.shape[1], device=frames.device) < n_valid[:, None])[..., None]
    count = n_valid.clamp_min(1)[:, None]
    mean = torch.where(valid, frames, 0).sum(1) / count
    variance = torch.where(valid, frames - mean[:, None], 0).square().sum(1) / count
    return mean, variance.sqrt()
