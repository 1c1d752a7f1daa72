"""Masks and means over the valid frames of a padded batch."""

import torch
from torch import Tensor


def valid_frames(n_frames: Tensor, n_total: int) -> Tensor:
    """Return a mask (batch, n_total) of the frames that are not padding."""
    return torch.arange(n_total, device=n_frames.device) < n_frames[:, None]


def masked_mean(frames: Tensor, n_frames: Tensor) -> Tensor:
    """Average the valid frames.

    Parameters
    ----------
    frames : Tensor (batch, time, dim)
    n_frames : Tensor (batch,)
        int64, valid frames of each, at least 1.

    Returns
    -------
    Tensor (batch, dim)
    """
    valid = valid_frames(n_frames, frames.shape[1])[..., None]
    return torch.where(valid, frames, 0.0).sum(1) / n_frames[:, None]
