"""The base class of networks that can be trained."""

from torch import Tensor, nn


class SpeakerNetwork(nn.Module):
    """A network from frames to embeddings.

    Attributes
    ----------
    dim : int
        Length of an embedding.
    """

    dim: int

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
