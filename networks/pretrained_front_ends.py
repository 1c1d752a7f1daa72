"""Front ends of pretrained networks: the samples themselves, and log-mel spectrograms of Kaldi and SpeechBrain."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from torchaudio.compliance.kaldi import fbank

from networks.base_front_end import FrontEnd
from networks.front_ends import LogMel
from networks.masking import valid_frames

SAMPLE_RATE = 16_000
KALDI_WINDOWS = ("povey", "hamming")


class Waveform(FrontEnd):
    """The samples at 16 kHz; each sample is a frame of one value."""

    def __init__(self) -> None:
        super().__init__()
        self.sample_rate, self.n_features = SAMPLE_RATE, 1
        self.n_fft = self.hop = self.unpadded = 1
        self.margin = 0

    def frames(self, waveforms: Tensor, n_frames: Tensor) -> Tensor:
        return torch.where(valid_frames(n_frames, waveforms.shape[1]), waveforms, 0.0)[..., None]


class KaldiFbank(FrontEnd):
    """Log-mel spectrogram as Kaldi computes it, at 16 kHz: 80 bands, frames of 25 ms every 10 ms, without padding.

    The mean of each band over the utterance is subtracted.

    Parameters
    ----------
    window_type : {"povey", "hamming"}
        Window of a frame.
    factor : float
        Factor of the samples, which matters where the energy is at Kaldi's floor.
    """

    def __init__(self, window_type: str = "povey", factor: float = 1.0) -> None:
        super().__init__()
        if window_type not in KALDI_WINDOWS:
            raise ValueError(f"window_type is {window_type!r}; choose povey or hamming")
        self.window_type, self.factor = window_type, factor
        self.sample_rate, self.n_features = SAMPLE_RATE, 80
        self.n_fft, self.hop = 400, 160
        self.margin, self.unpadded = 0, self.n_fft

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """Return the spectrogram of a waveform (samples,) minus its mean over time (frames, 80)."""
        mels = fbank(
            self.factor * waveform[None],
            num_mel_bins=self.n_features,
            sample_frequency=self.sample_rate,
            dither=0.0,
            window_type=self.window_type,
        )
        centred: Tensor = mels - mels.mean(0)
        return centred

    def frames(self, waveforms: Tensor, n_frames: Tensor) -> Tensor:
        lengths = ((n_frames - 1) * self.hop + self.n_fft).tolist()
        found = [self.spectrogram(wave[:length]) for wave, length in zip(waveforms, lengths, strict=True)]
        total = 1 + (waveforms.shape[1] - self.n_fft) // self.hop
        frames = pad_sequence(found, batch_first=True)
        return pad(frames, (0, 0, 0, total - frames.shape[1]))


class SpeechBrainFbank(LogMel):
    """Log-mel spectrogram as SpeechBrain computes it, at 16 kHz: 80 bands, centred frames of 25 ms every 10 ms.

    Frames have a Hamming window. The bands are triangles from 0 to 8,000 Hz on the scale of HTK, each symmetric in Hz.
    Bands more than 80 dB below the loudest band of the utterance are raised to this level, and the mean of each band
    over the utterance is subtracted.
    """

    def __init__(self) -> None:
        super().__init__(n_mels=80, n_fft=400, hop=160, top_db=80.0, normalize="mean", sample_rate=SAMPLE_RATE)
        self.register_buffer("mel", symmetric_mel_bands(self.n_features, self.n_fft, SAMPLE_RATE), persistent=False)
        self.register_buffer("window", torch.hamming_window(self.n_fft), persistent=False)


def symmetric_mel_bands(n_mels: int, n_fft: int, sample_rate: int) -> Tensor:
    """Return the bands of SpeechBrain (frequencies, n_mels): the distance to the lower neighbour is half the width."""
    highest = 2595 * math.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, highest, n_mels + 2) / 2595) - 1)
    centres, half_widths = corners[1:-1], corners.diff()[:-1]
    frequencies = torch.linspace(0, sample_rate // 2, n_fft // 2 + 1)
    return (1 - ((frequencies[:, None] - centres) / half_widths).abs()).clamp_min(0)
