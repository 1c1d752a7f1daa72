"""Front ends: from waveforms to frames, with the frames of each utterance as if it were alone."""

import math

import torch
from torch import Tensor
from torchaudio.functional import create_dct, melscale_fbanks

from networks.base_front_end import FrontEnd

# Frames per call of the FFT, which bounds the memory of a long recording.
BLOCK = 4096
# Least energy of a mel band; quieter bands have this energy before the logarithm.
MIN_ENERGY = 1e-10
# Sampling rates (Hz).
MIN_RATE, MAX_RATE = 1_000, 768_000


class LogMel(FrontEnd):
    """Log-mel spectrogram in decibels, as librosa computes it: slaney mels of the power spectrum, centred frames.

    Parameters
    ----------
    n_mels : int
        Number of mel bands.
    n_fft : int
        Length of a frame (samples), with a Hann window.
    hop : int
        Distance from a frame to the next (samples).
    top_db : float
        Bands more than this below the loudest band of the utterance are raised to this level (dB).
    normalize : {"none", "mean", "unit"}
        ``mean`` subtracts the mean of each band over the utterance. ``unit`` maps the range of `top_db` below the
        loudest band to 0 to 1, so that zero padding is silence.
    sample_rate : int
        Sampling rate of the waveforms (Hz).
    """

    mel: Tensor
    window: Tensor

    def __init__(
        self,
        n_mels: int = 80,
        n_fft: int = 400,
        hop: int = 160,
        *,
        top_db: float = 80.0,
        normalize: str = "mean",
        sample_rate: int = 16_000,
    ) -> None:
        super().__init__()
        if normalize not in ("none", "mean", "unit"):
            raise ValueError(f"normalize is {normalize!r}; choose none, mean or unit")
        if not (0 < n_mels <= n_fft // 2 + 1 and 0 < hop <= n_fft and top_db > 0):
            raise ValueError(
                f"n_mels is {n_mels}, n_fft is {n_fft}, hop is {hop} and top_db is {top_db:g}; expected at most "
                f"{n_fft // 2 + 1} mel bands, a hop of at most n_fft, and a positive top_db"
            )
        if not (MIN_RATE <= sample_rate <= MAX_RATE and top_db < math.inf):
            raise ValueError(
                f"sample_rate is {sample_rate} and top_db is {top_db:g}; expected {MIN_RATE:,} to {MAX_RATE:,} Hz, and "
                "a finite top_db"
            )
        self.sample_rate, self.n_fft, self.hop, self.margin = sample_rate, n_fft, hop, n_fft // 2
        self.top_db, self.normalize, self.n_features = top_db, normalize, n_mels
        mel = melscale_fbanks(n_fft // 2 + 1, 0.0, sample_rate / 2, n_mels, sample_rate, "slaney", "slaney")
        # Constants, which follow from the settings, are not persistent: persistent tensors count as weights.
        self.register_buffer("mel", mel, persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def frames(self, waveforms: Tensor, n_frames: Tensor) -> Tensor:
        # On a CPU, the frames of one utterance stay in its cache, which those of a batch do not.
        size = 1 if waveforms.device.type == "cpu" else max(len(waveforms), 1)
        parts = zip(torch.split(waveforms, size), torch.split(n_frames, size), strict=True)
        return torch.cat([self._frames(*part) for part in parts])

    def energies(self, waveforms: Tensor) -> Tensor:
        """Return the mel energies (batch, time, n_mels) of waveforms (batch, samples) that include the margin."""
        framed = waveforms.unfold(1, self.n_fft, self.hop)
        return torch.cat([self._energies(block) for block in torch.split(framed, BLOCK, dim=1)], dim=1)

    def _frames(self, waveforms: Tensor, n_frames: Tensor) -> Tensor:
        energies = self.energies(waveforms)
        is_padding = (torch.arange(energies.shape[1], device=energies.device) >= n_frames[:, None])[..., None]
        decibels = energies.masked_fill_(is_padding, 0.0).clamp_(min=MIN_ENERGY).log10_().mul_(10.0)
        loudest = decibels.amax(dim=(1, 2), keepdim=True)
        decibels = torch.maximum(decibels, loudest - self.top_db)
        if self.normalize == "unit":
            decibels.sub_(loudest).div_(self.top_db).add_(1)
        elif self.normalize == "mean":
            total = decibels.masked_fill_(is_padding, 0.0).sum(1, keepdim=True)
            decibels.sub_(total / n_frames[:, None, None])
        return self._transformed(decibels).masked_fill_(is_padding, 0.0)

    def _energies(self, frames: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(frames * self.window)
        power: Tensor = spectrum.real.square().add_(spectrum.imag.square())  # 5 times faster than abs().square()
        return torch.matmul(power, self.mel)

    def _transformed(self, decibels: Tensor) -> Tensor:
        return decibels


class Mfcc(LogMel):
    """MFCC, as librosa computes them by default: a DCT of the log-mel spectrogram, without normalisation.

    Parameters
    ----------
    n_mfcc : int
        Number of coefficients.
    n_mels, n_fft, hop, top_db, sample_rate
        As in `LogMel`.
    """

    dct: Tensor

    def __init__(
        self,
        n_mfcc: int = 40,
        n_mels: int = 128,
        n_fft: int = 2048,
        *,
        hop: int = 512,
        top_db: float = 80.0,
        sample_rate: int = 16_000,
    ) -> None:
        super().__init__(n_mels, n_fft, hop, top_db=top_db, normalize="none", sample_rate=sample_rate)
        if not 0 < n_mfcc <= n_mels:
            raise ValueError(f"n_mfcc is {n_mfcc}; expected at most n_mels, {n_mels}")
        self.n_features = n_mfcc
        self.register_buffer("dct", create_dct(n_mfcc, n_mels, norm="ortho"), persistent=False)

    def _transformed(self, decibels: Tensor) -> Tensor:
        return decibels @ self.dct
