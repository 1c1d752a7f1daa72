"""Embed frames at once, or as the mean over windows."""

from collections.abc import Callable

import torch
from torch import Tensor

# Number of windows per call of the network.
BLOCK_WINDOWS = 256


def embed_frames(
    network: Callable[[Tensor, Tensor], Tensor],
    frames: Tensor,
    n_frames: Tensor,
    *,
    window: tuple[int, int] | None,
) -> Tensor:
    """Embed utterances at once, or as the mean of the embeddings of their windows.

    Parameters
    ----------
    network : callable
        Network from frames to embeddings.
    frames : Tensor (batch, time, features)
        Zero after the valid frames.
    n_frames : Tensor (batch,)
        int64, valid frames of each.
    window : (int, int) or None
        Length and step of the windows (frames). The first window begins with the first frame, and a window that would
        end after the last frame is left out, unless it is the first.

    Returns
    -------
    Tensor (batch, dim)
    """
    if window is None:
        return network(frames, n_frames)
    size, step = window
    means = []
    for row, count in zip(frames, n_frames.tolist(), strict=True):
        windows = row[None, :count] if count <= size else row[:count].unfold(0, size, step).transpose(1, 2)
        blocks = [
            network(block, block.new_full((len(block),), block.shape[1], dtype=torch.int64))
            for block in torch.split(windows, BLOCK_WINDOWS)
        ]
        means.append(torch.cat(blocks).mean(0))
    return torch.stack(means)
