"""Augmentation of training crops. Draws come from PyTorch's generator, which is seeded in each step."""

import torch
from torch import Tensor, nn

from networks import valid_frames


class SpecAugment(nn.Module):
    """Mask a band of features and a stretch of frames with the mean of the crop (Park et al., 2019).

    Parameters
    ----------
    probability : float
        Probability of each of the two masks of a crop.
    features, frames : int
        Largest widths of the masks.
    """

    def __init__(self, probability: float = 0.3, features: int = 8, frames: int = 20) -> None:
        super().__init__()
        self.probability, self.features, self.frames = probability, features, frames

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        """Return masked frames (batch, time, features); frames that are padding stay zero."""
        n_features = torch.full_like(n_frames, frames.shape[2])
        valid = valid_frames(n_frames, frames.shape[1])[..., None]
        mean = frames.sum((1, 2), keepdim=True) / (n_frames * n_features)[:, None, None]
        for masked in (
            self._draw(n_features, frames.shape[2], self.features)[:, None],
            self._draw(n_frames, frames.shape[1], self.frames)[..., None],
        ):
            frames = torch.where(masked & valid, mean, frames)
        return frames

    def _draw(self, lengths: Tensor, n_total: int, largest: int) -> Tensor:
        """Draw a stretch within each length; return a mask (batch, n_total), without a stretch for those not chosen.

        torchaudio's `mask_along_axis_iid` draws within the padded length, where a short crop would seldom be masked.
        """
        width = torch.rand(lengths.shape, device=lengths.device) * (largest + 1)
        first = torch.rand(lengths.shape, device=lengths.device) * (lengths - width).clamp(min=0)
        is_chosen = torch.rand(lengths.shape, device=lengths.device) < self.probability
        places = torch.arange(n_total, device=lengths.device)
        begin, end = first.long()[:, None], (first.long() + width.long())[:, None]
        return (begin <= places) & (places < end) & is_chosen[:, None]
