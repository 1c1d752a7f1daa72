"""The base class of networks that can be trained."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn


class SpeakerNetwork(nn.Module):
    """A network from frames to embeddings.

    Attributes
    ----------
    dim : int
        Length of an embedding.
    front_end, front_end_options : str, dict
        Default front end.
    crop_frames : int
        Default length of a crop (frames).
    window : int or None
        Default length of the windows whose embeddings are averaged (frames); None embeds whole utterances.
    training_threads : int or None
        Number of threads with which a training step is fastest on a CPU; None uses all.
    min_frames : int
        Minimum number of frames of an utterance.
    min_crop : int
        Minimum length of a crop and of a window (frames); shorter utterances are padded.
    dropouts : dict
        Dropout probabilities that follow from pretrained weights.
    """

    dim: int
    front_end: ClassVar[str] = "log_mel"
    front_end_options: ClassVar[Mapping[str, Any]] = {}
    crop_frames: ClassVar[int] = 200
    window: ClassVar[int | None] = None
    training_threads: ClassVar[int | None] = None
    min_frames: ClassVar[int] = 1
    min_crop: ClassVar[int] = 1
    dropouts: Mapping[str, float] = {}

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        """Embed a zero-padded batch, each utterance as if it were alone.

        Parameters
        ----------
        frames : Tensor (batch, time, features)
            Zero after the valid frames.
        n_frames : Tensor (batch,)
            int64, valid frames of each, at least 1.

        Returns
        -------
        Tensor (batch, dim)
        """
        raise NotImplementedError


def check_heads(width: int, n_heads: int) -> None:
    """Refuse attention heads that do not divide the width.

    Raises
    ------
    ValueError
        They do not.
    """
    if width % n_heads:
        raise ValueError(f"n_heads is {n_heads} and width is {width}; expected heads that divide the width")
