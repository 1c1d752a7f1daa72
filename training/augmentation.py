"""Augmentation of training crops. Draws come from PyTorch's generator, which is seeded in each step."""

import math

import torch
from torch import Tensor, nn
from torchaudio.functional import mask_along_axis_iid


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
        valid = (torch.arange(frames.shape[1], device=frames.device) < n_frames[:, None])[..., None]
        mean = frames.sum((1, 2), keepdim=True) / (n_frames[:, None, None] * frames.shape[2])
        for axis, width in ((3, self.features), (2, self.frames)):
            masked = mask_along_axis_iid(frames[:, None], width + 1, math.nan, axis)[:, 0].isnan()
            chosen = torch.rand(len(frames), 1, 1, device=frames.device) < self.probability
            frames = torch.where(masked & chosen & valid, mean, frames)
        return frames
