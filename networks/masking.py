"""Masks, means and deviations over the valid frames of a padded batch."""

import torch
from torch import Tensor, nn


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


def masked_statistics(frames: Tensor, n_frames: Tensor, correction: int = 0) -> Tensor:
    """Return the mean and the standard deviation of the valid frames, concatenated.

    Parameters
    ----------
    frames : Tensor (batch, time, dim)
    n_frames : Tensor (batch,)
        int64, valid frames of each, more than `correction`.
    correction : int
        Number that is subtracted from the number of frames for the variance: 1 for the unbiased one.

    Returns
    -------
    Tensor (batch, 2 dim)
    """
    mean = masked_mean(frames, n_frames)
    valid = valid_frames(n_frames, frames.shape[1])[..., None]
    variance = torch.where(valid, frames - mean[:, None], 0.0).square().sum(1)
    variance = variance / (n_frames[:, None] - correction)
    return torch.cat([mean, root(variance)], dim=1)


def root(x: Tensor) -> Tensor:
    """Return the square root, with the gradient 0 at 0, where that of `torch.sqrt` is infinite."""
    is_positive = x > 0
    return torch.where(is_positive, torch.where(is_positive, x, 1.0).sqrt(), 0.0)


def normalize_valid(norm: nn.Module, x: Tensor, valid: Tensor) -> Tensor:
    """Apply batch normalisation whose statistics, in training, are those of the valid frames alone.

    Parameters
    ----------
    norm : BatchNorm1d or BatchNorm2d
    x : Tensor (batch, channels, time) or (batch, channels, time, features)
    valid : Tensor (batch, time)
        Mask of the frames that are not padding; the others become zero in training.
    """
    if not norm.training or bool(valid.all()):
        normalized: Tensor = norm(x)
        return normalized
    channels_last = x.movedim(1, -1)
    rows = channels_last[valid]
    flat = norm(rows.reshape(-1, rows.shape[-1], *[1] * (x.ndim - 2)))
    filled = torch.zeros_like(channels_last)
    filled[valid] = flat.reshape(rows.shape).to(filled.dtype)
    return filled.movedim(-1, 1)
