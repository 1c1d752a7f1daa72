"""The base class of front ends, which turn waveforms into frames."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad


class FrontEnd(nn.Module):
    """A front end: from waveforms to frames, with the frames of each utterance as if it were alone.

    Attributes
    ----------
    sample_rate : int
        Sampling rate of the waveforms (Hz).
    n_features : int
        Number of values in a frame.
    n_fft, hop : int
        Length of a frame, and distance to the next (samples).
    margin : int
        Samples of padding before the first frame centre that the frames need; after the last one, they need `n_fft`
        less these. 0 if waveforms are not padded.
    unpadded : int
        0 if waveforms are padded, so that frames are centred; otherwise `n_fft`, the samples of the first frame.
    """

    sample_rate: int
    n_features: int
    n_fft: int
    hop: int
    margin: int
    unpadded: int = 0

    def n_frames(self, n_samples: Any) -> Any:
        """Return the number of frames of waveforms with these numbers of samples, a tensor or a number."""
        return 1 + (n_samples - self.unpadded) // self.hop

    def min_samples(self, n_frames: int) -> int:
        """Return the number of samples of the shortest waveform with this number of frames, at least 1."""
        return max(self.unpadded + (n_frames - 1) * self.hop, 1)

    def forward(self, waveforms: Tensor, n_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the frames of a zero-padded batch, each utterance as if it were alone.

        Parameters
        ----------
        waveforms : Tensor (batch, samples)
        n_samples : Tensor (batch,)
            int64, valid samples of each.

        Returns
        -------
        frames : Tensor (batch, time, n_features)
            Zero after the valid frames.
        n_frames : Tensor (batch,)
            int64, valid frames of each.
        """
        n_frames = self.n_frames(n_samples)
        if not self.unpadded:
            waveforms = pad(waveforms, (self.margin, self.n_fft - self.margin))
        return self.frames(waveforms, n_frames), n_frames

    def frames(self, waveforms: Tensor, n_frames: Tensor) -> Tensor:
        """Compute frames of waveforms that include the margin on both sides, as a crop of a recording does.

        Parameters
        ----------
        waveforms : Tensor (batch, samples)
            The first frame begins with the first sample.
        n_frames : Tensor (batch,)
            int64, valid frames of each.

        Returns
        -------
        Tensor (batch, time, n_features)
            Zero after the valid frames.
        """
        raise NotImplementedError
